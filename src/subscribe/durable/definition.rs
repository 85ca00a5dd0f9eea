//! What a durable subscription is, as it is stored. It never says how far it is.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::settings::Settings;
use crate::{
    domain::{Filter, SpiffeId, filter::FilterSpec},
    identity::{Action, Rights},
};

/// One subscription. Stored as JSON, whose unknown fields are refused: one written by a newer program is not read wrongly.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Whose it is, by its SPIFFE ID.
    pub owner: String,
    /// Its name among its owner's.
    pub name: String,
    /// What it receives, by any of these; none: all that the owner's grants admit.
    pub filters: Vec<FilterSpec>,
    /// How it delivers.
    pub settings: Settings,
    /// When it was created, nanoseconds since 1970.
    pub create_time_ns: i64,
    /// Counts changes.
    pub revision: u64,
    /// The owner paused it.
    pub paused: bool,
    /// The node stopped it, since the owner's grants had changed.
    pub stopped: bool,
    /// Stands for what the owner's grants showed her when she last agreed to it.
    pub rights: u64,
}

impl Definition {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("names, numbers and texts are always JSON").into()
    }

    /// Reads the stored form, with its owner's name and its filters compiled.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn decode(bytes: &[u8]) -> Result<(Self, SpiffeId, Vec<Filter>), String> {
        let definition: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let owner = SpiffeId::parse(&definition.owner).map_err(|error| error.to_string())?;
        let compiled = definition.filters.iter().map(|spec| Filter::compile(spec, false));
        let filters = compiled.collect::<Result<_, _>>().map_err(|problems| format!("{problems:?}"))?;
        Ok((definition, owner, filters))
    }

    /// Whether both ask for the same.
    #[must_use]
    pub fn asks_as(&self, filters: &[FilterSpec], settings: &Settings) -> bool {
        self.filters == filters && self.settings == *settings
    }
}

/// Stands for what these rights show their holder at a moment: it changes when a read grant in force comes, goes or says otherwise, and not
/// when the policy is only read anew.
#[must_use]
pub fn fingerprint(rights: &Rights, now_ns: i64) -> u64 {
    let reads = rights.grants.iter().filter(|grant| grant.actions.contains(&Action::Read) && grant.is_in_force(now_ns));
    let shown: Vec<_> = reads
        .map(|grant| {
            let filters: Vec<_> =
                grant.filters.iter().filter_map(|spec| serde_json::to_value(spec).ok()).map(said).collect();
            (&grant.id, filters, grant.history_from_start.then_some(grant.start_time_ns), grant.private)
        })
        .collect();
    let former: Vec<&str> = rights.former_names.iter().map(SpiffeId::as_str).collect();
    let publishes = rights.may(Action::Publish, now_ns);
    let text = serde_json::to_vec(&(shown, former, publishes)).expect("names, numbers and texts are always JSON");
    xxh3_64(&text)
}

/// Only what is said: a field that a later program adds and nobody sets must not change anything.
fn said(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, said(value)));
            let empty = |value: &Value| match value {
                Value::Null | Value::Bool(false) => true,
                Value::String(text) => text.is_empty(),
                Value::Array(values) => values.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                Value::Bool(true) | Value::Number(_) => false,
            };
            Value::Object(fields.filter(|(_, value)| !empty(value)).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(said).collect()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}
