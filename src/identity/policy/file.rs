//! The policy file: grants as their operator writes them. It never lets a misspelt word widen a grant: whatever is not understood is a
//! fault, and a policy with a fault is not taken.
//!
//! ```toml
//! [[grant]]
//! id = "pakistan-customs"
//! who = ["spiffe://customs.gov.pk/*"]
//! actions = ["publish", "read"]
//! filters = [{ places = [{ country_code = "PK" }] }, { parties = [{ participant = "$caller" }] }]
//! ```

use std::{collections::BTreeSet, path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Action, Grant, Policy, Successors};
use crate::{
    config::nearest::nearest,
    domain::{
        Filter, SpiffePattern,
        filter::{FILTERS_MAX, FilterSpec, PartySpec, PlaceSpec, SubjectSpec, TimeRangeSpec},
    },
    identity::toml_file::{Faults, TomlFile, join},
};

/// At most so many grants: each is looked at for each new connection.
pub const GRANTS_MAX: usize = 4_096;
const GRANT_ID_BYTES_MAX: usize = 128;

/// Reads the policy file.
///
/// # Errors
/// Every fault of the file, with its line.
pub fn read(path: &Path, successors: &Successors) -> Result<Policy, Faults> {
    compile(TomlFile::load(path)?, successors)
}

/// Reads a policy from text, as [`read`] does from a file; `path` is what faults name.
///
/// # Errors
/// As for [`read`].
pub fn parse(text: &str, path: &Path, successors: &Successors) -> Result<Policy, Faults> {
    compile(TomlFile::of(path, text.to_owned()), successors)
}

/// A grant as written.
#[derive(Debug, Deserialize)]
struct GrantText {
    id: String,
    who: Vec<String>,
    actions: Vec<String>,
    #[serde(default)]
    history: Option<String>,
    #[serde(default)]
    start_time: Option<toml::Value>,
    #[serde(default)]
    expires_time: Option<toml::Value>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    private: bool,
}

const GRANT_KEYS: [&str; 9] =
    ["id", "who", "actions", "filters", "all", "history", "start_time", "expires_time", "private"];

/// Every key that the file may have, of grants, filters and what stands in these.
#[cfg(test)]
pub(super) fn keys() -> Vec<String> {
    let of_filters = filter_keys().into_iter().flat_map(|(key, inner)| inner.into_iter().chain([key]));
    GRANT_KEYS.iter().map(|key| (*key).to_owned()).filter(|key| key != "filters").chain(of_filters).collect()
}

fn compile(mut file: TomlFile, successors: &Successors) -> Result<Policy, Faults> {
    let text = file.text();
    let top = file.top(&text).unwrap_or_default();
    file.check_keys(&top, &["grant"], "");
    let mut grants = Vec::new();
    let mut ids = BTreeSet::new();
    for (index, (line, value)) in file.tables(&top, "grant").into_iter().enumerate() {
        let path = format!("grant[{index}]");
        let Some(grant) = read_grant(&mut file, line, &value, &path) else { continue };
        if !ids.insert(grant.id.clone()) {
            file.fault(Some(line), &join(&path, "id"), format!("{:?} is the id of another grant too", grant.id));
        }
        grants.push(Arc::new(grant));
    }
    if grants.len() > GRANTS_MAX {
        file.fault(None, "grant", format!("must be at most {GRANTS_MAX} grants"));
    }
    file.finish(Policy { generation: 1, grants, successors: successors.clone() })
}

