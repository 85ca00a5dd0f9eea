//! The peers file: the other nodes, where each listens, which trust domains live there and which nodes stand behind it. It never says
//! what is forwarded: that is a grant of the policy file with the action "forward".
//!
//! ```toml
//! # The trust domains whose participants publish here.
//! homes = ["exchange.gov.pk", "customs.gov.pk", "port.karachi.pk"]
//!
//! [[peer]]
//! node = "spiffe://exchange.cl/node/vlp-1"
//! address = "vlp.exchange.cl:7443"
//! homes = ["exchange.cl", "aduana.cl", "port.valparaiso.cl"]
//! ```

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

use chrono::DateTime;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::{Spanned, de::DeValue};

use super::{
    toml_file::{Faults, TomlFile, join},
    trust::TrustStore,
};
use crate::domain::{SpiffeId, TrustDomain};

/// At most so many peers: each is a connection and a few tasks.
const PEERS_MAX: usize = 64;
/// At most so many trust domains at home in one place.
const HOMES_MAX: usize = 1_024;

/// The other nodes, and what lives here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// The trust domains whose participants publish at this node: nobody else may bring events of theirs.
    pub homes: BTreeSet<TrustDomain>,
    /// In the order of the file.
    pub peers: Vec<Arc<Peer>>,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its SPIFFE ID.
    pub node: SpiffeId,
    /// Where it listens; none: nothing is taken from it, it may only take from here.
    pub address: Option<PeerAddress>,
    /// The trust domains whose participants publish there.
    pub homes: BTreeSet<TrustDomain>,
    /// Nodes whose events it may bring besides its own, and whose participants are reached through it. Each is a peer of the file too, so
    /// that it is known who lives there.
    pub behind: BTreeSet<SpiffeId>,
    /// Whether it is sent events that were first admitted elsewhere than here.
    pub transit: bool,
    /// Events accepted here before this time are not sent; nanoseconds since 1970.
    pub from_time_ns: Option<i64>,
    /// Whether events are taken from it whose audience names nobody at home here: for a standby.
    pub private: bool,
    /// Whether nothing is exchanged with it for now, or ever again where this node has taken its place.
    pub paused: bool,
}

/// Host and port of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Peer {
    /// Whether it may bring events that were first admitted at a node of this name.
    #[must_use]
    pub fn brings(&self, node: &str) -> bool {
        self.node.as_str() == node || self.behind.iter().any(|behind| behind.as_str() == node)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A peer as written.
#[derive(Debug, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of the file, and they go together in every way")]
struct PeerText {
    node: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    homes: Vec<String>,
    #[serde(default)]
    behind: Vec<String>,
    #[serde(default)]
    transit: bool,
    #[serde(default)]
    from_time: Option<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    paused: bool,
    /// This node has taken its place: it is at rest for ever, what it published stays valid whoever brings it, and its homes may be homes
    /// here.
    #[serde(default)]
    replaced: bool,
}

const PEER_KEYS: [&str; 9] =
    ["node", "address", "homes", "behind", "transit", "from_time", "private", "paused", "replaced"];

impl Peers {
    /// The peer of this name.
    #[must_use]
    pub fn get(&self, node: &SpiffeId) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|peer| peer.node == *node)
    }

    /// Whether an identity is a node that stands in the file.
    #[must_use]
    pub fn is_peer(&self, id: &SpiffeId) -> bool {
        self.get(id).is_some()
    }

    /// Whether a trust domain lives at a peer or at a node behind it.
    #[must_use]
    pub fn is_reached_through(&self, peer: &Peer, domain: &str) -> bool {
        let lives = |at: &Peer| at.homes.iter().any(|home| home.as_str() == domain);
        lives(peer) || peer.behind.iter().filter_map(|node| self.get(node)).any(|node| lives(node))
    }

    /// Reads the peers file; with the trust store, whether each node's domain is recognised.
    ///
    /// # Errors
    /// Every fault of the file, with its line.
    pub fn read(path: &Path, trust: Option<&TrustStore>) -> Result<Self, Faults> {
        let file = TomlFile::load(path)?;
        let known = trust.map(|trust| (trust.own_id().clone(), trust.domains().cloned().collect()));
        compile(file, known.as_ref())
    }

    /// What another reading changes, a line each.
    #[must_use]
    pub fn changes_to(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for peer in &after.peers {
            match self.get(&peer.node) {
                None => changes.push(format!("peer {} added", peer.node)),
                Some(before) if before != peer => changes.push(format!("peer {} changed", peer.node)),
                Some(_) => {}
            }
        }
        let gone = self.peers.iter().filter(|peer| !after.is_peer(&peer.node));
        changes.extend(gone.map(|peer| format!("peer {} removed", peer.node)));
        if self.homes != after.homes {
            changes.push("the trust domains at home here changed".to_owned());
        }
        changes
    }
}

