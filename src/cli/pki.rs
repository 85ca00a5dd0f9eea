//! `tradelane pki`: a development authority for each trust domain, its certificates and its revocation list. It keeps keys in plain
//! files and is never for production; a node reads what it writes like any other certificates.

use std::{error::Error, io::Write, path::PathBuf};

use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand};

use super::{ExitCode, Failure};
use crate::{
    clock::{Clock, SystemClock},
    domain::{SpiffeId, TrustDomain},
    identity::dev_pki::{DevPki, PkiError},
};

#[cfg(test)]
mod tests;

const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// The longest life that can be asked for: as long as the authority itself lives.
const DAYS_MAX: i64 = 3_650;

/// Where the authorities' directories lie.
#[derive(Debug, Clone, Args)]
pub struct Directory {
    /// The directory that holds one directory per trust domain.
    #[arg(long, default_value = "pki", value_name = "DIRECTORY")]
    pub dir: PathBuf,
}

/// What to do with a development authority.
#[derive(Debug, Clone, Subcommand)]
pub enum PkiCommand {
    /// Make the authority of a trust domain, with an empty revocation list.
    #[command(
        after_help = "Examples:\n  tradelane pki init customs.gov.pk\n  tradelane pki init exchange.gov.pk --dir /tmp/pki"
    )]
    Init {
        /// The trust domain: the host part of its participants' SPIFFE IDs.
        #[arg(value_name = "TRUST-DOMAIN", value_parser = domain_argument)]
        domain: TrustDomain,
        /// Where.
        #[command(flatten)]
        directory: Directory,
    },
    /// Issue a certificate to a participant, or with --node to a node. A key is made with it and kept beside it.
    #[command(after_help = "Examples:\n  tradelane pki issue spiffe://customs.gov.pk/agency/karachi\n  \
                            tradelane pki issue spiffe://exchange.gov.pk/node/khi-1 --node --host localhost --host khi-1.exchange.gov.pk")]
    Issue {
        /// The name that the certificate proves.
        #[arg(value_name = "SPIFFE-ID", value_parser = id_argument)]
        id: SpiffeId,
        /// A node's certificate: for a server, with host names that clients check.
        #[arg(long, requires = "hosts")]
        node: bool,
        /// A host name or address of the node; may be given again.
        #[arg(long = "host", value_name = "NAME", requires = "node")]
        hosts: Vec<String>,
        /// How many days it is valid.
        #[arg(long, default_value_t = 365, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
        days: i64,
        /// Where.
        #[command(flatten)]
        directory: Directory,
    },
    /// Revoke every certificate of a name, or the one with a serial number, and write the revocation list anew.
    #[command(after_help = "Examples:\n  tradelane pki revoke spiffe://customs.gov.pk/agency/karachi\n  \
                            tradelane pki revoke 3f9c2a77 --domain customs.gov.pk")]
    Revoke {
        /// A SPIFFE ID, or a serial number in hexadecimal.
        #[arg(value_name = "SPIFFE-ID|SERIAL")]
        which: String,
        /// The trust domain, where a serial number is given.
        #[arg(long, value_name = "TRUST-DOMAIN", value_parser = domain_argument)]
        domain: Option<TrustDomain>,
        /// Where.
        #[command(flatten)]
        directory: Directory,
    },
    /// Write the revocation list of a trust domain anew: a list that has ended refuses its whole domain.
    #[command(
        after_help = "Examples:\n  tradelane pki crl customs.gov.pk\n  tradelane pki crl customs.gov.pk --days 7"
    )]
    Crl {
        /// The trust domain.
        #[arg(value_name = "TRUST-DOMAIN", value_parser = domain_argument)]
        domain: TrustDomain,
        /// How many days the list counts.
        #[arg(long, default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
        days: i64,
        /// Where.
        #[command(flatten)]
        directory: Directory,
    },
}

/// Runs `tradelane pki`.
///
/// # Errors
/// What is asked for cannot be done, or a file cannot be written.
pub fn run(command: &PkiCommand, out: &mut impl Write) -> Result<(), Failure> {
    run_at(command, SystemClock.now_ns(), out)
}

fn run_at(command: &PkiCommand, now_ns: i64, out: &mut impl Write) -> Result<(), Failure> {
    match command {
        PkiCommand::Init { domain, directory } => {
            let pki = DevPki::create(&directory.dir, domain, now_ns)?;
            writeln!(out, "authority of {domain}: {}", pki.bundle_file().display())?;
            writeln!(out, "revocation list: {}", pki.crl_file().display())?;
        }
        PkiCommand::Issue { id, node, hosts, days, directory } => {
            let mut pki = open(directory, id.trust_domain())?;
            let life_ns = days * DAY_NS;
            let issued = if *node {
                pki.issue_node(id, hosts, now_ns, life_ns)?
            } else {
                pki.issue_participant(id, now_ns, life_ns)?
            };
            let not_after = DateTime::from_timestamp_nanos(issued.not_after_ns);
            writeln!(
                out,
                "{id}, serial {}, until {}",
                issued.serial,
                not_after.to_rfc3339_opts(SecondsFormat::Secs, true)
            )?;
            writeln!(out, "certificate: {}", issued.certificate_file.display())?;
            writeln!(out, "private key: {}", issued.key_file.display())?;
        }
        PkiCommand::Revoke { which, domain, directory } => {
            let domain = match (domain, SpiffeId::parse(which)) {
                (Some(domain), _) => domain.as_str().to_owned(),
                (None, Ok(id)) => id.trust_domain().to_owned(),
                (None, Err(_)) => {
                    return Err(Failure::usage("a serial number needs --domain: whose authority issued it"));
                }
            };
            let mut pki = open(directory, &domain)?;
            for serial in pki.revoke(which, now_ns)? {
                writeln!(out, "revoked: serial {serial}")?;
            }
            let list = pki.write_crl(now_ns, crate::identity::dev_pki::CRL_LIFE_NS)?;
            writeln!(out, "revocation list: {} (a node that reads it closes the live connections)", list.display())?;
        }
        PkiCommand::Crl { domain, days, directory } => {
            let list = open(directory, domain.as_str())?.write_crl(now_ns, days * DAY_NS)?;
            writeln!(out, "revocation list: {}", list.display())?;
        }
    }
    Ok(())
}

fn open(directory: &Directory, domain: &str) -> Result<DevPki, Failure> {
    let domain = TrustDomain::parse(domain).map_err(|why| Failure::usage(format!("{domain:?} {why}")))?;
    Ok(DevPki::open(&directory.dir, &domain)?)
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        let code = match &error {
            PkiError::Exists(_)
            | PkiError::Missing(_)
            | PkiError::ForeignName { .. }
            | PkiError::NameTaken { .. }
            | PkiError::NothingToRevoke(_)
            | PkiError::HostName(_) => ExitCode::Usage,
            PkiError::Index { .. } => ExitCode::Data,
            PkiError::File { .. } => ExitCode::Storage,
            PkiError::Make(_) | PkiError::ReadBack(_) => ExitCode::Failure,
        };
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        Self::new(code, words)
    }
}

fn domain_argument(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(text).map_err(|why| why.to_string())
}

fn id_argument(text: &str) -> Result<SpiffeId, String> {
    SpiffeId::parse(text).map_err(|why| why.to_string())
}
