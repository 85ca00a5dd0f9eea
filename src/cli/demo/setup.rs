//! The demonstration's exchange: a development PKI of five administrations, a node's configuration, its trust and its grants, a client
//! profile for each participant, and the node next to it. Everything is a real file that `tradelane serve` would read too; it never writes into a directory that
//! holds something else.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::neighbour::{self, Neighbour};
use crate::{
    cli::{ExitCode, Failure, connect::NodeAddress},
    domain::SpiffeId,
    identity::dev_pki::{CERTIFICATE_LIFE_NS, DevPki, PkiError},
};

/// The node.
pub const NODE: &str = "spiffe://exchange.gov.pk/node/khi-1";
/// Who operates it.
pub const OPERATOR: &str = "spiffe://exchange.gov.pk/desk/operator";
/// The container terminal.
pub const TERMINAL: &str = "spiffe://port.karachi.pk/terminal/kict";
/// The customs agency.
pub const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";
/// The ocean carrier.
pub const CARRIER: &str = "spiffe://ocean-line.example/line/oceu";
/// The importer's broker.
pub const BROKER: &str = "spiffe://indus-brokers.pk/broker/khi";

/// Whom the demonstration has, with the name of each one's profile.
const MEMBERS: [(&str, &str); 5] =
    [("operator", OPERATOR), ("terminal", TERMINAL), ("customs", CUSTOMS), ("carrier", CARRIER), ("broker", BROKER)];

/// The grants, as an operator would write them.
const POLICY: &str = r#"# Who may do what at this node: the only source of access.

[[grant]]
id = "operators"
who = ["spiffe://exchange.gov.pk/desk/*"]
actions = ["operate", "audit", "read"]
all = true

[[grant]]
id = "terminal-publishes"
who = ["spiffe://port.karachi.pk/terminal/*"]
actions = ["publish"]
filters = [{ types = ["movement", "handling"], places = [{ un_locode = "PKKHI" }] }]

[[grant]]
id = "customs-publishes"
who = ["spiffe://customs.gov.pk/agency/*"]
actions = ["publish"]
filters = [{ types = ["clearance", "hold", "inspection"], places = [{ country_code = "PK" }] }]

[[grant]]
id = "carriers-publish"
who = ["spiffe://ocean-line.example/line/*"]
actions = ["publish", "share"]
filters = [{ types = ["movement", "association", "document"] }]

# Terminal and customs see what concerns Pakistan; everybody sees the consignments in which she is named.
[[grant]]
id = "pakistan"
who = ["spiffe://customs.gov.pk/*", "spiffe://port.karachi.pk/*"]
actions = ["read"]
filters = [{ places = [{ country_code = "PK" }] }]

[[grant]]
id = "parties"
who = ["spiffe://ocean-line.example/*", "spiffe://indus-brokers.pk/*"]
actions = ["read"]
filters = [{ parties = [{ participant = "$caller" }] }]
"#;

/// The files of the demonstration.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where everything is.
    pub directory: PathBuf,
    /// The node's configuration.
    pub config_file: PathBuf,
    /// The authority that vouches for the node.
    pub ca_file: PathBuf,
    /// The other node.
    pub neighbour: Neighbour,
    members: Vec<Member>,
}

/// A participant's files.
#[derive(Debug, Clone)]
pub struct Member {
    /// Her name in the demonstration: `customs`.
    pub name: &'static str,
    /// Her certificate.
    pub certificate_file: PathBuf,
    /// Her private key.
    pub key_file: PathBuf,
    /// Her client profile.
    pub profile_file: PathBuf,
}

impl Setup {
    /// Makes everything below a directory that is empty or not there yet.
    ///
    /// # Errors
    /// The directory holds something, or a file cannot be written.
    pub fn create(directory: &Path, now_ns: i64) -> Result<Self, Failure> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| Failure::file("write", &path, &error)
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let directory = directory.canonicalize().map_err(failed(directory))?;
        if fs::read_dir(&directory).map_err(failed(&directory))?.next().is_some() {
            let words = format!("{} is not empty; the demonstration wants a directory of its own", directory.display());
            return Err(Failure::new(ExitCode::Usage, words));
        }
        let pki = Pki { root: directory.join("pki"), now_ns };
        let node = pki.node(NODE)?;
        // Its authority has to be there before the trust file that recognises it is read.
        let neighbour = Neighbour::create(&directory, now_ns)?;
        let mut members = Vec::new();
        for (name, id) in MEMBERS {
            members.push(pki.member(name, id, directory.join(format!("{name}.toml")))?);
        }
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(failed(&path))
        };
        write("policy.toml", &[POLICY, neighbour::AGREEMENT].concat())?;
        let mut recognised: Vec<String> = homes();
        recognised.push("exchange.cl".to_owned());
        write("trust.toml", &trust(&recognised.iter().map(String::as_str).collect::<Vec<_>>(), "pki"))?;
        write("peers.toml", &neighbour::peers_file_before())?;
        write("node.toml", &configuration(&node))?;
        let config_file = directory.join("node.toml");
        Ok(Self { config_file, ca_file: node.authority, members, directory, neighbour })
    }

    /// Writes the client profiles, once the node's address is known.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_profiles(&self, address: &NodeAddress) -> Result<(), Failure> {
        for member in &self.members {
            let text = profile(member, &self.ca_file, address, NODE);
            fs::write(&member.profile_file, text)
                .map_err(|error| Failure::file("write", &member.profile_file, &error))?;
        }
        Ok(())
    }

    /// A participant by her name in the demonstration.
    ///
    /// # Panics
    /// There is nobody of that name: names are written in this program.
    #[must_use]
    pub fn member(&self, name: &str) -> &Member {
        self.members.iter().find(|member| member.name == name).expect("the name is one of the demonstration's")
    }
}

