//! The exchange that is measured: a node and one participant with a development PKI, made as the demonstration makes its own, and a second
//! node that takes from it. Everything is a real file that `tradelane serve` reads; it never writes into a directory that holds something
//! else.

use std::{
    fs, io,
    net::SocketAddr,
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
/// The node that takes from it.
const PEER: &str = "spiffe://other-exchange.example/node/bench";
const POLICY: &str = r#"[[grant]]
id = "everything"
who = ["spiffe://port-community.example/*"]
actions = ["publish", "share", "read"]
all = true
"#;
/// The agreement with the other node.
const AGREEMENT: &str = r#"
[[grant]]
id = "forward"
who = ["spiffe://other-exchange.example/node/*"]
actions = ["forward"]
all = true
"#;

/// The files of the exchange.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where everything is.
    pub directory: PathBuf,
    /// The node's configuration.
    pub config_file: PathBuf,
    /// Its name.
    name: &'static str,
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
        if directory.exists() {
            return Err(Failure::new(ExitCode::Usage, format!("{} is there already", directory.display())));
        }
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let directory = directory.canonicalize().map_err(failed(directory))?;
        let pki = Pki { root: directory.join("pki"), now_ns };
        let node = pki.node(NODE)?;
        let participant = pki.member("pcs", PUBLISHER, directory.join("pcs.toml"))?;
        let participant_authority = pki.root.join(known(PUBLISHER).trust_domain()).join("ca.pem");
        let exchange = Self {
            config_file: directory.join("node.toml"),
            name: NODE,
            node,
            participant,
            participant_authority,
            directory,
        };
        exchange.write("policy.toml", POLICY)?;
        exchange.write("trust.toml", &trusted(&[NODE, PUBLISHER], "pki"))?;
        exchange.write("peers.toml", "")?;
        exchange.write("node.toml", &configuration(&exchange.node))?;
        Ok(exchange)
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

    /// Makes a second node that everything may go to, and has this one know it when it starts next. Whence the second takes is said later.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn with_peer(&self, now_ns: i64) -> Result<Self, Failure> {
        let directory = self.directory.join("peer");
        fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let pki = Pki { root: self.directory.join("pki"), now_ns };
        let node = pki.node(PEER)?;
        let participant = Member { profile_file: directory.join("pcs.toml"), ..self.participant.clone() };
        let all = [NODE, PUBLISHER, PEER];
        self.write("policy.toml", &[POLICY, AGREEMENT].concat())?;
        self.write("trust.toml", &trusted(&all, "pki"))?;
        self.write("peers.toml", &peers_file(&domains(&[NODE, PUBLISHER]), PEER, &domains(&[PEER]), None))?;
        let config_file = directory.join("node.toml");
        let participant_authority = self.participant_authority.clone();
        let peer = Self { config_file, name: PEER, node, participant, participant_authority, directory };
        peer.write("policy.toml", POLICY)?;
        peer.write("trust.toml", &trusted(&all, "../pki"))?;
        peer.write("node.toml", &configuration(&peer.node))?;
        Ok(peer)
    }

    /// Has the second node take from the first, which listens at this address.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn take_from(&self, address: SocketAddr) -> Result<(), Failure> {
        let text = peers_file(&domains(&[PEER]), NODE, &domains(&[NODE, PUBLISHER]), Some(address));
        self.write("peers.toml", &text)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(failed(&path))
    }

    /// Writes the participant's profile for a server at this address, and names it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn profile(&self, address: &NodeAddress) -> Result<String, Failure> {
        let path = &self.participant.profile_file;
        fs::write(path, profile(&self.participant, &self.node.authority, address, self.name))
            .map_err(|error| Failure::file("write", path, &error))?;
        Ok(path.to_string_lossy().into_owned())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::file("write", &path, &error)
}

fn domains(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| known(id).trust_domain().to_owned()).collect()
}

fn trusted(ids: &[&str], pki: &str) -> String {
    trust(&domains(ids).iter().map(String::as_str).collect::<Vec<_>>(), pki)
}

/// A peers file with one peer.
fn peers_file(homes: &[String], peer: &str, homes_there: &[String], address: Option<SocketAddr>) -> String {
    let address = address.map(|address| format!("address = \"{address}\"\n")).unwrap_or_default();
    format!("homes = {homes:?}\n\n[[peer]]\nnode = {peer:?}\n{address}homes = {homes_there:?}\n")
}
