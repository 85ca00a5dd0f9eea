//! The exchange that is measured: a node and one participant with a development PKI, made as the demonstration makes its own. Everything is
//! a real file that `tradelane serve` reads; it never writes into a directory that holds something else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::scenario::PUBLISHER;
use crate::cli::{
    ExitCode, Failure,
    connect::NodeAddress,
    demo::setup::{Member, NodeFiles, Pki, configuration, known, profile, trust},
};

const NODE: &str = "spiffe://exchange.example/node/bench";
const POLICY: &str = r#"[[grant]]
id = "everything"
who = ["spiffe://port-community.example/*"]
actions = ["publish", "share", "read"]
all = true
"#;

/// The files of the exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where everything is.
    pub directory: PathBuf,
    /// The node's configuration.
    pub config_file: PathBuf,
    node: NodeFiles,
    participant: Member,
    participant_authority: PathBuf,
}

impl Exchange {
    /// Makes everything in a new directory.
    ///
    /// # Errors
    /// The directory is there already, or a file cannot be written.
    pub fn create(directory: &Path, now_ns: i64) -> Result<Self, Failure> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| Failure::file("write", &path, &error)
        };
        if directory.exists() {
            return Err(Failure::new(ExitCode::Usage, format!("{} is there already", directory.display())));
        }
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let directory = directory.canonicalize().map_err(failed(directory))?;
        let pki = Pki { root: directory.join("pki"), now_ns };
        let node = pki.node(NODE)?;
        let participant = pki.member("pcs", PUBLISHER, directory.join("pcs.toml"))?;
        let domains = [NODE, PUBLISHER].map(|id| known(id).trust_domain().to_owned());
        let trusted = trust(&domains.each_ref().map(String::as_str), "pki");
        let files = [
            ("policy.toml", POLICY.to_owned()),
            ("trust.toml", trusted),
            ("peers.toml", String::new()),
            ("node.toml", configuration(&node)),
        ];
        for (name, text) in files {
            let path = directory.join(name);
            fs::write(&path, text).map_err(failed(&path))?;
        }
        let participant_authority = pki.root.join(known(PUBLISHER).trust_domain()).join("ca.pem");
        Ok(Self { config_file: directory.join("node.toml"), node, participant, participant_authority, directory })
    }

    /// Where everything is that another program needs to serve, or to call, with the same certificates.
    #[must_use]
    pub fn files(&self) -> Value {
        json!({
            "config": self.config_file,
            "server_certificate": self.node.certificate,
            "server_key": self.node.key,
            "server_authority": self.node.authority,
            "client_certificate": self.participant.certificate_file,
            "client_key": self.participant.key_file,
            "client_authority": self.participant_authority,
        })
    }

    /// Writes the participant's profile for a server at this address, and names it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn profile(&self, address: &NodeAddress) -> Result<String, Failure> {
        let path = &self.participant.profile_file;
        fs::write(path, profile(&self.participant, &self.node.authority, address, NODE))
            .map_err(|error| Failure::file("write", path, &error))?;
        Ok(path.to_string_lossy().into_owned())
    }
}
