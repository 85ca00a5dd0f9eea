//! Clearances as an officer at a desk or a gate reads them: first whether it may go on, then why not, then who said what when. It never
//! says "may leave" of what the node did not.

use std::io;

use crate::{
    cli::{
        events::{fact, titled},
        origins,
        table::{Cell, Table},
        terminal::{Style, Terminal, printable},
        words::{self, short_id, word},
    },
    wire::proto::{
        ClearanceChange, ClearanceLifecycle, ClearanceStatus, CoverageExtent, GetClearanceResponse, Obstacle, OpenHold,
        Place, StatedStep, Statement,
    },
};

/// The columns of a list of clearances.
#[must_use]
pub fn table() -> Table {
    Table::new(&["SUBJECT", "MAY LEAVE", "STATE", "SINCE", "HOLDS", "COVERAGE", "AUTHORITY"])
}

/// One clearance as a row of [`table`].
#[must_use]
pub fn row(clearance: &ClearanceStatus) -> Vec<Cell> {
    let set_by = clearance.lifecycles.first().and_then(|lifecycle| lifecycle.state_set_by.as_ref());
    let since = set_by.or_else(|| clearance.open_holds.last().and_then(|hold| hold.placed_by.as_ref()));
    vec![
        Cell::styled(clearance.subject.as_ref().map(words::subject).unwrap_or_default(), Style::Name),
        verdict_cell(clearance),
        states(clearance).into(),
        Cell::styled(words::time(since.and_then(|statement| statement.event_time.as_ref())), Style::Dim),
        holds(clearance).into(),
        coverage(clearance).into(),
        Cell::styled(short_id(since.map(|statement| statement.authority.as_str()).unwrap_or_default()), Style::Dim),
    ]
}

/// One clearance, whole.
///
/// # Errors
/// Standard output is closed or full.
pub fn clearance(terminal: &mut Terminal, answer: &GetClearanceResponse) -> io::Result<()> {
    let Some(clearance) = &answer.clearance else { return Ok(()) };
    let subject = clearance.subject.as_ref().map(words::subject).unwrap_or_default();
    let (style, verdict) = verdict(clearance);
    let line =
        [terminal.style(Style::Name, &printable(&subject)).into_owned(), terminal.style(style, &verdict).into_owned()];
    terminal.line(&line.join("  "))?;
    fact(terminal, "coverage", &coverage_in_words(clearance))?;
    for origin in &answer.origins {
        fact(terminal, "source", &origins::in_words(origin))?;
    }
    let mut lifecycles = Table::new(&["CLEARED BY", "STATE", "SINCE", "AUTHORITY", "OFFICE", "REMARK", "EVENT ID"]);
    for lifecycle in &clearance.lifecycles {
        lifecycles.row(lifecycle_row(lifecycle));
        for item in &lifecycle.goods_items {
            let name = format!("  item {}", item.goods_item);
            let mut row = said(&name, item.state, item.state_set_by.as_ref(), lifecycle, "");
            row[0] = name.into();
            lifecycles.row(row);
        }
    }
    titled(terminal, "Lifecycles", &lifecycles)?;
    let mut holds = Table::new(&["HOLD", "KIND", "SINCE", "AUTHORITY", "OFFICE", "REASON", "EVENT ID"]);
    for hold in &clearance.open_holds {
        holds.row(hold_row(hold));
    }
    titled(terminal, "Open holds", &holds)?;
    if clearance.withheld_holds > 0 {
        let words = format!("and {} more that you may not read", clearance.withheld_holds);
        let words = terminal.style(Style::Bad, &words).into_owned();
        terminal.line(&words)?;
    }
    let mut odd = Table::new(&["WHAT", "FROM", "TO", "SINCE", "AUTHORITY", "EVENT ID"]);
    for anomaly in clearance.lifecycles.iter().flat_map(|lifecycle| &lifecycle.anomalies) {
        let by = anomaly.to_statement.as_ref();
        odd.row(vec![
            Cell::styled(word("AnomalyKind", anomaly.kind).replace('_', " "), Style::Warning),
            in_words(anomaly.from).into(),
            in_words(anomaly.to).into(),
            time_cell(by),
            authority_cell(by),
            id_cell(by),
        ]);
    }
    titled(terminal, "Moves that should not be", &odd)?;
    let mut revised = Table::new(&["EVENT ID", "AUTHORITY", "REVISED BY"]);
    for one in &clearance.revised {
        let by = one.statement.as_ref();
        revised.row(vec![id_cell(by), authority_cell(by), Cell::styled(&one.revised_by, Style::Dim)]);
    }
    titled(terminal, "Corrected or retracted", &revised)
}

