//! Subscriptions and dead letters as their owner reads them. It never adds anything to what the node said.

use std::io;

use crate::{
    cli::{
        events::fact,
        json,
        table::{Cell, Table},
        terminal::{Style, Terminal},
        words::{self, short_id, word},
    },
    wire::proto::{DeadLetter, Subscription, SubscriptionState},
};

/// One's subscriptions as a table.
pub(super) fn list(terminal: &mut Terminal, subscriptions: &[Subscription]) -> io::Result<()> {
    let mut table =
        Table::new(&["NAME", "STATE", "MODE", "LAG>", "ON THEIR WAY>", "DEAD LETTERS>", "CONSUMERS>", "ACKNOWLEDGED"]);
    for one in subscriptions {
        let mode = one.definition.as_ref().map(|definition| word("SubscriptionMode", definition.mode));
        table.row(vec![
            Cell::styled(&one.name, Style::Name),
            state(one),
            mode.unwrap_or_default().into(),
            one.lag_events.to_string().into(),
            one.outstanding.to_string().into(),
            count(one.dead_letters),
            one.consumers.to_string().into(),
            Cell::styled(&one.acknowledged_position, Style::Dim),
        ]);
    }
    table.print(terminal)
}

/// One subscription, whole.
pub(super) fn subscription(terminal: &mut Terminal, one: &Subscription) -> io::Result<()> {
    let line = [terminal.style(Style::Name, &one.name).into_owned(), said(terminal, one)];
    terminal.line(&line.join("  "))?;
    fact(terminal, "owner", short_id(&one.owner))?;
    fact(terminal, "acknowledged", &one.acknowledged_position)?;
    fact(terminal, "lag", &format!("{} positions", one.lag_events))?;
    fact(terminal, "on their way", &one.outstanding.to_string())?;
    fact(terminal, "dead letters", &one.dead_letters.to_string())?;
    fact(terminal, "consumers", &one.consumers.to_string())?;
    fact(terminal, "created", &words::time(one.create_time.as_ref()))?;
    let Some(definition) = &one.definition else { return Ok(()) };
    fact(terminal, "mode", &word("SubscriptionMode", definition.mode))?;
    fact(terminal, "ordering key", &word("OrderingKey", definition.ordering_key))?;
    let duration =
        |setting: &Option<prost_types::Duration>| setting.map(|setting| setting.to_string()).unwrap_or_default();
    fact(terminal, "lease", &duration(&definition.lease))?;
    fact(terminal, "outstanding max", &definition.outstanding_max.to_string())?;
    fact(terminal, "attempts max", &definition.attempts_max.to_string())?;
    let (min, max) = (duration(&definition.backoff_min), duration(&definition.backoff_max));
    fact(terminal, "backoff", &format!("{min} to {max}"))?;
    fact(terminal, "dead letters max", &definition.dead_letters_max.to_string())?;
    if definition.filters.is_empty() {
        return fact(terminal, "filter", "everything that the owner's grants allow");
    }
    for filter in &definition.filters {
        fact(terminal, "filter", &json::from_message("EventFilter", filter).to_string())?;
    }
    Ok(())
}

/// Dead letters as a table.
pub(super) fn dead_letters() -> Table {
    Table::new(&["POSITION", "SINCE", "ATTEMPTS>", "WHY", "PUBLISHER", "EVENT ID"])
}

/// One dead letter as a row of [`dead_letters`].
pub(super) fn dead_letter(letter: &DeadLetter) -> Vec<Cell> {
    let how = match (letter.replaying, letter.parked) {
        (true, _) => "being delivered again: ",
        (false, true) => "parked: ",
        (false, false) => "",
    };
    vec![
        Cell::styled(&letter.position, Style::Name),
        words::time(letter.time.as_ref()).into(),
        letter.attempts.to_string().into(),
        format!("{how}{}", letter.reason).into(),
        short_id(&letter.publisher).into(),
        Cell::styled(&letter.event_id, Style::Dim),
    ]
}

fn state(one: &Subscription) -> Cell {
    Cell::styled(word("SubscriptionState", one.state), style(one))
}

fn style(one: &Subscription) -> Style {
    match one.state() {
        SubscriptionState::Active => Style::Good,
        SubscriptionState::Paused => Style::Warning,
        SubscriptionState::Stopped | SubscriptionState::Lost => Style::Bad,
        SubscriptionState::Unspecified => Style::Plain,
    }
}

fn said(terminal: &Terminal, one: &Subscription) -> String {
    let way_out = match one.state() {
        SubscriptionState::Stopped => ": what its owner may read has changed; tradelane subscription resume",
        SubscriptionState::Lost => ": its place is gone with the log that it belonged to; tradelane subscription seek",
        SubscriptionState::Paused => ": tradelane subscription resume",
        SubscriptionState::Active | SubscriptionState::Unspecified => "",
    };
    let word = word("SubscriptionState", one.state);
    format!("{}{way_out}", terminal.style(style(one), &word))
}

fn count(dead_letters: u32) -> Cell {
    Cell::styled(dead_letters.to_string(), if dead_letters == 0 { Style::Plain } else { Style::Warning })
}