/// The node's own name and the trust domains that it recognises.
type Known = (SpiffeId, BTreeSet<TrustDomain>);

fn compile(mut file: TomlFile, known: Option<&Known>) -> Result<Peers, Faults> {
    let text = file.text();
    let top = file.top(&text).unwrap_or_default();
    file.check_keys(&top, &["homes", "peer"], "");
    let homes: Vec<String> = top.get("homes").and_then(|value| file.read(value.clone(), "homes")).unwrap_or_default();
    let homes = read_domains(&mut file, None, &homes, "homes");
    let tables = file.tables(&top, "peer");
    if homes.is_empty() && !tables.is_empty() {
        file.fault(None, "homes", "must name the trust domains whose participants publish at this node".to_owned());
    }
    if PEERS_MAX < tables.len() {
        file.fault(None, "peer", format!("must be at most {PEERS_MAX} peers"));
    }
    let (mut peers, mut replaced) = (Vec::<(usize, Arc<Peer>)>::new(), BTreeSet::new());
    for (index, (line, value)) in tables.into_iter().enumerate() {
        let Some((peer, is_replaced)) = read_peer(&mut file, line, value, &format!("peer[{index}]")) else { continue };
        if is_replaced {
            replaced.insert(peer.node.clone());
        }
        peers.push((line, Arc::new(peer)));
    }
    check_together(&mut file, &homes, &peers, &replaced, known);
    file.finish(Peers { homes, peers: peers.into_iter().map(|(_, peer)| peer).collect() })
}

/// A peer, and whether this node has taken its place.
fn read_peer(file: &mut TomlFile, line: usize, value: Spanned<DeValue<'_>>, path: &str) -> Option<(Peer, bool)> {
    if let Some(table) = value.get_ref().as_table() {
        file.check_keys(table, &PEER_KEYS, path);
    }
    let text: PeerText = file.read(value, path)?;
    let homes = read_domains(file, Some(line), &text.homes, &join(path, "homes"));
    let mut fault = |key: &str, description: String| file.fault(Some(line), &join(path, key), description);
    let address = text.address.as_deref().and_then(|address| {
        let read = read_address(address);
        if read.is_none() {
            fault("address", format!("{address:?} must be host:port, such as vlp.exchange.cl:7443 or [::1]:7443"));
        }
        read
    });
    if text.replaced && address.is_some() {
        fault("address", "must not be set: nothing is taken from a node that was replaced".to_owned());
    }
    let mut behind = BTreeSet::new();
    for (index, node) in text.behind.iter().enumerate() {
        match SpiffeId::parse(node) {
            Ok(node) => drop(behind.insert(node)),
            Err(why) => fault(&format!("behind[{index}]"), why.to_string()),
        }
    }
    let from_time_ns = text.from_time.as_deref().and_then(|time| {
        let read = DateTime::parse_from_rfc3339(time).ok().and_then(|time| time.timestamp_nanos_opt());
        if read.is_none() {
            fault(
                "from_time",
                "must be a time as in RFC 3339 with its offset, such as 2026-07-01T00:00:00Z".to_owned(),
            );
        }
        read
    });
    let node = SpiffeId::parse(&text.node).map_err(|why| fault("node", why.to_string())).ok()?;
    let peer = Peer {
        node,
        address,
        homes,
        behind,
        transit: text.transit,
        from_time_ns,
        private: text.private,
        paused: text.paused || text.replaced,
    };
    Some((peer, text.replaced))
}

fn read_domains(file: &mut TomlFile, line: Option<usize>, names: &[String], path: &str) -> BTreeSet<TrustDomain> {
    if HOMES_MAX < names.len() {
        file.fault(line, path, format!("must be at most {HOMES_MAX} trust domains"));
    }
    let mut domains = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        match TrustDomain::parse(name) {
            Ok(domain) => drop(domains.insert(domain)),
            Err(why) => file.fault(line, &format!("{path}[{index}]"), why.to_string()),
        }
    }
    domains
}

