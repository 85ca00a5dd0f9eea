//! The answers of the node's own calls as people read them. It only formats.

use std::io;

use super::more;
use crate::{
    cli::{
        events::{fact, name_cell, titled},
        json,
        table::{Cell, Table},
        terminal::{Style, Terminal, note},
        words::{self, short_id, word},
    },
    wire::proto::{
        CheckAccessResponse, GetNodeResponse, ListConnectionsResponse, ListDenialsResponse, ListGrantsResponse,
        ListParticipantsResponse, ListTrustResponse, LogEpoch, ReloadResponse,
    },
};

/// An end nearer than this is shown as a warning: the first of the node's own warnings.
const REMAINING_WARNING_SECONDS: i64 = 30 * 86_400;

/// `node show`
pub fn node(terminal: &mut Terminal, node: &GetNodeResponse) -> io::Result<()> {
    fact(terminal, "node", &node.node_id)?;
    fact(terminal, "version", &node.version)?;
    fact(terminal, "started", &words::time(node.start_time.as_ref()))?;
    fact(terminal, "epoch", &node.epoch.as_ref().map(epoch).unwrap_or_default())?;
    for previous in &node.previous_epochs {
        fact(terminal, "before that", &epoch(previous))?;
    }
    if !node.restored.is_empty() {
        fact(terminal, "restored", &node.restored)?;
    }
    let head = if node.head_position.is_empty() { "(empty)" } else { &node.head_position };
    fact(terminal, "head", head)?;
    fact(terminal, "first retained", &node.first_sequence.to_string())?;
    fact(terminal, "connections", &format!("{}, {} subscribers", node.connection_count, node.subscriber_count))?;
    fact(terminal, "policy", &format!("generation {}", node.policy_generation))?;
    if let Some(disk) = &node.disk {
        fact(terminal, "data", &disk.path)?;
        let refuse_below = words::size(disk.refuse_below_bytes);
        let (used, free) = (words::size(disk.used_bytes), words::size(disk.free_bytes));
        fact(terminal, "disk", &format!("{used} used, {free} free; publishing is refused below {refuse_below}"))?;
    }
    let mut views = Table::new(&["VIEW", "APPLIED>", "BEHIND>", "STATE"]);
    for view in &node.views {
        let behind = if view.lag_events == 0 { Style::Plain } else { Style::Warning };
        views.row(vec![
            name_cell(&view.view),
            view.applied_sequence.to_string().into(),
            Cell::styled(view.lag_events.to_string(), behind),
            if view.rebuilding { "rebuilding".into() } else { "".into() },
        ]);
    }
    titled(terminal, "Views", &views)
}

fn epoch(epoch: &LogEpoch) -> String {
    let opened = words::time(epoch.open_time.as_ref());
    match epoch.parent_epoch.as_str() {
        "" => format!("{} since {opened}", epoch.epoch),
        parent => format!("{} since {opened}, from {parent} at {}", epoch.epoch, epoch.fork_sequence),
    }
}

/// `node connections`
pub fn connections(terminal: &mut Terminal, answer: &ListConnectionsResponse) -> io::Result<()> {
    let mut table = Table::new(&["ID>", "PARTICIPANT", "FROM", "SINCE", "CERTIFICATE ENDS", "STREAMS", "BEHIND>"]);
    for connection in &answer.connections {
        let streams = connection.streams.iter().map(|stream| stream.method.rsplit('/').next().unwrap_or_default());
        let lag = connection.streams.iter().map(|stream| stream.lag_events).max().unwrap_or(0);
        table.row(vec![
            connection.connection_id.to_string().into(),
            name_cell(short_id(&connection.participant)),
            (&connection.remote_address).into(),
            words::time(connection.connect_time.as_ref()).into(),
            words::time(connection.certificate_not_after_time.as_ref()).into(),
            streams.collect::<Vec<_>>().join(", ").into(),
            lag.to_string().into(),
        ]);
    }
    table.print(terminal)?;
    more(&answer.next_page_token);
    Ok(())
}

/// `node participants`
pub fn participants(terminal: &mut Terminal, answer: &ListParticipantsResponse) -> io::Result<()> {
    let mut table = Table::new(&["PARTICIPANT", "CONNECTIONS>", "PUBLISHED>", "DUPLICATE>", "DENIED>", "LAST SEEN"]);
    for participant in &answer.participants {
        let denied = if participant.denied_count == 0 { Style::Plain } else { Style::Warning };
        table.row(vec![
            name_cell(short_id(&participant.participant)),
            participant.connection_count.to_string().into(),
            participant.published_count.to_string().into(),
            participant.duplicate_count.to_string().into(),
            Cell::styled(participant.denied_count.to_string(), denied),
            words::time(participant.last_seen_time.as_ref()).into(),
        ]);
    }
    table.print(terminal)?;
    more(&answer.next_page_token);
    Ok(())
}