/// One change as a line.
#[must_use]
pub fn change_line(terminal: &Terminal, change: &ClearanceChange) -> String {
    let subject = change.subject.as_ref().map(words::subject).unwrap_or_default();
    let subject = terminal.style(Style::Name, &printable(&format!("{subject:<30}"))).into_owned();
    let Some(after) = &change.after else {
        let what = if change.too_large {
            "too much belongs to it to tell how it stands"
        } else {
            "nothing is known of it any more"
        };
        return format!("{subject}  {what}");
    };
    let (style, verdict) = verdict(after);
    let verdict = terminal.style(style, &verdict).into_owned();
    let before = change.before.as_ref().map(states).unwrap_or_default();
    let now = states(after);
    let moved = if [now.as_str(), "", "-"].contains(&before.as_str()) { now } else { format!("{before} -> {now}") };
    format!("{subject}  {:<34}  {verdict}", printable(&moved))
}

/// Whether it may leave, and else the reasons in few words.
fn verdict(clearance: &ClearanceStatus) -> (Style, String) {
    if clearance.released {
        return (Style::Good, "may leave".to_owned());
    }
    let reason = |obstacle: &i32| match Obstacle::try_from(*obstacle) {
        Ok(Obstacle::NoClearance) => "nothing cleared".to_owned(),
        Ok(Obstacle::NotReleased) => "not released".to_owned(),
        Ok(Obstacle::HoldOpen) => holds(clearance),
        Ok(Obstacle::CoverageIncomplete) => format!("declarations {}known in part", coverage_prefix(clearance)),
        Ok(Obstacle::Withheld) => "withheld".to_owned(),
        Ok(Obstacle::SourceIncomplete) => "a node with part in it is not heard wholly".to_owned(),
        // A newer node has a reason of which this program does not know: it is one all the same.
        Ok(Obstacle::Unspecified) | Err(_) => "for another reason".to_owned(),
    };
    let reasons: Vec<String> = clearance.obstacles.iter().map(reason).collect();
    let held = clearance.obstacles.contains(&Obstacle::HoldOpen.into());
    (if held { Style::Bad } else { Style::Warning }, format!("may not leave: {}", reasons.join(", ")))
}

fn coverage_prefix(clearance: &ClearanceStatus) -> &'static str {
    let extent = clearance.coverage.as_ref().map(crate::wire::proto::ClearanceCoverage::extent);
    if extent == Some(CoverageExtent::Unknown) { "not even " } else { "only " }
}

fn verdict_cell(clearance: &ClearanceStatus) -> Cell {
    let held = clearance.withheld_holds > 0 || !clearance.open_holds.is_empty();
    match (clearance.released, held) {
        (true, _) => Cell::styled("yes", Style::Good),
        (false, true) => Cell::styled("no, held", Style::Bad),
        (false, false) => Cell::styled("no", Style::Warning),
    }
}

/// The states of what clears it: one word where they are one, else each once.
fn states(clearance: &ClearanceStatus) -> String {
    let mut states: Vec<String> = Vec::new();
    for lifecycle in &clearance.lifecycles {
        let partly = if lifecycle.goods_items.is_empty() { "" } else { " (items differ)" };
        let state = format!("{}{partly}", in_words(lifecycle.state));
        if !states.contains(&state) {
            states.push(state);
        }
    }
    if states.is_empty() { "-".to_owned() } else { states.join(", ") }
}

