//! `tradelane pki`: a development authority for each trust domain, its certificates and its revocation list. It keeps keys in plain
//! files and is never for production; a node reads what it writes like any other certificates.

use std::{error::Error, io::Write, path::PathBuf};

use chrono::{DateTime, SecondsFormat};
use clap::{Args, Subcommand};

use serde_json::json;

use super::{
    ExitCode, Failure,
    answer::{Answer, OutputFlag},
};
use crate::{
    clock::{Clock, SystemClock},
    domain::{SpiffeId, TrustDomain},
    identity::dev_pki::{DevPki, Issued, PkiError},
};

#[cfg(test)]
mod tests;

const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// The longest life that can be asked for: as long as the authority itself lives.
const DAYS_MAX: i64 = 3_650;

/// Where the authorities' directories lie, and how to show what was done.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The directory that holds one directory per trust domain.
    #[arg(long, default_value = "pki", value_name = "DIRECTORY")]
    pub dir: PathBuf,
    /// How to show it.
    #[command(flatten)]
    pub output: OutputFlag,
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
        place: Place,
    },
    /// Issue a certificate to a participant, or with --node to a node. A key is made with it and kept beside it.
    #[command(after_help = "Examples:\n  tradelane pki issue spiffe://customs.gov.pk/agency/karachi\n  \
                            tradelane pki issue spiffe://exchange.gov.pk/node/khi-1 --node --host localhost \\\n    \
                            --host khi-1.exchange.gov.pk")]
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
        place: Place,
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
        place: Place,
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
        place: Place,
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
    let (place, answer) = match command {
        PkiCommand::Init { domain, place } => (place, init(&DevPki::create(&place.dir, domain, now_ns)?, domain)),
        PkiCommand::Issue { id, node, hosts, days, place } => {
            let mut pki = open(place, id.trust_domain())?;
            let life_ns = days * DAY_NS;
            let issued = if *node {
                pki.issue_node(id, hosts, now_ns, life_ns)?
            } else {
                pki.issue_participant(id, now_ns, life_ns)?
            };
            (place, issue(&issued, id))
        }
        PkiCommand::Revoke { which, domain, place } => {
            let domain = match (domain, SpiffeId::parse(which)) {
                (Some(domain), _) => domain.as_str().to_owned(),
                (None, Ok(id)) => id.trust_domain().to_owned(),
                (None, Err(_)) => {
                    return Err(Failure::usage("a serial number needs --domain: whose authority issued it"));
                }
            };
            let mut pki = open(place, &domain)?;
            let serials = pki.revoke(which, now_ns)?;
            let list = pki.write_crl(now_ns, crate::identity::dev_pki::CRL_LIFE_NS)?;
            let mut lines: Vec<_> = serials.iter().map(|serial| format!("revoked: serial {serial}")).collect();
            let closes = "(a node that reads it closes the live connections)";
            lines.push(format!("revocation list: {} {closes}", list.display()));
            (place, Answer { lines, document: json!({ "revokedSerials": serials, "crlFile": list }) })
        }
        PkiCommand::Crl { domain, days, place } => {
            let list = open(place, domain.as_str())?.write_crl(now_ns, days * DAY_NS)?;
            let lines = vec![format!("revocation list: {}", list.display())];
            (place, Answer { lines, document: json!({ "crlFile": list }) })
        }
    };
    Ok(answer.write(place.output.output, out)?)
}

fn init(pki: &DevPki, domain: &TrustDomain) -> Answer {
    let (bundle, list) = (pki.bundle_file(), pki.crl_file());
    Answer {
        lines: vec![
            format!("authority of {domain}: {}", bundle.display()),
            format!("revocation list: {}", list.display()),
        ],
        document: json!({ "trustDomain": domain.as_str(), "bundleFile": bundle, "crlFile": list }),
    }
}

fn issue(issued: &Issued, id: &SpiffeId) -> Answer {
    let until = DateTime::from_timestamp_nanos(issued.not_after_ns).to_rfc3339_opts(SecondsFormat::Secs, true);
    Answer {
        lines: vec![
            format!("{id}, serial {}, until {until}", issued.serial),
            format!("certificate: {}", issued.certificate_file.display()),
            format!("private key: {}", issued.key_file.display()),
        ],
        document: json!({
            "id": id.as_str(),
            "serial": issued.serial,
            "notAfterTime": until,
            "certificateFile": issued.certificate_file,
            "keyFile": issued.key_file,
        }),
    }
}

fn open(place: &Place, domain: &str) -> Result<DevPki, Failure> {
    let domain = TrustDomain::parse(domain).map_err(|why| Failure::usage(format!("{domain:?} {why}")))?;
    Ok(DevPki::open(&place.dir, &domain)?)
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
