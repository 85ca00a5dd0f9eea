//! Several nodes that know each other: each with an authority, certificates, grants, a peers file and an address of its own, as files that
//! `tradelane serve` reads. It never starts one.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::pki::id;
use crate::{
    config::{Config, Layers},
    domain::{SpiffeId, TrustDomain},
    identity::dev_pki::{CERTIFICATE_LIFE_NS, DevPki, Issued},
};

/// Where ports for nodes are looked for: below 32,768, where Linux begins with those that it gives out.
const PORTS: Range<u16> = 12_000..32_000;

/// The files of one node.
#[derive(Debug, Clone)]
pub struct Site {
    /// The node's letter: `a` has the domain `a.example`.
    pub letter: char,
    /// Its SPIFFE ID.
    pub node: SpiffeId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its folder.
    pub folder: PathBuf,
    /// The authority of its domain.
    pub bundle_file: PathBuf,
    /// The node's own certificate.
    pub node_certificate: Issued,
    /// Who operates it, and reads everything there.
    pub operator: Issued,
    /// Who publishes there.
    pub terminal: Issued,
}

/// One entry of a peers file.
#[derive(Debug, Clone)]
pub struct PeerEntry {
    /// Which node.
    pub letter: char,
    /// The trust domains said to live there, beside its own.
    pub homes: Vec<String>,
    /// The nodes behind it.
    pub behind: Vec<char>,
    /// Whether it is given transit.
    pub transit: bool,
    /// Whether it is dialled.
    pub dialled: bool,
}

impl PeerEntry {
    /// A node with its own domain at home, dialled.
    #[must_use]
    pub const fn plain(letter: char) -> Self {
        Self { letter, homes: Vec::new(), behind: Vec::new(), transit: false, dialled: true }
    }
}

/// Makes the files of several nodes below a folder; all recognise each other's domains, and each file of peers names all others. Every
/// node forwards everything to every other.
///
/// # Panics
/// A file cannot be written, or the system gives no port: these are tests.
#[must_use]
pub fn create(root: &Path, letters: &[char], now_ns: i64) -> BTreeMap<char, Site> {
    let addresses = letters.iter().map(|letter| (*letter, free_address(IpAddr::V4(Ipv4Addr::LOCALHOST)))).collect();
    create_at(root, &addresses, now_ns)
}

/// As [`create`], at these addresses.
///
/// # Panics
/// As for [`create`].
#[must_use]
pub fn create_at(root: &Path, addresses: &BTreeMap<char, SocketAddr>, now_ns: i64) -> BTreeMap<char, Site> {
    let mut sites = BTreeMap::new();
    for (letter, address) in addresses {
        let domain = TrustDomain::parse(&format!("{letter}.example")).expect("a good name");
        let mut pki = DevPki::create(root, &domain, now_ns).expect("an authority");
        let node = id(&format!("spiffe://{letter}.example/node/1"));
        let hosts = ["localhost".to_owned(), address.ip().to_string()];
        let node_certificate = pki.issue_node(&node, &hosts, now_ns, CERTIFICATE_LIFE_NS).expect("a certificate");
        let mut participant = |name: &str| {
            let id = id(&format!("spiffe://{letter}.example/{name}/1"));
            pki.issue_participant(&id, now_ns, CERTIFICATE_LIFE_NS).expect("a certificate")
        };
        let (operator, terminal) = (participant("operator"), participant("terminal"));
        let (folder, bundle_file) = (root.join(format!("site-{letter}")), pki.bundle_file());
        fs::create_dir_all(&folder).expect("a folder");
        let (letter, address) = (*letter, *address);
        sites.insert(letter, Site { letter, node, address, folder, bundle_file, node_certificate, operator, terminal });
    }
    for site in sites.values() {
        let others = sites.keys().filter(|letter| **letter != site.letter);
        site.write_files(root, &sites);
        site.write_peers(&others.map(|letter| PeerEntry::plain(*letter)).collect::<Vec<_>>(), &sites);
    }
    sites
}

