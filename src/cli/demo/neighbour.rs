//! The second node of the demonstration, at Valparaíso: its own authority, its own participants, and an agreement with Karachi. It never
//! reads Karachi's files but for the authority that it recognises.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message as _;
use tokio::time::timeout;
use tonic::Streaming;

use super::{
    commands::{PrintedCommand, shell_line},
    setup::{self, Member, NodeFiles, Pki, Setup, configuration, profile},
};
use crate::{
    cli::{
        ExitCode, Failure,
        connect::NodeAddress,
        settings::ClientFlags,
        subscribe::event_line,
        terminal::{Style, Terminal},
    },
    identity::reload::ReloadCause,
    node::RunningNode,
    wire::proto::{
        Event, RecordedEvent, StartAt, SubscribeRequest, SubscribeResponse, event_service_client::EventServiceClient,
        subscribe_request::Start, subscribe_response::Message,
    },
};

/// The node.
pub const NODE: &str = "spiffe://exchange.cl/node/vlp-1";
/// The customs agency there.
const CUSTOMS: &str = "spiffe://aduana.cl/agency/valparaiso";
/// The trust domains at home there.
const HOMES: [&str; 2] = ["exchange.cl", "aduana.cl"];
/// What is forwarded arrives within moments; after this the demonstration has failed.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The grants there: nothing is published, and customs see what Karachi forwards.
const POLICY: &str = r#"# Who may do what at this node: the only source of access.

[[grant]]
id = "operators"
who = ["spiffe://exchange.cl/desk/*"]
actions = ["operate", "audit", "read"]
all = true

[[grant]]
id = "customs"
who = ["spiffe://aduana.cl/agency/*"]
actions = ["read"]
all = true
"#;

/// Karachi's agreement with Valparaíso: the way of the goods, and not why they were held.
pub const AGREEMENT: &str = r#"
# What is forwarded to the node at Valparaíso: the way of the goods and their clearance; holds and inspections stay here.
[[grant]]
id = "forward-valparaiso"
who = ["spiffe://exchange.cl/node/vlp-1"]
actions = ["forward"]
filters = [{ types = ["movement", "handling", "association", "clearance"] }]
"#;

/// The node's files and its participants.
#[derive(Debug, Clone)]
pub struct Neighbour {
    directory: PathBuf,
    node: NodeFiles,
    operator: Member,
    customs: Member,
}

impl Neighbour {
    /// Makes everything below `valparaiso` in the demonstration's directory, but for what needs addresses.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn create(root: &Path, now_ns: i64) -> Result<Self, Failure> {
        let directory = root.join("valparaiso");
        fs::create_dir_all(&directory).map_err(|error| Failure::file("write", &directory, &error))?;
        let pki = Pki { root: root.join("pki"), now_ns };
        let node = pki.node(NODE)?;
        let member = |name, id| pki.member(name, id, directory.join(format!("{name}.toml")));
        let operator = member("operator", "spiffe://exchange.cl/desk/operator")?;
        let customs = member("customs", CUSTOMS)?;
        let neighbour = Self { directory, node, operator, customs };
        neighbour.write("policy.toml", POLICY)?;
        let mut domains: Vec<&str> = HOMES.to_vec();
        domains.push("exchange.gov.pk");
        neighbour.write("trust.toml", &setup::trust(&domains, "../pki"))?;
        neighbour.write("node.toml", &configuration(&neighbour.node))?;
        Ok(neighbour)
    }

    /// Writes its peers file and client profiles, and starts it beside Karachi; then has Karachi learn where it listens.
    ///
    /// # Errors
    /// A file cannot be written, or the node does not start.
    pub async fn start(&self, setup: &Setup, karachi: &RunningNode) -> Result<RunningNode, Failure> {
        let homes: Vec<String> = setup::homes();
        self.write("peers.toml", &peers_file(&HOMES, setup::NODE, &homes, &karachi.address.to_string()))?;
        let node = super::start(&self.directory.join("node.toml")).await?;
        let address = NodeAddress::from(node.address);
        for member in [&self.operator, &self.customs] {
            let text = profile(member, &self.node.authority, &address, NODE);
            fs::write(&member.profile_file, text)
                .map_err(|error| Failure::file("write", &member.profile_file, &error))?;
        }
        let homes: Vec<&str> = homes.iter().map(String::as_str).collect();
        let text = peers_file(&homes, NODE, &HOMES.map(str::to_owned), &address.to_string());
        let path = setup.directory.join("peers.toml");
        fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))?;
        let reloaded = karachi.identity().reload(&ReloadCause::Signal).await;
        reloaded.map_err(|faults| Failure::new(ExitCode::Configuration, faults))?;
        Ok(node)
    }

    /// Customs' live stream there, from the beginning.
    ///
    /// # Errors
    /// The node is not reached or refuses.
    pub async fn stream(&self) -> Result<Streaming<SubscribeResponse>, Failure> {
        let profile = self.customs.profile_file.to_string_lossy().into_owned();
        let flags = ClientFlags { profile: Some(profile), ..ClientFlags::default() };
        let channel = flags.settings()?.channel().await?;
        let request = SubscribeRequest { start: Some(Start::StartAt(StartAt::Earliest.into())), filters: Vec::new() };
        Ok(EventServiceClient::new(channel).subscribe(request).await?.into_inner())
    }

    /// Commands that show the two nodes together.
    #[must_use]
    pub fn commands(&self, program: &Path, setup: &Setup, event_id: &str, container: &str) -> Vec<PrintedCommand> {
        let command = |purpose, member: &Member, words: &[&str]| {
            let (program, profile) = (program.to_string_lossy(), member.profile_file.to_string_lossy());
            let mut all = vec![&*program];
            all.extend(words);
            all.extend(["-p", &profile]);
            PrintedCommand { purpose, line: shell_line(&all) }
        };
        let karachi = setup.member("operator");
        vec![
            command("What Valparaíso knows of a container", &self.customs, &["events", "timeline", container]),
            command(
                "Where an event of Karachi's terminal was first admitted, and the way that it took to Valparaíso",
                &self.operator,
                &["events", "explain", event_id, "--publisher", setup::TERMINAL],
            ),
            command(
                "And at Karachi: which peers it has reached",
                karachi,
                &["events", "explain", event_id, "--publisher", setup::TERMINAL],
            ),
            command("The link as Karachi's operator sees it", karachi, &["peers", "show", NODE]),
        ]
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(|error| Failure::file("write", &path, &error))
    }
}

