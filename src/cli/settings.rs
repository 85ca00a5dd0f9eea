//! The client's settings: from flags, else the environment, else a profile file. It never looks anywhere else, and never at a node's
//! configuration.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{
    ffi::OsString,
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde::Deserialize;
use tonic::transport::Channel;

use super::{
    ExitCode, Failure,
    connect::{ConnectOptions, Credentials, ExpectedServer, NodeAddress, Pem, connect, uri_names_of},
    terminal::OutputFormat,
};
use crate::domain::SpiffeId;

#[cfg(test)]
mod tests;

/// The profile that is used where none is named and its file exists.
const PROFILE_DEFAULT: &str = "default";
/// A call that is not a stream may take this long.
const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The flags that every client command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection (each also TRADELANE_... in the environment, or a key of the profile file)")]
pub struct ClientFlags {
    /// Where the node listens: host:port.
    #[arg(long, short = 'a', env = "TRADELANE_ADDRESS", value_name = "HOST:PORT", hide_env = true)]
    pub address: Option<String>,
    /// Our certificate in PEM, with its intermediates after it.
    #[arg(long, env = "TRADELANE_CERT", value_name = "FILE", hide_env = true)]
    pub cert: Option<PathBuf>,
    /// Our private key in PEM.
    #[arg(long, env = "TRADELANE_KEY", value_name = "FILE", hide_env = true)]
    pub key: Option<PathBuf>,
    /// The authorities that vouch for the node, in PEM.
    #[arg(long, env = "TRADELANE_CA", value_name = "FILE", hide_env = true)]
    pub ca: Option<PathBuf>,
    /// The SPIFFE ID that the node must prove. Without it and --server-name: the host of the address must be a name in its certificate.
    #[arg(
        long,
        env = "TRADELANE_SERVER_ID",
        value_name = "SPIFFE-ID",
        hide_env = true,
        conflicts_with = "server_name"
    )]
    pub server_id: Option<String>,
    /// The DNS name that the node must prove, where it is not the host of the address.
    #[arg(long, env = "TRADELANE_SERVER_NAME", value_name = "NAME", hide_env = true)]
    pub server_name: Option<String>,
    /// How long a call may take, in seconds (streams have no limit) [default: 30]
    #[arg(long, env = "TRADELANE_TIMEOUT", value_name = "SECONDS", hide_env = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// A profile file (TOML: address, cert, key, ca, server_id, server_name, timeout, output), or the name of one in
    /// ~/.config/tradelane/. "default" is used where it exists.
    #[arg(long, short = 'p', env = "TRADELANE_PROFILE", value_name = "FILE|NAME", hide_env = true)]
    pub profile: Option<String>,
    /// How to show what comes: tables for people, json or jsonl (one document a line) for programs [default: table]
    #[arg(long, short = 'o', env = "TRADELANE_OUTPUT", value_name = "FORMAT", hide_env = true)]
    pub output: Option<OutputFormat>,
}

/// What a profile file may say. Paths are relative to the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    address: Option<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    server_id: Option<String>,
    server_name: Option<String>,
    timeout: Option<NonZeroU32>,
    output: Option<OutputFormat>,
}

/// The settings of one command.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// How to reach the node.
    pub connect: ConnectOptions,
    /// The longest that a call other than a stream may take.
    pub call_timeout: Duration,
    /// How to show what comes.
    pub output: OutputFormat,
}

impl ClientFlags {
    /// The settings from these flags (clap has filled in the environment), the profile and the defaults.
    ///
    /// # Errors
    /// A setting is missing or malformed, or the profile cannot be read.
    pub fn settings(&self) -> Result<ClientSettings, Failure> {
        let profile = self.profile()?;
        self.settings_over(profile)
    }

    /// How to show things, for commands that need no node.
    ///
    /// # Errors
    /// The profile cannot be read.
    pub fn output(&self) -> Result<OutputFormat, Failure> {
        let profile = self.profile()?;
        Ok(self.output.or(profile.output).unwrap_or_default())
    }