/// An address that nobody listens at, and that nobody else is given: its port lies below those that systems give out by themselves, to
/// connections for instance, so that a node can be stopped and find it free again. Processes begin at different ports.
///
/// # Panics
/// Nothing is free.
#[must_use]
pub fn free_address(ip: IpAddr) -> SocketAddr {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    (0..u32::from(PORTS.end - PORTS.start))
        .map(|_| {
            let place = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
            SocketAddr::new(ip, PORTS.start + (place % u32::from(PORTS.end - PORTS.start)) as u16)
        })
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port")
}

impl Site {
    /// The node's settings, as its file has them.
    ///
    /// # Panics
    /// The file is not good.
    #[must_use]
    pub fn config(&self) -> Config {
        let layers = Layers { file: Some(self.config_file()), ..Layers::default() };
        Config::load(&layers).expect("a good file").0
    }

    /// The file for `tradelane serve --config`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// Writes the peers file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_peers(&self, entries: &[PeerEntry], sites: &BTreeMap<char, Site>) {
        let mut text = format!("homes = [\"{}.example\"]\n", self.letter);
        for entry in entries {
            let other = &sites[&entry.letter];
            let own_home = format!("{}.example", entry.letter);
            let homes: Vec<&str> =
                std::iter::once(own_home.as_str()).chain(entry.homes.iter().map(String::as_str)).collect();
            let behind: Vec<&str> = entry.behind.iter().map(|letter| sites[letter].node.as_str()).collect();
            text.extend([format!(
                "\n[[peer]]\nnode = {:?}\nhomes = {homes:?}\nbehind = {behind:?}\n",
                other.node.as_str()
            )]);
            text.extend([format!("transit = {}\n", entry.transit)]);
            if entry.dialled {
                text.extend([format!("address = \"{}\"\n", other.address)]);
            }
        }
        self.write("peers.toml", &text);
    }

    /// Writes the policy: the site's participants publish and read, its operator operates and reads, and these grants besides.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_policy(&self, more: &str) {
        let letter = self.letter;
        let own = format!(
            "[[grant]]\nid = \"publish\"\nwho = [\"spiffe://{letter}.example/terminal/*\"]\nactions = [\"publish\", \"read\", \
             \"share\"]\nall = true\n\n[[grant]]\nid = \"operate\"\nwho = [\"spiffe://{letter}.example/operator/*\"]\nactions = \
             [\"operate\", \"read\"]\nall = true\n\n"
        );
        self.write("policy.toml", &(own + more));
    }

    fn write_files(&self, root: &Path, sites: &BTreeMap<char, Site>) {
        let mut trust = String::new();
        let mut forward = String::new();
        for site in sites.values() {
            let domain = format!("{}.example", site.letter);
            let (bundle, crl) = (quoted(&site.bundle_file), quoted(&root.join(&domain).join("crl.pem")));
            trust.extend([format!("[[domain]]\nname = {domain:?}\nbundle_file = {bundle}\ncrl_files = [{crl}]\n\n")]);
            if site.letter != self.letter {
                forward.extend([format!(
                    "[[grant]]\nid = \"forward-{}\"\nwho = [{:?}]\nactions = [\"forward\"]\nall = true\n\n",
                    site.letter,
                    site.node.as_str()
                )]);
            }
        }
        self.write("trust.toml", &trust);
        self.write_policy(&forward);
        let issued = &self.node_certificate;
        let (certificate, key) = (quoted(&issued.certificate_file), quoted(&issued.key_file));
        let settings = format!(
            "[node]\ndata_dir = \"data\"\nstop_timeout = \"5s\"\n\n[listen]\naddress = \"{}\"\noperations_address = \"\"\n\n\
             [identity]\ncertificate_file = {certificate}\nprivate_key_file = {key}\ntrust_file = \"trust.toml\"\npolicy_file = \
             \"policy.toml\"\npeers_file = \"peers.toml\"\npoll_interval = \"1s\"\n",
            self.address
        );
        self.write("node.toml", &settings);
    }

    fn write(&self, name: &str, text: &str) {
        // Written aside and moved, as a node that polls must never read half a file.
        let aside = self.folder.join(format!("{name}.new"));
        fs::write(&aside, text).and_then(|()| fs::rename(&aside, self.folder.join(name))).expect("a file");
    }
}

/// A path as TOML writes a string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.to_string_lossy().into_owned()).to_string()
}