fn read_grant(file: &mut TomlFile, line: usize, value: &Spanned<DeValue<'_>>, path: &str) -> Option<Grant> {
    let Some(mut table) = value.get_ref().as_table().cloned() else {
        file.fault(Some(line), path, "must be a table".to_owned());
        return None;
    };
    file.check_keys(&table, &GRANT_KEYS, path);
    let filters = table.remove("filters");
    let span = value.span();
    let text: GrantText = file.read(Spanned::new(span, DeValue::Table(table)), path)?;

    let mut fault = |key: &str, description: String| file.fault(Some(line), &join(path, key), description);
    if text.id.is_empty() || text.id.len() > GRANT_ID_BYTES_MAX {
        fault("id", format!("must have 1 to {GRANT_ID_BYTES_MAX} bytes"));
    }
    if text.who.is_empty() {
        fault("who", "must name somebody: a SPIFFE ID, or a prefix that ends in /*".to_owned());
    }
    let mut who = Vec::new();
    for (index, pattern) in text.who.iter().enumerate() {
        match SpiffePattern::parse(pattern) {
            Ok(pattern) => who.push(pattern),
            Err(why) => fault(&format!("who[{index}]"), format!("{pattern:?} {why}")),
        }
    }
    if text.actions.is_empty() {
        fault("actions", format!("must name at least one of {}", Action::WORDS.join(", ")));
    }
    let mut actions = Vec::new();
    for (index, word) in text.actions.iter().enumerate() {
        match Action::from_word(word) {
            Some(action) => actions.push(action),
            None => fault(&format!("actions[{index}]"), unknown_word(word, &Action::WORDS)),
        }
    }
    let start_time_ns = read_time(text.start_time.as_ref()).unwrap_or_else(|why| {
        fault("start_time", why);
        None
    });
    let expires_time_ns = read_time(text.expires_time.as_ref()).unwrap_or_else(|why| {
        fault("expires_time", why);
        None
    });
    if start_time_ns.zip(expires_time_ns).is_some_and(|(start, end)| end <= start) {
        fault("expires_time", "must be after start_time".to_owned());
    }
    let history_from_start = match text.history.as_deref() {
        None | Some("all") => false,
        Some("from_start") => true,
        Some(other) => {
            fault("history", unknown_word(other, &["all", "from_start"]));
            true
        }
    };
    if history_from_start && start_time_ns.is_none() {
        fault("start_time", "must be set where history is \"from_start\"".to_owned());
    }
    let (specs, compiled) = read_filters(file, line, filters.as_ref(), text.all, &actions, path);
    Some(Grant {
        id: text.id,
        who,
        actions,
        filters: specs,
        compiled,
        start_time_ns,
        expires_time_ns,
        history_from_start,
        private: text.private,
    })
}

fn read_filters(
    file: &mut TomlFile,
    line: usize,
    value: Option<&Spanned<DeValue<'_>>>,
    all: bool,
    actions: &[Action],
    path: &str,
) -> (Vec<FilterSpec>, Vec<Filter>) {
    let at = join(path, "filters");
    let items = match value.map(|value| (value.get_ref().as_array(), value.span().start)) {
        None => Vec::new(),
        Some((Some(items), _)) => items.iter().cloned().collect(),
        Some((None, start)) => {
            file.fault(Some(file.line_of(start)), &at, "must be a list of filters".to_owned());
            return (Vec::new(), Vec::new());
        }
    };
    if all && !items.is_empty() {
        file.fault(
            Some(line),
            &join(path, "all"),
            "cannot be true beside filters, which it would make void".to_owned(),
        );
    }
    if items.len() > FILTERS_MAX {
        file.fault(Some(line), &at, format!("must be at most {FILTERS_MAX} filters"));
    }
    if items.is_empty() && !all && actions.iter().any(|action| action.is_about_events()) {
        let why = "must say which events are meant; to mean every event, write all = true in the grant".to_owned();
        file.fault(Some(line), &at, why);
    }
    let (mut specs, mut compiled) = (Vec::new(), Vec::new());
    if all {
        specs.push(FilterSpec { all: true, ..FilterSpec::default() });
    }
    let mut lines = vec![line; specs.len()];
    for (index, item) in items.into_iter().enumerate() {
        let path = format!("{at}[{index}]");
        check_filter_keys(file, &item, &path);
        let line = file.line_of(item.span().start);
        if let Some(spec) = file.read::<FilterSpec>(without_unknown_keys(item), &path) {
            lines.push(line);
            specs.push(spec);
        }
    }
    for (index, (spec, line)) in specs.iter().zip(lines).enumerate() {
        match Filter::compile(spec, true) {
            Ok(filter) => compiled.push(filter),
            Err(problems) => {
                for problem in problems {
                    let field = join(&format!("{at}[{index}]"), &problem.field);
                    file.fault(Some(line), &field, format!("{} ({})", problem.description, problem.reason));
                }
            }
        }
    }
    (specs, compiled)
}