/// What no peer's table can tell alone.
fn check_together(
    file: &mut TomlFile,
    homes: &BTreeSet<TrustDomain>,
    peers: &[(usize, Arc<Peer>)],
    replaced: &BTreeSet<SpiffeId>,
    known: Option<&Known>,
) {
    for (index, (line, peer)) in peers.iter().enumerate() {
        let mut fault =
            |key: &str, description: String| file.fault(Some(*line), &format!("peer[{index}].{key}"), description);
        if peers[..index].iter().any(|(_, before)| before.node == peer.node) {
            fault("node", format!("{} stands in the file twice", peer.node));
        }
        for home in homes.intersection(&peer.homes).filter(|_| !replaced.contains(&peer.node)) {
            fault("homes", format!("{home} is at home here, so nobody else can bring what its participants publish"));
        }
        for node in &peer.behind {
            if *node == peer.node || !peers.iter().any(|(_, other)| other.node == *node) {
                fault(
                    "behind",
                    format!("{node} must be another [[peer]] of this file, so that it is known who lives there"),
                );
            }
        }
        if let Some((own, domains)) = known {
            if peer.node == *own {
                fault("node", "is this node itself".to_owned());
            }
            if !domains.iter().any(|domain| domain.as_str() == peer.node.trust_domain()) {
                fault("node", format!("the trust file has no [[domain]] {}", peer.node.trust_domain()));
            }
        }
    }
}

fn read_address(text: &str) -> Option<PeerAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    ServerName::try_from(host).ok()?;
    Some(PeerAddress { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Peers, String> {
        let domain = |name: &str| TrustDomain::parse(name).expect("a good name");
        let own = SpiffeId::parse("spiffe://exchange.gov.pk/node/khi-1").expect("a good name");
        let known = (own, BTreeSet::from([domain("exchange.gov.pk"), domain("exchange.cl")]));
        let file = TomlFile::of(Path::new("peers.toml"), text.to_owned());
        compile(file, Some(&known)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn the_example_shows_every_key() {
        let text = include_str!("../../config/peers.toml");
        for key in PEER_KEYS {
            assert!(text.contains(&format!("\n{key} = ")), "the example does not show {key}");
        }
    }

    #[test]
    fn a_peer_is_read_with_what_lives_there() {
        let peers = read(
            "homes = ['customs.gov.pk']\n[[peer]]\nnode = 'spiffe://exchange.cl/node/vlp-1'\naddress = '[::1]:7443'\n\
             homes = ['aduana.cl']\nfrom_time = '2026-07-01T00:00:00Z'\n",
        )
        .expect("a good file");
        let peer = &peers.peers[0];
        assert_eq!(peer.address.as_ref().expect("an address").to_string(), "[::1]:7443");
        assert!(peers.is_reached_through(peer, "aduana.cl") && !peers.is_reached_through(peer, "customs.gov.pk"));
        assert!(!peer.transit && !peer.private && !peer.paused);
        assert_eq!(peer.from_time_ns, Some(1_782_864_000_000_000_000));
    }

    #[test]
    fn every_fault_is_said_at_once_with_its_line() {
        let faults = read(
            "home = []\n[[peer]]\nnode = 'spiffe://exchange.gov.pk/node/khi-1'\naddress = 'x'\nhomes = ['A b']\n\
             behind = ['spiffe://elsewhere.example/node/x']\n[[peer]]\nnode = 'spiffe://elsewhere.example/node/y'\n",
        )
        .expect_err("a bad file");
        for wanted in [
            "peers.toml:1: home: is not a known key; did you mean \"homes\"?",
            "homes: must name the trust domains whose participants publish at this node",
            "peers.toml:2: peer[0].address: \"x\" must be host:port",
            "peers.toml:2: peer[0].homes[0]: must name a trust domain",
            "peer[0].behind: spiffe://elsewhere.example/node/x must be another [[peer]]",
            "peer[0].node: is this node itself",
            "peers.toml:7: peer[1].node: the trust file has no [[domain]] elsewhere.example",
        ] {
            assert!(faults.contains(wanted), "{wanted} is missing in:\n{faults}");
        }
    }

    #[test]
    fn what_lives_here_cannot_live_elsewhere() {
        let faults = read(
            "homes = ['customs.gov.pk']\n[[peer]]\nnode = 'spiffe://exchange.cl/node/vlp-1'\nhomes = ['customs.gov.pk']\n",
        )
        .expect_err("a bad file");
        assert!(faults.contains("peer[0].homes: customs.gov.pk is at home here"), "{faults}");
        let replaced = "homes = ['customs.gov.pk']\n[[peer]]\nnode = 'spiffe://exchange.cl/node/vlp-1'\nhomes = \
                        ['customs.gov.pk']\nreplaced = true\n";
        assert!(read(replaced).expect("this node has taken its place").peers[0].paused);
        let faults = read(&format!("{replaced}address = 'vlp.exchange.cl:7443'\n")).expect_err("it would come again");
        assert!(faults.contains("peer[0].address: must not be set"), "{faults}");
    }
}