    fn settings_over(&self, profile: Profile) -> Result<ClientSettings, Failure> {
        let address = self
            .address
            .clone()
            .or(profile.address)
            .ok_or_else(|| missing("the node's address", "address", "HOST:PORT"))?;
        let address: NodeAddress = address.parse().map_err(|error| {
            Failure::new(ExitCode::Configuration, format!("the node's address {address:?} {error}"))
        })?;
        let certificate =
            self.cert.clone().or(profile.cert).ok_or_else(|| missing("a client certificate", "cert", "FILE"))?;
        let key =
            self.key.clone().or(profile.key).ok_or_else(|| missing("the certificate's private key", "key", "FILE"))?;
        let authorities = self
            .ca
            .clone()
            .or(profile.ca)
            .ok_or_else(|| missing("the authorities that vouch for the node", "ca", "FILE"))?;
        // A name given closer by hides both names of the profile: they are two ways to say one thing.
        let (server_id, server_name) = if self.server_id.is_some() || self.server_name.is_some() {
            (self.server_id.clone(), self.server_name.clone())
        } else {
            (profile.server_id, profile.server_name)
        };
        let expected_server = match (server_id, server_name) {
            (None, None) => ExpectedServer::AddressHost,
            (None, Some(name)) => ExpectedServer::Name(name),
            (Some(id), None) => ExpectedServer::Id(SpiffeId::parse(&id).map_err(|error| {
                Failure::new(ExitCode::Configuration, format!("the node's SPIFFE ID {id:?} {error}"))
            })?),
            (Some(_), Some(_)) => {
                let words = "the node is named twice, by server_id and by server_name; keep one of them";
                return Err(Failure::new(ExitCode::Configuration, words));
            }
        };
        let credentials = Credentials {
            authorities: Pem::File(authorities),
            certificate: Pem::File(certificate),
            key: Pem::File(key),
        };
        Ok(ClientSettings {
            connect: ConnectOptions { address, credentials, expected_server },
            call_timeout: self
                .timeout
                .or(profile.timeout.map(NonZeroU32::get))
                .map_or(CALL_TIMEOUT_DEFAULT, |seconds| Duration::from_secs(u64::from(seconds))),
            output: self.output.or(profile.output).unwrap_or_default(),
        })
    }

    fn profile(&self) -> Result<Profile, Failure> {
        let directory = profile_directory(|name| std::env::var_os(name));
        let path = match &self.profile {
            Some(named) => profile_path(named, directory.as_deref())?,
            None => match directory.map(|directory| directory.join(format!("{PROFILE_DEFAULT}.toml"))) {
                Some(path) if path.exists() => path,
                _ => return Ok(Profile::default()),
            },
        };
        read_profile(&path).map_err(|error| Failure::new(ExitCode::Configuration, error))
    }
}

impl ClientSettings {
    /// Opens a connection.
    ///
    /// # Errors
    /// The credentials are unusable, or the node cannot be reached or is not the expected one.
    pub async fn channel(&self) -> Result<Channel, Failure> {
        Ok(connect(&self.connect).await?)
    }

    /// A request with the time limit of calls that are not streams.
    pub fn call<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.call_timeout);
        request
    }

    /// Who we are: the one URI name of our certificate.
    ///
    /// # Errors
    /// The certificate cannot be read, or does not have exactly one SPIFFE ID.
    pub fn own_id(&self) -> Result<SpiffeId, Failure> {
        let names = uri_names_of(&self.connect.credentials.certificate)?;
        match names.as_slice() {
            [name] => SpiffeId::parse(name).map_err(|error| {
                Failure::new(ExitCode::Configuration, format!("the URI name {name:?} of our certificate {error}"))
            }),
            [] => Err(Failure::new(
                ExitCode::Configuration,
                "our certificate has no URI name, so it names no participant",
            )),
            _ => Err(Failure::new(
                ExitCode::Configuration,
                "our certificate has several URI names; a participant's has exactly one",
            )),
        }
    }
}

fn missing(what: &str, key: &str, value: &str) -> Failure {
    let variable = key.to_ascii_uppercase();
    let words = format!(
        "{what} is missing: give --{key} {value}, set TRADELANE_{variable}, or write {key} into a profile (--profile)"
    );
    Failure::new(ExitCode::Configuration, words)
}

/// `$XDG_CONFIG_HOME/tradelane`, else `~/.config/tradelane`.
fn profile_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = given("XDG_CONFIG_HOME").or_else(|| Some(given("HOME")?.join(".config")))?;
    Some(base.join("tradelane"))
}

/// A name without a slash or `.toml` stands in the profile directory; anything else is a path.
fn profile_path(named: &str, directory: Option<&Path>) -> Result<PathBuf, Failure> {
    let is_path = named.contains('/') || Path::new(named).extension().is_some_and(|extension| extension == "toml");
    match directory {
        _ if is_path => Ok(named.into()),
        Some(directory) => Ok(directory.join(format!("{named}.toml"))),
        None => {
            let words = format!(
                "the profile {named:?} cannot be found: neither XDG_CONFIG_HOME nor HOME is set; give its path"
            );
            Err(Failure::new(ExitCode::Configuration, words))
        }
    }
}

fn read_profile(path: &Path) -> Result<Profile, String> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no profile file {}", path.display()),
        _ => format!("cannot read the profile {}: {error}", path.display()),
    })?;
    let mut profile: Profile =
        toml::from_str(&text).map_err(|error| format!("the profile {} is malformed:\n{error}", path.display()))?;
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    for file in [&mut profile.cert, &mut profile.key, &mut profile.ca].into_iter().flatten() {
        *file = directory.join(&*file);
    }
    Ok(profile)
}
