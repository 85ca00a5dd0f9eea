//! `tradelane promote`: makes a standby the home of a lost node's publishers, by its peers file. It never replaces a node whose link is up,
//! never changes the log, and keeps the file that was there.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use toml_edit::{Array, DocumentMut, Item, Table, value};
use tonic::transport::Channel;

use super::{
    ExitCode, Failure,
    config::SettingsArguments,
    events::fact,
    settings::{ClientFlags, ClientSettings},
    terminal::{Terminal, note},
    words,
};
use crate::{
    clock::{Clock, SystemClock},
    config::Config,
    identity::{Identity, trust::TrustStore},
    wire::proto::{
        ListPeersRequest, PeerLink, PeerLinkState, PeerState, ReloadRequest, node_service_client::NodeServiceClient,
    },
};

/// `tradelane promote`
#[derive(Debug, Args)]
#[command(after_help = "\
A standby is a peer to which the other node forwards everything: at the other node a grant with the action forward, all = true and \
private = true; here, in the peers file, private = true. It holds every event that the other node has acknowledged to its publishers and \
the link has brought; how much that leaves out, the lag of `tradelane peers show NODE` says at any time: at the other node exactly, here \
as of the last contact.

When the other node is lost for good, run this beside the standby. It refuses while the link from the lost node is up, moves the trust \
domains at home there into the homes of this node's peers file, marks the lost node as replaced, has the node read its files, and says how \
far the copy goes. What is not here is counted up to the end of the lost log as the lost node last told it, at the last contact, which is \
remembered over restarts of this node. That is a lower bound: what the lost node acknowledged while the link was down or paused, nobody \
here can count; a peer that had a link then may hold it. The file that was there is kept beside it, with the ending .before-promote.

What remains to be done by hand: grants that let the lost node's publishers publish here (and their trust domains in the trust file), \
best prepared beforehand; their clients' address; and at every other node that took from the lost one, in its peers file: the homes of the \
lost node added to this node's, the lost node named behind this one and without an address; and transit = true for that node here, so that \
it gets what only this node still holds. Publishers publish again what they are not sure of: what is here already is answered as a duplicate.

The lost node must not be started again under its name.

Exit code: 0 promoted, 1 the link is up or the node unknown here, 65 the files would not be good, 78 settings.

Example:
  tradelane promote spiffe://exchange.gov.pk/node/khi-1 --profile operator \\
    --config /etc/tradelane/tradelane.toml")]
pub struct PromoteArguments {
    /// The lost node's SPIFFE ID.
    #[arg(value_name = "NODE")]
    pub node: String,
    /// The settings of this node: they name its peers file.
    #[command(flatten)]
    pub settings: SettingsArguments,
    /// How to reach this node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// Runs `tradelane promote`.
///
/// # Errors
/// The lost node's link is up, it is no peer of this node, or a file cannot be read, written or would not be good.
pub async fn run(arguments: &PromoteArguments) -> Result<(), Failure> {
    let (config, _) = arguments.settings.load()?;
    let settings = arguments.client.settings()?;
    let mut client = NodeServiceClient::new(settings.channel().await?);
    let lost = lost_node(&settings, &mut client, &arguments.node).await?;
    let path = config.identity.peers_file.clone().ok_or_else(|| {
        Failure::new(ExitCode::Configuration, "the settings name no peers file (identity.peers_file)")
    })?;
    let before = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
    let after = promoted(&before, &arguments.node)
        .map_err(|why| Failure::data(format!("{}: {why}; nothing was changed", path.display())))?;
    put_in_place(&config, &path, &before, &after)?;
    client.reload(settings.call(ReloadRequest {})).await?;
    say(&settings, &path, &lost)?;
    for domain in unknown_domains(&config, &lost.homes) {
        note(&format!("the trust file has no [[domain]] {domain}: nobody of it can connect here yet"));
    }
    Ok(())
}

/// The lost node as this one sees it, unless its link is up.
async fn lost_node(
    settings: &ClientSettings,
    client: &mut NodeServiceClient<Channel>,
    node: &str,
) -> Result<PeerState, Failure> {
    let peers = client.list_peers(settings.call(ListPeersRequest {})).await?.into_inner().peers;
    let peer = peers.into_iter().find(|peer| peer.node == node);
    let peer =
        peer.ok_or_else(|| Failure::new(ExitCode::Failure, format!("{node} is not in the node's peers file")))?;
    let is_up = |link: &Option<PeerLink>| {
        let state = link.as_ref().map_or(PeerLinkState::Unspecified, PeerLink::state);
        matches!(state, PeerLinkState::Streaming | PeerLinkState::CaughtUp)
    };
    if is_up(&peer.inbound) || is_up(&peer.outbound) {
        let words = format!(
            "{node} is alive: its link is up. A node that lives is not replaced; stop it for good, or pause the link (tradelane peers pause \
             {node}), and promote then"
        );
        return Err(Failure::new(ExitCode::Failure, words));
    }
    Ok(peer)
}

/// The peers file with the homes of a lost node moved here. Everything else stays as it is written, comments too.
fn promoted(text: &str, node: &str) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error| format!("is not TOML: {error}"))?;
    let peers = document.get_mut("peer").and_then(Item::as_array_of_tables_mut).ok_or("has no [[peer]]")?;
    let is_lost = |table: &&mut Table| table.get("node").and_then(Item::as_str) == Some(node);
    let lost = peers.iter_mut().find(is_lost).ok_or_else(|| format!("has no [[peer]] {node}"))?;
    let homes: Vec<String> = texts(lost.get("homes"));
    lost.remove("address");
    lost.remove("paused");
    lost.insert("replaced", value(true));
    let own = document.entry("homes").or_insert_with(|| value(Array::new()));
    let known = texts(Some(own));
    let own = own.as_array_mut().ok_or("homes is no list")?;
    for home in homes.into_iter().filter(|home| !known.contains(home)) {
        own.push(home);
    }
    Ok(document.to_string())
}