/// Takes unknown keys out, since they are noted already and would end the reading of what else is wrong.
fn without_unknown_keys(item: Spanned<DeValue<'_>>) -> Spanned<DeValue<'_>> {
    let span = item.span();
    let mut value = item.into_inner();
    if let DeValue::Table(table) = &mut value {
        let known = filter_keys();
        let keys: Vec<&str> = known.iter().map(|(name, _)| &**name).collect();
        keep_keys(table, &keys);
        for (name, inner) in &known {
            let Some(DeValue::Array(list)) = table.get_mut(&**name).map(Spanned::get_mut) else { continue };
            for item in list.iter_mut() {
                if let DeValue::Table(table) = item.get_mut() {
                    keep_keys(table, &inner.iter().map(|name| &**name).collect::<Vec<_>>());
                }
            }
        }
    }
    Spanned::new(span, value)
}

fn keep_keys(table: &mut DeTable<'_>, known: &[&str]) {
    let unknown: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in unknown.iter().filter(|key| !known.contains(&key.as_str())) {
        table.remove(key.as_str());
    }
}

fn check_filter_keys(file: &mut TomlFile, item: &Spanned<DeValue<'_>>, path: &str) {
    let Some(table) = item.get_ref().as_table() else { return };
    let known = filter_keys();
    file.check_keys(table, &known.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), path);
    for (name, inner) in &known {
        let inner: Vec<&str> = inner.iter().map(|name| &**name).collect();
        match table.get(&**name).map(Spanned::get_ref) {
            Some(DeValue::Array(list)) => {
                for (index, item) in list.iter().enumerate() {
                    check_inner(file, item.get_ref().as_table(), &inner, &format!("{path}.{name}[{index}]"));
                }
            }
            Some(value) => check_inner(file, value.as_table(), &inner, &join(path, name)),
            None => {}
        }
    }
}

fn check_inner(file: &mut TomlFile, table: Option<&DeTable<'_>>, known: &[&str], path: &str) {
    if let Some(table) = table {
        file.check_keys(table, known, path);
    }
}

/// The keys of a filter and, for those that hold tables, the keys of these: as the types have them, so that they cannot drift.
fn filter_keys() -> Vec<(String, Vec<String>)> {
    let of = |key: &str| match key {
        "subjects" => keys_of(&SubjectSpec::default()),
        "places" => keys_of(&PlaceSpec::default()),
        "parties" => keys_of(&PartySpec::default()),
        "event_time" | "accepted_time" => keys_of(&TimeRangeSpec::default()),
        _ => Vec::new(),
    };
    keys_of(&FilterSpec::default()).into_iter().map(|key| (key.clone(), of(&key))).collect()
}

fn keys_of<T: serde::Serialize>(value: &T) -> Vec<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(map)) => map.into_iter().map(|(key, _)| key).collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

fn unknown_word(word: &str, known: &[&str]) -> String {
    let hint =
        nearest(word, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    format!("{word:?} is not one of {}{hint}", known.join(", "))
}

fn read_time(value: Option<&toml::Value>) -> Result<Option<i64>, String> {
    let Some(value) = value else { return Ok(None) };
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Datetime(time) => time.to_string(),
        _ => String::new(),
    };
    let wrong = || "must be a time as in RFC 3339 with its offset, such as 2026-07-01T00:00:00Z".to_owned();
    let time: DateTime<Utc> = DateTime::parse_from_rfc3339(&text).map_err(|_| wrong())?.to_utc();
    time.timestamp_nanos_opt().map(Some).ok_or_else(wrong)
}