/// Makes authorities and certificates below a folder.
pub(in crate::cli) struct Pki {
    pub(in crate::cli) root: PathBuf,
    pub(in crate::cli) now_ns: i64,
}

/// A node's certificate and who vouches for it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct NodeFiles {
    pub(in crate::cli) certificate: PathBuf,
    pub(in crate::cli) key: PathBuf,
    pub(in crate::cli) authority: PathBuf,
}

impl Pki {
    pub(in crate::cli) fn node(&self, id: &str) -> Result<NodeFiles, Failure> {
        let id = known(id);
        let mut domain = self.domain(&id)?;
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let issued =
            domain.issue_node(&id, &hosts, self.now_ns, CERTIFICATE_LIFE_NS).map_err(|error| pki_failure(&error))?;
        Ok(NodeFiles { certificate: issued.certificate_file, key: issued.key_file, authority: domain.bundle_file() })
    }

    pub(in crate::cli) fn member(
        &self,
        name: &'static str,
        id: &str,
        profile_file: PathBuf,
    ) -> Result<Member, Failure> {
        let id = known(id);
        let mut domain = self.domain(&id)?;
        let issued =
            domain.issue_participant(&id, self.now_ns, CERTIFICATE_LIFE_NS).map_err(|error| pki_failure(&error))?;
        Ok(Member { name, certificate_file: issued.certificate_file, key_file: issued.key_file, profile_file })
    }

    /// The authority of a name's domain, made where it is not there yet.
    fn domain(&self, id: &SpiffeId) -> Result<DevPki, Failure> {
        let domain = id.trust_domain().parse().expect("a SPIFFE ID has a trust domain");
        match DevPki::open(&self.root, &domain) {
            Err(PkiError::Missing(_)) => {
                DevPki::create(&self.root, &domain, self.now_ns).map_err(|error| pki_failure(&error))
            }
            opened => opened.map_err(|error| pki_failure(&error)),
        }
    }
}

/// A name that is written in this program.
pub(in crate::cli) fn known(id: &str) -> SpiffeId {
    SpiffeId::parse(id).expect("the demonstration's names are well formed")
}

fn pki_failure(error: &PkiError) -> Failure {
    use std::error::Error as _;
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(ExitCode::Storage, format!("cannot make the demonstration's certificates: {error}{cause}"))
}

/// The trust domains of the members: those at home at Karachi.
pub(super) fn homes() -> Vec<String> {
    let mut domains: Vec<_> = MEMBERS.iter().map(|(_, id)| known(id).trust_domain().to_owned()).collect();
    domains.sort();
    domains.dedup();
    domains
}

/// The trust file: recognising an administration is one table. `pki` is where the authorities are, from the file's folder.
pub(in crate::cli) fn trust(domains: &[&str], pki: &str) -> String {
    let tables = domains.iter().map(|domain| {
        format!(
            "[[domain]]\nname = \"{domain}\"\nbundle_file = \"{pki}/{domain}/ca.pem\"\ncrl_files = [\"{pki}/{domain}/crl.pem\"]\n"
        )
    });
    let head = "# Whose authorities this node believes: each for its own trust domain, never for another.\n".to_owned();
    std::iter::once(head).chain(tables).collect::<Vec<_>>().join("\n")
}

/// A node's settings.
pub(in crate::cli) fn configuration(node: &NodeFiles) -> String {
    format!(
        "# The node of the demonstration; `tradelane config show --config` names every other setting.\n[node]\ndata_dir = \"data\"\n\n\
         [listen]\naddress = \"127.0.0.1:0\"\noperations_address = \"127.0.0.1:0\"\n\n[identity]\ncertificate_file = {}\n\
         private_key_file = {}\ntrust_file = \"trust.toml\"\npolicy_file = \"policy.toml\"\npeers_file = \"peers.toml\"\n",
        toml_text(&node.certificate),
        toml_text(&node.key)
    )
}

/// A client profile of a participant for a node.
pub(in crate::cli) fn profile(member: &Member, ca_file: &Path, address: &NodeAddress, node: &str) -> String {
    format!(
        "# Client settings for --profile, or TRADELANE_PROFILE.\naddress = \"{address}\"\ncert = {}\nkey = {}\nca = {}\nserver_id = \
         \"{node}\"\n",
        toml_text(&member.certificate_file),
        toml_text(&member.key_file),
        toml_text(ca_file)
    )
}

/// A path as a TOML string, whatever characters it has.
fn toml_text(path: &Path) -> String {
    toml::Value::String(path.to_string_lossy().into_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};

    /// Far from the ends of every certificate.
    const NOW_NS: i64 = 1_795_478_400_000_000_000;

    #[test]
    fn the_files_are_what_a_node_and_a_client_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a \"quoted\" place");
        let setup = Setup::create(&root, NOW_NS).unwrap();
        let layers = Layers { file: Some(setup.config_file.clone()), ..Layers::default() };
        let (config, _) = Config::load(&layers).unwrap();
        assert!(config.identity.private_key_file.exists() && config.identity.trust_file.exists());
        setup.write_profiles(&"127.0.0.1:7443".parse().unwrap()).unwrap();
        let profile = setup.member("customs").profile_file.to_str().unwrap().to_owned();
        let flags = crate::cli::settings::ClientFlags { profile: Some(profile), ..Default::default() };
        assert_eq!(flags.settings().unwrap().own_id().unwrap().to_string(), CUSTOMS);
    }

    #[test]
    fn a_directory_in_use_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.txt"), "").unwrap();
        let failure = Setup::create(directory.path(), NOW_NS).unwrap_err();
        assert!(failure.message.contains("is not empty"), "{failure}");
    }
}
