//! What was measured, as tables of Markdown and as one JSON document: medians of the rounds, and the ratios of each round. It never drops a
//! run.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use crate::system::Facts;

/// What we want of the ratio of ours to another's; the same words as in a table's head.
const GOALS: [(&str, &str, Goal); 10] = [
    ("publish 256 x 16", "nats always", Goal::AtLeast(30.0)),
    ("publish 256 x 16", "nats default", Goal::AtLeast(1.0)),
    ("publish 256 x 16", "postgresql", Goal::AtLeast(7.0)),
    ("publish 256 x 16", "etcd", Goal::AtLeast(8.0)),
    ("publish 1 x 1", "nats always", Goal::AtLeast(1.25)),
    ("replay", "nats always", Goal::AtLeast(2.0)),
    ("replay", "nats default", Goal::AtLeast(2.0)),
    ("end to end at 2,000/s", "nats always", Goal::AtMost(0.5)),
    ("end to end at 2,000/s", "nats default", Goal::AtMost(2.0)),
    ("fan-out to 100", "nats default", Goal::AtLeast(2.5)),
];

/// What a ratio is to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Or more.
    AtLeast(f64),
    /// Or less.
    AtMost(f64),
}

/// What a case is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// How many a second.
    Rate,
    /// How long half of them took at most.
    Time,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// How many events, or deliveries.
    pub count: usize,
    /// How long all took.
    pub seconds: f64,
    /// The quotient.
    pub per_second: f64,
    /// How long each request took: half not longer, and 99 of 100 not longer, in milliseconds.
    pub p50_ms: Option<f64>,
    /// As above.
    pub p99_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    case: String,
    system: String,
    round: u32,
    #[serde(flatten)]
    run: Run,
}

#[derive(Debug, Serialize)]
struct Ratio {
    case: String,
    by: By,
    to: String,
    median: f64,
    rounds: Vec<f64>,
    goal: Option<Goal>,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    systems: Vec<Facts>,
    cases: Vec<(String, By)>,
    rows: Vec<Row>,
    absent: Vec<String>,
    failures: Vec<String>,
}

impl Run {
    /// So many in so long, of which each request took so long.
    #[must_use]
    pub fn new(count: usize, elapsed: Duration, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |percent: usize| {
            let rank = (latencies.len() * percent).div_ceil(100).max(1) - 1;
            latencies.get(rank).map(|time| time.as_secs_f64() * 1_000.0)
        };
        let seconds = elapsed.as_secs_f64();
        Self { count, seconds, per_second: count as f64 / seconds, p50_ms: at(50), p99_ms: at(99) }
    }
}

impl Report {
    /// Says what takes part.
    pub fn system(&mut self, facts: Facts) {
        self.systems.push(facts);
    }

    /// Says what was left out, and why.
    pub fn absent(&mut self, what: String) {
        self.absent.push(what);
    }

    /// Says what could not be measured to its end.
    pub fn failed(&mut self, what: String) {
        self.failures.push(what);
    }

    /// Whether something could not.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Takes a run in.
    pub fn add(&mut self, case: &str, by: By, system: &str, round: u32, run: Run) {
        if !self.cases.iter().any(|(known, _)| known == case) {
            self.cases.push((case.to_owned(), by));
        }
        self.rows.push(Row { case: case.to_owned(), system: system.to_owned(), round, run });
    }

    /// The whole as one document.
    #[must_use]
    pub fn document(&self, settings: &Value) -> Value {
        json!({
            "settings": settings,
            "systems": self.systems,
            "absent": self.absent,
            "failures": self.failures,
            "ratios": self.ratios(),
            "measurements": self.rows,
        })
    }