fn texts(list: Option<&Item>) -> Vec<String> {
    let list = list.and_then(Item::as_array);
    list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Checks the new file with all that belongs to it, then replaces the old one, which is kept beside.
fn put_in_place(config: &Config, path: &Path, before: &str, after: &str) -> Result<(), Failure> {
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let write = |path: &Path, text: &str| fs::write(path, text).map_err(|error| Failure::file("write", path, &error));
    let (new, kept) = (beside(".new"), beside(".before-promote"));
    write(&new, after)?;
    let mut identity = config.identity.clone();
    identity.peers_file = Some(new.clone());
    if let Err(faults) = Identity::check(&identity, SystemClock.now_ns()) {
        // A file that is of no use; that it stays behind where it cannot be removed is no second failure.
        let _ = fs::remove_file(&new);
        return Err(Failure::data(format!("nothing was changed, since the files would not be good:\n{faults}")));
    }
    write(&kept, before)?;
    fs::rename(&new, path).map_err(|error| Failure::file("replace", path, &error))
}

fn unknown_domains(config: &Config, homes: &[String]) -> Vec<String> {
    let trust = TrustStore::load(&config.identity, SystemClock.now_ns());
    let known: Vec<String> = trust.iter().flat_map(TrustStore::domains).map(ToString::to_string).collect();
    homes.iter().filter(|home| !known.contains(home)).cloned().collect()
}

fn say(settings: &ClientSettings, path: &Path, lost: &PeerState) -> Result<(), Failure> {
    let link = lost.inbound.clone().unwrap_or_default();
    let last_contact = words::time(link.last_contact_time.as_ref());
    let mut terminal = Terminal::new(settings.output);
    if terminal.for_people() {
        fact(&mut terminal, "replaced", &lost.node)?;
        fact(&mut terminal, "at home here", &lost.homes.join(", "))?;
        fact(&mut terminal, "holds", if link.position.is_empty() { "nothing of it" } else { &link.position })?;
        let missing = if link.last_contact_time.is_none() {
            "unknown: it never told how far its log goes".to_owned()
        } else {
            format!(
                "at least {} places of its log, which ended at sequence {} when it last told so, at {last_contact}, the last contact; that is \
                 a lower bound: what it acknowledged after that cannot be counted here",
                link.lag_events, link.head_sequence
            )
        };
        fact(&mut terminal, "not here", &missing)?;
        fact(&mut terminal, "peers file", &path.display().to_string())?;
    } else {
        terminal.json(&json!({
            "replaced": lost.node,
            "homes": lost.homes,
            "heldPosition": link.position,
            "headSequence": link.head_sequence.to_string(),
            "lagEvents": link.lag_events.to_string(),
            "lagIsLowerBound": true,
            "lastContactTime": last_contact,
        }))?;
    }
    Ok(terminal.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_homes_move_and_all_else_stays_as_it_was_written() {
        let before = "# Ours.\nhomes = [\"s.example\"] # and only ours\n\n[[peer]]\nnode = \"spiffe://a.example/node/1\"\naddress = \
                      \"a:1\"\nhomes = [\"a.example\", \"s.example\"]\nprivate = true # a standby\n\n[[peer]]\nnode = \"spiffe://c.example/node/1\"\n";
        let after = promoted(before, "spiffe://a.example/node/1").unwrap();
        let expected = "# Ours.\nhomes = [\"s.example\", \"a.example\"] # and only ours\n\n[[peer]]\nnode = \
                        \"spiffe://a.example/node/1\"\nhomes = [\"a.example\", \"s.example\"]\nprivate = true # a standby\nreplaced = true\n\n[[peer]]\nnode \
                        = \"spiffe://c.example/node/1\"\n";
        assert_eq!(after, expected);
        assert_eq!(promoted(&after, "spiffe://a.example/node/1").unwrap(), after, "again changes nothing");
        assert!(promoted(before, "spiffe://x.example/node/1").unwrap_err().contains("has no [[peer]] spiffe://x"));
        assert!(promoted("homes = [", "spiffe://x.example/node/1").unwrap_err().contains("is not TOML"));
    }
}