fn peers_file(homes: &[&str], peer: &str, peer_homes: &[String], address: &str) -> String {
    format!(
        "# The trust domains whose participants publish at this node.\nhomes = {homes:?}\n\n[[peer]]\nnode = \"{peer}\"\naddress = \
         \"{address}\"\nhomes = {peer_homes:?}\n"
    )
}

/// Karachi's peers file while Valparaíso's address is not known yet.
#[must_use]
pub fn peers_file_before() -> String {
    let homes = setup::homes();
    let homes: Vec<&str> = homes.iter().map(String::as_str).collect();
    format!("homes = {homes:?}\n\n[[peer]]\nnode = \"{NODE}\"\nhomes = {HOMES:?}\n")
}

/// Shows what a stream brings, up to the event of this id: each with the node that it was first admitted at.
///
/// # Errors
/// It does not arrive.
pub async fn show(
    messages: &mut Streaming<SubscribeResponse>,
    terminal: &mut Terminal,
    event_id: &str,
) -> Result<(), Failure> {
    let title = terminal.style(Style::Bold, "Meanwhile at the node of Valparaíso").into_owned();
    terminal.line(&format!("\n{title}"))?;
    terminal.line(
        "  Karachi forwards the way of the goods; why some were held stays at home. What Chile's customs see:\n",
    )?;
    let arrived = timeout(ARRIVAL_TIMEOUT, show_until(messages, terminal, event_id)).await;
    arrived.unwrap_or_else(|_| {
        let words = format!("event {event_id} did not arrive at Valparaíso within {} s", ARRIVAL_TIMEOUT.as_secs());
        Err(Failure::new(ExitCode::Failure, words))
    })
}

async fn show_until(
    messages: &mut Streaming<SubscribeResponse>,
    terminal: &mut Terminal,
    event_id: &str,
) -> Result<(), Failure> {
    while let Some(response) = messages.message().await? {
        let Some(Message::Events(batch)) = response.message else { continue };
        for event in &batch.events {
            let origin = event.origin.as_ref().map_or("", |origin| origin.node.as_str());
            let from = terminal.style(Style::Dim, &format!("(from {origin})")).into_owned();
            let line = event_line(terminal, event);
            terminal.line(&format!("     gets  {line} {from}"))?;
        }
        terminal.flush()?;
        if batch.events.iter().any(|event| id_of(event) == event_id) {
            return Ok(());
        }
    }
    Err(Failure::new(ExitCode::Unavailable, "the stream at Valparaíso ended"))
}

fn id_of(recorded: &RecordedEvent) -> String {
    let bytes = recorded.signed.as_ref().map(|signed| signed.event.clone()).unwrap_or_default();
    Event::decode(bytes).map(|event| event.event_id).unwrap_or_default()
}
