//! What was measured: single runs as they were, and ratios between what ran in alternation. It never drops a run.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{child::Usage, drive::Driven};
use crate::cli::{
    Failure,
    table::{Cell, Table},
    terminal::{Style, Terminal},
};

/// What ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum System {
    /// The node.
    Tradelane,
    /// Append and fdatasync.
    PlainFile,
    /// A server that answers nothing, over the same TLS.
    NoOpServer,
    /// A server that streams as many bytes, over the same TLS.
    BareStream,
}

/// One run of one system.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// The workload.
    pub workload: &'static str,
    /// What of it.
    pub case: String,
    /// What ran.
    pub system: System,
    /// Which of the alternating rounds.
    pub round: u32,
    /// How many events (or whatever the case counts) were done.
    pub count: u64,
    /// How long that took.
    pub seconds: f64,
    /// The quotient.
    pub per_second: f64,
    /// How long each request took, where that means something.
    pub latency_us: Option<LatencyUs>,
    /// Processor seconds of the server for a million.
    pub server_cpu_seconds_per_million: Option<f64>,
    /// Processor seconds of the measuring side for a million.
    pub client_cpu_seconds_per_million: Option<f64>,
    /// Resident memory of the server afterwards.
    pub rss_bytes: Option<u64>,
    /// What the log takes on disk for each event in it, indexes included.
    pub disk_bytes_per_event: Option<f64>,
}

/// Times in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LatencyUs {
    /// Half are not longer.
    pub p50: f64,
    /// 99 of 100 are not longer.
    pub p99: f64,
    /// 999 of 1,000 are not longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// How one system compares with another in the same run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    /// What is compared.
    pub name: String,
    /// The median of the rounds.
    pub median: f64,
    /// Each round.
    pub rounds: Vec<f64>,
    /// What we want it to be at least.
    pub goal_min: Option<f64>,
}

/// One number with its unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What we want it to be at most.
    pub goal_max: Option<f64>,
}

/// Everything that was measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    measurements: Vec<Measurement>,
    ratios: Vec<Ratio>,
    figures: Vec<Figure>,
}

impl LatencyUs {
    /// The percentiles of some times; all zero where there are none.
    #[must_use]
    pub fn of(mut latencies_ns: Vec<u64>) -> Self {
        latencies_ns.sort_unstable();
        let at = |per_mille: usize| {
            // The smallest time that so many are not longer than.
            let rank = (latencies_ns.len() * per_mille).div_ceil(1_000).max(1) - 1;
            latencies_ns.get(rank).map_or(0.0, |ns| *ns as f64 / 1_000.0)
        };
        Self { p50: at(500), p99: at(990), p999: at(999), max: at(1_000) }
    }
}

impl Measurement {
    /// A run of so many in so long.
    #[must_use]
    pub fn new(workload: &'static str, case: &str, system: System, round: u32, count: u64, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            workload,
            case: case.to_owned(),
            system,
            round,
            count,
            seconds,
            per_second: if seconds > 0.0 { count as f64 / seconds } else { 0.0 },
            latency_us: None,
            server_cpu_seconds_per_million: None,
            client_cpu_seconds_per_million: None,
            rss_bytes: None,
            disk_bytes_per_event: None,
        }
    }

    /// A drive's result.
    #[must_use]
    pub fn driven(workload: &'static str, case: &str, system: System, round: u32, driven: Driven) -> Self {
        let measured = Self::new(workload, case, system, round, driven.events, driven.elapsed);
        Self { latency_us: Some(LatencyUs::of(driven.latencies_ns)), ..measured }
    }

    /// With what server and client used for it, between two looks at both.
    #[must_use]
    pub fn used(self, before: (Usage, Usage), after: (Usage, Usage)) -> Self {
        let cpu = |before, after: Usage| Some(after.cpu_seconds_per_million_since(before, self.count));
        Self {
            server_cpu_seconds_per_million: cpu(before.0, after.0),
            client_cpu_seconds_per_million: cpu(before.1, after.1),
            rss_bytes: Some(after.0.rss_bytes),
            ..self
        }
    }
}

impl Report {
    /// Takes a run in.
    pub fn add(&mut self, measurement: Measurement) {
        self.measurements.push(measurement);
    }

    /// Compares, round by round: `ours` with `theirs`.
    pub fn compare(&mut self, name: String, goal_min: Option<f64>, ours: &[f64], theirs: &[f64]) {
        let rounds: Vec<f64> = ours.iter().zip(theirs).filter(|(_, limit)| **limit > 0.0).map(|(a, b)| a / b).collect();
        self.ratios.push(Ratio { name, median: median(&rounds), rounds, goal_min });
    }

    /// Takes a single number in.
    pub fn figure(&mut self, name: String, value: f64, unit: &'static str, goal_max: Option<f64>) {
        self.figures.push(Figure { name, value, unit, goal_max });
    }

    /// The median of what 99 of 100 requests of a case took, in microseconds.
    #[must_use]
    pub fn p99_us(&self, case: &str) -> f64 {
        let of_case = self.measurements.iter().filter(|one| one.case == case);
        median(&of_case.filter_map(|one| Some(one.latency_us?.p99)).collect::<Vec<_>>())
    }

    /// How many there were of a case, round by round.
    #[must_use]
    pub fn rates(&self, case: &str, system: System) -> Vec<f64> {
        let wanted = self.measurements.iter().filter(|one| one.case == case && one.system == system);
        wanted.map(|one| one.per_second).collect()
    }

