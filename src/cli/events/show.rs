//! The answers of the event queries as people read them. It never leaves out a part of an answer that differs from the usual.

use std::io;

use super::{fact, name_cell, titled};
use crate::{
    cli::{
        json,
        table::{Cell, Table},
        terminal::{Style, Terminal, note, printable},
        words::{self, Glance, short_id, word},
    },
    wire::proto::{
        ExplainEventResponse, GetEventResponse, GetPortCallResponse, GetTimelineResponse, PortCallTime, ReachState,
        RecordedEvent,
    },
};

/// The columns of a list of events.
pub fn event_table() -> Table {
    Table::new(&["TIME", "WHAT", "SUBJECT", "PLACE", "REMARK", "PUBLISHER", "EVENT ID"])
}

/// One event as a row of [`event_table`].
pub fn event_row(event: &RecordedEvent) -> Vec<Cell> {
    row(words::glance(event))
}

fn row(glance: Glance) -> Vec<Cell> {
    let remarks: Vec<_> = [glance.classifier, glance.remark].into_iter().filter(|text| !text.is_empty()).collect();
    vec![
        Cell::styled(glance.event_time, Style::Dim),
        glance.kind.into(),
        name_cell(glance.subject),
        glance.place.into(),
        remarks.join(", ").into(),
        Cell::styled(glance.publisher, Style::Dim),
        Cell::styled(glance.event_id, Style::Dim),
    ]
}

/// One event, whole: what the node adds as lines, then the event as its publisher said it.
pub fn event(terminal: &mut Terminal, answer: &GetEventResponse) -> io::Result<()> {
    let Some(recorded) = &answer.event else { return Ok(()) };
    fact(terminal, "position", &recorded.position)?;
    fact(terminal, "accepted", &words::time(recorded.accepted_time.as_ref()))?;
    if let Some(origin) = &recorded.origin {
        fact(terminal, "origin", &format!("{} (sequence {})", short_id(&origin.node), origin.sequence))?;
    }
    fact(terminal, "via", &recorded.via.join(", "))?;
    fact(terminal, "revised by", &answer.revised_by)?;
    if answer.revision_unresolved {
        note("this revises an event that is not known here, or not the last of its chain");
    }
    let whole = json::recorded_event(recorded);
    // Indented JSON has one line an entry, and control characters are escaped in it but for the rarer ones.
    let text = format!("{:#}", whole["signed"]["event"]);
    for line in text.lines() {
        terminal.line(&printable(line))?;
    }
    Ok(())
}

/// A timeline: its events, then what is associated.
pub fn timeline(terminal: &mut Terminal, answer: &GetTimelineResponse) -> io::Result<()> {
    if answer.entries.is_empty() {
        note("nothing is known of it, among what you may read");
        return Ok(());
    }
    let mut table = event_table();
    for entry in &answer.entries {
        let Some(event) = &entry.event else { continue };
        let mut glance = words::glance(event);
        if let Some(via) = &entry.via_subject {
            glance.subject = associated(&glance.subject, &words::subject(via));
        }
        if !entry.revised_by.is_empty() {
            let remarks = [glance.remark, format!("revised by {}", entry.revised_by)];
            let remarks: Vec<_> = remarks.into_iter().filter(|text| !text.is_empty()).collect();
            glance.remark = remarks.join(", ");
        }
        table.row(row(glance));
    }
    table.print(terminal)?;
    let mut associated = Table::new(&["SUBJECT", "AWAY>", "SAID BY"]);
    for subject in &answer.associated {
        let named = subject.subject.as_ref().map(words::subject).unwrap_or_default();
        associated.row(vec![
            name_cell(named),
            subject.distance.to_string().into(),
            short_id(&subject.publisher).into(),
        ]);
    }
    titled(terminal, "Associated", &associated)
}

/// What an event that came in by association is about: its own subject first, since which of a consignment's containers left is what the
/// reader wants to know.
fn associated(subject: &str, via: &str) -> String {
    if subject.starts_with(via) { format!("{subject} (associated)") } else { format!("{subject} (by {via})") }
}