    /// The tables: what was measured, how ours compares, and what must be known to read them.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let names: Vec<&str> = self.systems.iter().map(|facts| facts.name.as_str()).collect();
        let head = |text: &mut String, first: &str, names: &[&str]| {
            let _ = writeln!(text, "| {first} | {} |", names.join(" | "));
            let _ = writeln!(text, "|---|{}", "--:|".repeat(names.len()));
        };
        text.push_str("What was measured, the median of the rounds: events (deliveries) a second, and the milliseconds that half and 99 of 100 \
                       requests took at most.\n\n");
        head(&mut text, "case", &names);
        for (case, by) in &self.cases {
            let cells: Vec<_> = names.iter().map(|name| self.cell(case, *by, name)).collect();
            let _ = writeln!(text, "| {case} | {} |", cells.join(" | "));
        }
        let others: Vec<&str> = names.iter().skip(1).copied().collect();
        if let (Some(ours), false) = (names.first(), others.is_empty()) {
            let _ = writeln!(
                text,
                "\n{ours} as a multiple of the other, the median of the ratios of each round; of times, less is better.\n"
            );
            head(&mut text, "case", &others);
            let ratios = self.ratios();
            for (case, by) in &self.cases {
                let cell = |name: &&str| {
                    let ratio = ratios.iter().find(|ratio| ratio.case == *case && ratio.to == **name);
                    ratio.map_or("–".to_owned(), Ratio::cell)
                };
                let unit = if *by == By::Time { ", time" } else { "" };
                let cells: Vec<_> = others.iter().map(cell).collect();
                let _ = writeln!(text, "| {case}{unit} | {} |", cells.join(" | "));
            }
        }
        text.push_str(
            "\n| system | version | an acknowledgement means | settings | not alike |\n|---|---|---|---|---|\n",
        );
        for Facts { name, version, durability, settings, not_alike } in &self.systems {
            let _ = writeln!(text, "| {name} | {version} | {durability} | {settings} | {not_alike} |");
        }
        for what in &self.absent {
            let _ = writeln!(text, "\nNOT COMPARED: {what}");
        }
        for what in &self.failures {
            let _ = writeln!(text, "\nFAILED: {what}");
        }
        text
    }

    fn runs<'run>(&'run self, case: &'run str, system: &'run str) -> impl Iterator<Item = &'run Row> {
        self.rows.iter().filter(move |row| row.case == case && row.system == system)
    }

    fn cell(&self, case: &str, by: By, system: &str) -> String {
        let of = |value: fn(&Run) -> Option<f64>| {
            median(self.runs(case, system).filter_map(|row| value(&row.run)).collect())
        };
        let times = of(|run| run.p50_ms).zip(of(|run| run.p99_ms)).map(|(p50, p99)| format!("{p50:.2} / {p99:.2} ms"));
        let rate = of(|run| Some(run.per_second)).map(|rate| format!("{rate:.0}"));
        match (by, rate, times) {
            (By::Rate, Some(rate), Some(times)) => format!("{rate}, {times}"),
            (By::Rate, Some(only), None) | (By::Time, _, Some(only)) => only,
            _ => "–".to_owned(),
        }
    }

    fn ratios(&self) -> Vec<Ratio> {
        let Some(ours) = self.systems.first() else { return Vec::new() };
        let mut ratios = Vec::new();
        for (case, by) in &self.cases {
            for other in self.systems.iter().skip(1) {
                let value = |run: &Run| if *by == By::Time { run.p50_ms } else { Some(run.per_second) };
                let pairs = self.runs(case, &ours.name).filter_map(|row| {
                    let theirs = self.runs(case, &other.name).find(|theirs| theirs.round == row.round)?;
                    Some(value(&row.run)? / value(&theirs.run)?)
                });
                let rounds: Vec<f64> = pairs.collect();
                let goal = GOALS.iter().find(|(of, to, _)| of == case && *to == other.name).map(|(_, _, goal)| *goal);
                if let Some(median) = median(rounds.clone()) {
                    ratios.push(Ratio { case: case.clone(), by: *by, to: other.name.clone(), median, rounds, goal });
                }
            }
        }
        ratios
    }
}

impl Ratio {
    fn cell(&self) -> String {
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtLeast(goal)) => format!(" (goal: {goal} or more)"),
            Some(Goal::AtMost(goal)) => format!(" (goal: {goal} or less)"),
        };
        format!("{:.2}{goal}", self.median)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    Some(if values.len() % 2 == 1 { *upper } else { f64::midpoint(values[middle - 1], *upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str) -> Facts {
        Facts { name: name.to_owned(), version: String::new(), durability: "", settings: String::new(), not_alike: "" }
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_nothing_is_compared_with_what_did_not_run() {
        let mut report = Report::default();
        for name in ["tradelane", "etcd", "postgresql"] {
            report.system(facts(name));
        }
        let second = Duration::from_secs(1);
        for (round, ours, theirs) in [(1, 40, 10), (2, 90, 10), (3, 10, 10)] {
            report.add("publish 256 x 16", By::Rate, "tradelane", round, Run::new(ours, second, vec![]));
            report.add("publish 256 x 16", By::Rate, "etcd", round, Run::new(theirs, second, vec![]));
        }
        let document = report.document(&json!({}));
        assert_eq!(document["ratios"].as_array().unwrap().len(), 1);
        assert_eq!(document["ratios"][0]["rounds"], json!([4.0, 9.0, 1.0]));
        let text = report.markdown();
        assert!(text.contains("| publish 256 x 16 | 40 | 10 | – |"), "{text}");
        assert!(text.contains("| publish 256 x 16 | 4.00 (goal: 8 or more) | – |"), "{text}");
    }

    #[test]
    fn of_times_the_middle_one_is_compared() {
        let mut report = Report::default();
        for name in ["tradelane", "etcd"] {
            report.system(facts(name));
        }
        let times = |of: [u64; 3]| Run::new(3, Duration::from_secs(1), of.map(Duration::from_millis).to_vec());
        report.add("end to end", By::Time, "tradelane", 1, times([9, 1, 2]));
        report.add("end to end", By::Time, "etcd", 1, times([4, 4, 7]));
        let text = report.markdown();
        assert!(text.contains("| end to end | 2.00 / 9.00 ms | 4.00 / 7.00 ms |"), "{text}");
        assert!(text.contains("| end to end, time | 0.50 |"), "{text}");
    }
}