    /// The whole as one document.
    #[must_use]
    pub fn document(&self, settings: &Value) -> Value {
        json!({ "settings": settings, "ratios": self.ratios, "figures": self.figures, "measurements": self.measurements })
    }

    /// Ratios first, then what was measured: the median of each case's rounds.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub fn print(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        for table in [self.ratio_table(), self.figure_table()].into_iter().filter(|table| !table.is_empty()) {
            table.print(terminal)?;
            terminal.line("")?;
        }
        Ok(self.table().print(terminal)?)
    }

    fn ratio_table(&self) -> Table {
        let mut table = Table::new(&["RATIO", "MEDIAN>", "ROUNDS>", "GOAL>"]);
        for ratio in &self.ratios {
            let rounds: Vec<_> = ratio.rounds.iter().map(|round| format!("{round:.2}")).collect();
            let style = judged(ratio.goal_min.map(|goal| goal <= ratio.median));
            let goal = ratio.goal_min.map(|goal| format!("{goal:.2} or more")).unwrap_or_default();
            let median = Cell::styled(format!("{:.2}", ratio.median), style);
            table.row(vec![ratio.name.as_str().into(), median, rounds.join(" ").into(), goal.into()]);
        }
        table
    }

    fn figure_table(&self) -> Table {
        let mut table = Table::new(&["FIGURE", "VALUE>", "UNIT", "GOAL>"]);
        for figure in &self.figures {
            let style = judged(figure.goal_max.map(|goal| figure.value <= goal));
            let goal = figure.goal_max.map(|goal| format!("{goal:.0} or less")).unwrap_or_default();
            let value = Cell::styled(format!("{:.0}", figure.value), style);
            table.row(vec![figure.name.as_str().into(), value, figure.unit.into(), goal.into()]);
        }
        table
    }

    fn table(&self) -> Table {
        let headings = [
            "CASE",
            "SYSTEM",
            "COUNT>",
            "/S>",
            "P50 µS>",
            "P99 µS>",
            "P99.9 µS>",
            "SERVER CPU S/M>",
            "CLIENT CPU S/M>",
            "RSS MIB>",
            "DISK B/EVENT>",
        ];
        let mut table = Table::new(&headings);
        let mut shown: Vec<(&str, System)> = Vec::new();
        for first in &self.measurements {
            if shown.contains(&(&first.case, first.system)) {
                continue;
            }
            shown.push((&first.case, first.system));
            let all: Vec<_> =
                self.measurements.iter().filter(|one| one.case == first.case && one.system == first.system).collect();
            let of = |value: fn(&Measurement) -> Option<f64>, decimals: usize| {
                let values: Vec<f64> = all.iter().filter_map(|one| value(one)).collect();
                if values.is_empty() { String::new() } else { format!("{:.decimals$}", median(&values)) }
            };
            let cells = [
                first.case.clone(),
                first.system.words().to_owned(),
                of(|one| Some(one.count as f64), 0),
                of(|one| Some(one.per_second), 0),
                of(|one| one.latency_us.map(|latency| latency.p50), 0),
                of(|one| one.latency_us.map(|latency| latency.p99), 0),
                of(|one| one.latency_us.map(|latency| latency.p999), 0),
                of(|one| one.server_cpu_seconds_per_million, 2),
                of(|one| one.client_cpu_seconds_per_million, 2),
                of(|one| one.rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), 0),
                of(|one| one.disk_bytes_per_event, 0),
            ];
            table.row(cells.into_iter().map(Cell::from).collect());
        }
        table
    }
}

/// How to show something that has a goal.
const fn judged(is_reached: Option<bool>) -> Style {
    match is_reached {
        Some(true) => Style::Good,
        Some(false) => Style::Bad,
        None => Style::Plain,
    }
}

impl System {
    const fn words(self) -> &'static str {
        match self {
            Self::Tradelane => "tradelane",
            Self::PlainFile => "plain file",
            Self::NoOpServer => "no-op server",
            Self::BareStream => "bare stream",
        }
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let latency = LatencyUs::of((1..=1_000).rev().map(|us| us * 1_000).collect());
        assert_eq!(latency, LatencyUs { p50: 500.0, p99: 990.0, p999: 999.0, max: 1_000.0 });
        assert_eq!(LatencyUs::of(vec![7_000]), LatencyUs { p50: 7.0, p99: 7.0, p999: 7.0, max: 7.0 });
        assert_eq!(LatencyUs::of(vec![]), LatencyUs::default());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut report = Report::default();
        report.compare("x".into(), Some(0.4), &[40.0, 90.0, 10.0], &[100.0, 100.0, 100.0]);
        assert_eq!((report.ratios[0].median, report.ratios[0].rounds.len()), (0.4, 3));
        assert_eq!(median(&[1.0, 4.0, 2.0, 3.0]).to_string(), "2.5");
    }

    #[test]
    fn a_case_is_one_line_however_many_rounds_it_had() {
        let mut report = Report::default();
        for (round, count) in [(1, 100), (2, 300), (3, 200)] {
            let elapsed = Duration::from_secs(1);
            report.add(Measurement::new("publish", "batches", System::Tradelane, round, count, elapsed));
        }
        let lines = report.table().lines(None, false);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("batches  tradelane    200  200"), "{}", lines[1]);
        assert_eq!(report.rates("batches", System::Tradelane), [100.0, 300.0, 200.0]);
    }
}