/// `node grants`
pub fn grants(terminal: &mut Terminal, answer: &ListGrantsResponse) -> io::Result<()> {
    let mut table = Table::new(&["GRANT", "WHO", "ACTIONS", "ENDS", "EVENTS"]);
    for grant in &answer.grants {
        let filters = grant.filters.iter().map(|filter| json::from_message("EventFilter", filter).to_string());
        let ends = words::time(grant.expires_time.as_ref());
        let who: Vec<_> = grant.who.iter().map(|who| short_id(who)).collect();
        table.row(vec![
            name_cell(&grant.grant_id),
            who.join(", ").into(),
            grant.actions.join(", ").into(),
            if grant.expired { Cell::styled(format!("{ends} (ended)"), Style::Warning) } else { ends.into() },
            filters.collect::<Vec<_>>().join(" or ").into(),
        ]);
    }
    table.print(terminal)?;
    more(&answer.next_page_token);
    Ok(())
}

/// `node denials`
pub fn denials(terminal: &mut Terminal, answer: &ListDenialsResponse) -> io::Result<()> {
    if answer.denials.is_empty() {
        note("nothing was refused since the node started");
        return Ok(());
    }
    let mut table = Table::new(&["TIME", "WHO", "FROM", "ASKED FOR", "REASON", "DETAIL"]);
    for denial in &answer.denials {
        table.row(vec![
            Cell::styled(words::time(denial.time.as_ref()), Style::Dim),
            name_cell(short_id(&denial.participant)),
            (&denial.remote_address).into(),
            denial.subject.rsplit('/').next().unwrap_or_default().into(),
            Cell::styled(&denial.reason, Style::Warning),
            (&denial.detail).into(),
        ]);
    }
    table.print(terminal)?;
    more(&answer.next_page_token);
    Ok(())
}

/// `node trust`
pub fn trust(terminal: &mut Terminal, answer: &ListTrustResponse) -> io::Result<()> {
    let mut table = Table::new(&["WHAT", "DOMAIN", "NAME", "ENDS", "LEFT", "FILE"]);
    for item in &answer.items {
        let seconds = item.remaining.as_ref().map_or(0, |remaining| remaining.seconds);
        let style = match seconds {
            ..0 => Style::Bad,
            0..REMAINING_WARNING_SECONDS => Style::Warning,
            _ => Style::Plain,
        };
        let left = if seconds < 0 { format!("ended {} ago", span(-seconds)) } else { span(seconds) };
        table.row(vec![
            word("TrustItemKind", item.kind).replace('_', " ").into(),
            (&item.trust_domain).into(),
            name_cell(short_id(&item.name)),
            words::time(item.not_after_time.as_ref()).into(),
            Cell::styled(left, style),
            (&item.file).into(),
        ]);
    }
    table.print(terminal)
}

fn span(seconds: i64) -> String {
    match seconds {
        86_400.. => format!("{} days", seconds / 86_400),
        3_600.. => format!("{} hours", seconds / 3_600),
        _ => format!("{} minutes", seconds / 60),
    }
}

/// `node reload`
pub fn reload(terminal: &mut Terminal, answer: &ReloadResponse) -> io::Result<()> {
    if answer.changes.is_empty() {
        terminal.line("nothing has changed")?;
    }
    for change in &answer.changes {
        let change = Cell::from(change);
        terminal.line(change.text())?;
    }
    fact(terminal, "policy", &format!("generation {}", answer.policy_generation))?;
    fact(terminal, "closed", &format!("{} connections", answer.closed_connection_count))
}

/// `check-access`
pub fn access(terminal: &mut Terminal, answer: &CheckAccessResponse) -> io::Result<()> {
    if answer.allowed {
        let allowed = terminal.style(Style::Good, "allowed").into_owned();
        terminal.line(&format!("{allowed} by {}", answer.grant_ids.join(", ")))?;
    } else {
        let refused = terminal.style(Style::Bad, "not allowed").into_owned();
        terminal.line(&format!("{refused}: {}", answer.reason))?;
    }
    let mut verdicts = Table::new(&["GRANT", "ALLOWS", "WHY NOT"]);
    for verdict in &answer.verdicts {
        let allows = if verdict.allows { Cell::styled("yes", Style::Good) } else { Cell::styled("no", Style::Dim) };
        verdicts.row(vec![name_cell(&verdict.grant_id), allows, (&verdict.explanation).into()]);
    }
    titled(terminal, "Grants of this identity", &verdicts)
}