fn holds(clearance: &ClearanceStatus) -> String {
    let named = clearance.open_holds.iter().map(|hold| {
        let kind = word("HoldKind", hold.kind).replace('_', " ");
        format!("held by {} ({kind})", hold.authority_domain)
    });
    let withheld = (clearance.withheld_holds > 0).then(|| format!("{} withheld", clearance.withheld_holds));
    let all: Vec<String> = named.chain(withheld).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn coverage(clearance: &ClearanceStatus) -> String {
    clearance.coverage.as_ref().map(|coverage| word("CoverageExtent", coverage.extent)).unwrap_or_default()
}

fn coverage_in_words(clearance: &ClearanceStatus) -> String {
    let said_by = clearance.coverage.iter().flat_map(|coverage| &coverage.said_by);
    let by: Vec<String> = said_by.map(|by| format!("{} in {}", short_id(&by.authority), by.event_id)).collect();
    let extent = coverage(clearance);
    if by.is_empty() { extent } else { format!("{extent}, as says {}", by.join(", ")) }
}

fn lifecycle_row(lifecycle: &ClearanceLifecycle) -> Vec<Cell> {
    let numbers = lifecycle.subject.iter().chain(&lifecycle.other_numbers).map(words::subject);
    let remark = if lifecycle.history_incomplete { "earlier steps are missing here" } else { "" };
    let numbers: Vec<String> = numbers.collect();
    said(&numbers.join(" = "), lifecycle.state, lifecycle.state_set_by.as_ref(), lifecycle, remark)
}

fn said(name: &str, state: i32, by: Option<&Statement>, of: &ClearanceLifecycle, remark: &str) -> Vec<Cell> {
    let set_by = |step: &&StatedStep| by.is_some() && step.statement.as_ref() == by;
    let office = of.steps.iter().find(set_by).and_then(|step| step.office.as_ref());
    vec![
        Cell::styled(name, Style::Name),
        in_words(state).into(),
        time_cell(by),
        authority_cell(by),
        office_cell(office),
        remark.into(),
        id_cell(by),
    ]
}

fn hold_row(hold: &OpenHold) -> Vec<Cell> {
    let by = hold.placed_by.as_ref();
    let reason = |reason: &crate::wire::proto::Reason| match (reason.code.as_str(), reason.text.as_str()) {
        ("", text) => text.to_owned(),
        (code, "") => format!("{} {code}", reason.scheme),
        (code, text) => format!("{text} ({} {code})", reason.scheme),
    };
    let reasons: Vec<String> = hold.reasons.iter().map(reason).collect();
    vec![
        Cell::styled(&hold.hold_id, Style::Bad),
        word("HoldKind", hold.kind).replace('_', " ").into(),
        time_cell(by),
        authority_cell(by),
        office_cell(hold.office.as_ref()),
        reasons.join("; ").into(),
        id_cell(by),
    ]
}

fn in_words(state: i32) -> String {
    match word("ClearanceStep", state) {
        none if none.is_empty() => "-".to_owned(),
        word => word.replace('_', " "),
    }
}

fn time_cell(by: Option<&Statement>) -> Cell {
    Cell::styled(words::time(by.and_then(|by| by.event_time.as_ref())), Style::Dim)
}

fn authority_cell(by: Option<&Statement>) -> Cell {
    Cell::from(short_id(by.map(|by| by.authority.as_str()).unwrap_or_default()))
}

fn office_cell(office: Option<&Place>) -> Cell {
    Cell::from(office.map(words::place).unwrap_or_default())
}

fn id_cell(by: Option<&Statement>) -> Cell {
    Cell::styled(by.map(|by| by.event_id.as_str()).unwrap_or_default(), Style::Dim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{json, terminal::OutputFormat};

    fn status(text: &str) -> ClearanceStatus {
        json::read_typed("ClearanceStatus", text).expect("a status")
    }

    const HELD: &str = r#"{"subject": {"kind": "IDENTIFIER_KIND_CONTAINER", "value": "CSQU3054383"},
        "obstacles": ["OBSTACLE_NOT_RELEASED", "OBSTACLE_HOLD_OPEN"], "withheldHolds": 1,
        "lifecycles": [{"state": "CLEARANCE_STEP_ACCEPTED", "stateSetBy": {"eventTime": "2026-11-24T06:15:00Z",
            "authority": "spiffe://customs.gov.pk/agency/karachi"}}],
        "openHolds": [{"authorityDomain": "plants.gov.pk", "holdId": "P-1", "kind": "HOLD_KIND_PHYTOSANITARY"}],
        "coverage": {"extent": "COVERAGE_EXTENT_COMPLETE"}}"#;

    #[test]
    fn a_row_says_what_an_officer_asks_first() {
        let cells = row(&status(HELD));
        let texts: Vec<&str> = cells.iter().map(Cell::text).collect();
        assert_eq!(
            texts,
            [
                "container CSQU3054383",
                "no, held",
                "accepted",
                "2026-11-24T06:15:00Z",
                "held by plants.gov.pk (phytosanitary), 1 withheld",
                "complete",
                "customs.gov.pk/agency/karachi",
            ]
        );
    }

    #[test]
    fn only_what_the_node_releases_may_leave() {
        let mut released = status(HELD);
        assert!(verdict(&released).1.starts_with("may not leave: not released, held by plants.gov.pk"));
        released.obstacles = vec![99];
        assert_eq!(verdict(&released).1, "may not leave: for another reason");
        released.released = true;
        assert_eq!((verdict(&released).1.as_str(), verdict_cell(&released).text()), ("may leave", "yes"));
        let terminal = Terminal::new(OutputFormat::Jsonl);
        let change =
            ClearanceChange { subject: released.subject.clone(), before: Some(status(HELD)), ..Default::default() };
        assert!(change_line(&terminal, &change).ends_with("nothing is known of it any more"));
        let change = ClearanceChange { after: Some(released), ..change };
        assert!(change_line(&terminal, &change).ends_with("accepted                            may leave"));
    }
}