/// A port call: a row for each step and reporter.
pub fn port_call(terminal: &mut Terminal, answer: &GetPortCallResponse) -> io::Result<()> {
    if answer.rows.is_empty() {
        note("no times of such a call are known, among what you may read");
        return Ok(());
    }
    let mut table = Table::new(&["STEP", "WHERE", "PLANNED", "ESTIMATED", "REQUESTED", "ACTUAL", "REPORTER"]);
    for row in &answer.rows {
        let step = [word("PortService", row.service), word("MovementStep", row.step)];
        let step: Vec<_> = step.into_iter().filter(|word| !word.is_empty()).collect();
        table.row(vec![
            step.join(" ").replace('_', " ").into(),
            word("PlaceKind", row.place_kind).replace('_', " ").into(),
            stated(row.planned.as_ref()),
            stated(row.estimated.as_ref()),
            stated(row.requested.as_ref()),
            stated(row.actual.as_ref()),
            Cell::styled(short_id(&row.reporter), Style::Dim),
        ]);
    }
    table.print(terminal)
}

fn stated(time: Option<&PortCallTime>) -> Cell {
    let Some(time) = time else { return "".into() };
    let moment = words::time(time.event_time.as_ref());
    match time.superseded_count {
        0 => moment.into(),
        count => format!("{moment} (after {count} others)").into(),
    }
}

/// What became of an event.
pub fn explanation(terminal: &mut Terminal, answer: &ExplainEventResponse) -> io::Result<()> {
    fact(terminal, "position", &answer.position)?;
    fact(terminal, "accepted", &words::time(answer.accepted_time.as_ref()))?;
    if let Some(origin) = &answer.origin {
        fact(terminal, "origin", &format!("{} (sequence {})", short_id(&origin.node), origin.sequence))?;
    }
    fact(terminal, "via", &answer.via.join(", "))?;
    fact(terminal, "size", &words::size(answer.size_bytes))?;
    fact(terminal, "publish grants", &answer.publish_grant_ids.join(", "))?;
    fact(terminal, "revised by", &answer.revised_by.join(", "))?;
    let mut views = Table::new(&["VIEW", "HOLDS IT", "APPLIED UP TO"]);
    for view in &answer.views {
        let holds =
            if view.applied { Cell::styled("yes", Style::Good) } else { Cell::styled("not yet", Style::Warning) };
        views.row(vec![(&view.view).into(), holds, (&view.position).into()]);
    }
    titled(terminal, "Views", &views)?;
    let mut clearances = Table::new(&["GOODS", "PART IN THEIR CLEARANCE", "WHY"]);
    for one in &answer.clearances {
        let goods = one.subject.as_ref().map(|subject| subject.value.as_str()).unwrap_or_default();
        let part = word("ClearancePart", one.part).replace('_', " ");
        clearances.row(vec![name_cell(goods), part.into(), (&one.reason).into()]);
    }
    if !clearances.is_empty() {
        titled(terminal, "Clearances", &clearances)?;
    }
    if answer.clearances_omitted > 0 {
        terminal.line(&format!("and {} more", answer.clearances_omitted))?;
    }
    if answer.clearances_withheld {
        note("what it says of goods is not told: no grant lets you read the event");
    }
    let mut peers = Table::new(&["PEER", "STATE", "WHY"]);
    for peer in &answer.peers {
        peers.row(vec![name_cell(short_id(&peer.node)), reach(peer.state), (&peer.reason).into()]);
    }
    if !peers.is_empty() {
        titled(terminal, "Peers", &peers)?;
    }
    let mut subscriptions = Table::new(&["SUBSCRIPTION", "OWNER", "STATE", "ACKNOWLEDGED UP TO", "WHY"]);
    for one in &answer.subscriptions {
        subscriptions.row(vec![
            name_cell(&one.name),
            name_cell(short_id(&one.owner)),
            reach(one.state),
            (&one.acknowledged_position).into(),
            (&one.reason).into(),
        ]);
    }
    if !subscriptions.is_empty() {
        titled(terminal, "Durable subscriptions", &subscriptions)?;
    }
    if answer.subscriptions_omitted > 0 {
        terminal.line(&format!("and {} more", answer.subscriptions_omitted))?;
    }
    let mut readers = Table::new(&["READER", "CONNECTION>", "STATE", "WHY"]);
    for reader in &answer.subscribers {
        readers.row(vec![
            name_cell(short_id(&reader.participant)),
            reader.connection_id.to_string().into(),
            reach(reader.state),
            (&reader.reason).into(),
        ]);
    }
    if answer.subscribers.is_empty() {
        return terminal.line("no live readers");
    }
    titled(terminal, "Live readers", &readers)
}

fn reach(state: i32) -> Cell {
    let style = match ReachState::try_from(state) {
        Ok(ReachState::Delivered) => Style::Good,
        Ok(ReachState::NotGranted | ReachState::NotInAudience | ReachState::Refused | ReachState::DeadLetter) => {
            Style::Bad
        }
        _ => Style::Plain,
    };
    Cell::styled(word("ReachState", state).replace('_', " "), style)
}
