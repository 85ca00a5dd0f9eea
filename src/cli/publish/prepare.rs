//! Makes an event ready to go out: what its JSON leaves out and the publisher's program can fill in. It never changes what is said.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, Value};
use prost_types::Timestamp;
use uuid::Uuid;

use crate::{
    cli::json,
    clock::{Clock, SystemClock},
    domain::SpiffeId,
};

/// The namespace of ids derived from what an event says (RFC 9562, section 5.5). Fixed for ever: the same event must get the same id.
const DERIVED_IDS: Uuid = Uuid::from_u128(0x7b0c_2a5e_6f14_5d2b_9c57_41d8_e0a3_96f1);

/// How to fill in what is missing.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// The publisher, where an event does not name it.
    pub publisher: SpiffeId,
    /// Whether an event without an id gets one from what it says, rather than a fresh one.
    pub derive_ids: bool,
}

/// An event ready to go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Its id.
    pub event_id: String,
    /// Its bytes, final.
    pub bytes: Bytes,
    /// Whether it got a fresh id here, so that publishing the same input again would publish it again.
    pub has_fresh_id: bool,
}

impl Preparation {
    /// Reads one event and fills in its publisher, id and `created_time` where they are missing.
    ///
    /// # Errors
    /// The text is no event; where and why.
    pub fn prepare(&self, text: &str) -> Result<Prepared, json::JsonMalformed> {
        let mut event = json::read("Event", text)?;
        if text_of(&event, "publisher").is_empty() {
            event.set_field_by_name("publisher", Value::String(self.publisher.to_string()));
        }
        let mut event_id = text_of(&event, "event_id");
        let has_fresh_id = event_id.is_empty() && !self.derive_ids;
        if event_id.is_empty() {
            event_id =
                if self.derive_ids { derived_id(&event) } else { SystemClock.fresh_uuid() }.hyphenated().to_string();
            event.set_field_by_name("event_id", Value::String(event_id.clone()));
        }
        if !event.has_field_by_name("created_time") {
            set_created_time(&mut event, SystemClock.now_ns());
        }
        Ok(Prepared { event_id, bytes: json::event_bytes(&event), has_fresh_id })
    }
}

/// The id that stands for what an event says. The time at which it was said is left out, as nodes leave it out when they compare.
fn derived_id(event: &DynamicMessage) -> Uuid {
    let mut said = event.clone();
    said.clear_field_by_name("created_time");
    Uuid::new_v5(&DERIVED_IDS, &json::event_bytes(&said))
}

fn text_of(event: &DynamicMessage, field: &str) -> String {
    event.get_field_by_name(field).and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

fn set_created_time(event: &mut DynamicMessage, now_ns: i64) {
    const SECOND_NS: i64 = 1_000_000_000;
    let now = Timestamp { seconds: now_ns.div_euclid(SECOND_NS), nanos: now_ns.rem_euclid(SECOND_NS) as i32 };
    let Some(Value::Message(mut time)) = event.get_field_by_name("created_time").map(std::borrow::Cow::into_owned)
    else {
        return;
    };
    time.transcode_from(&now).expect("the field is a Timestamp");
    event.set_field_by_name("created_time", Value::Message(time));
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::proto::Event;

    fn prepare(text: &str, derive_ids: bool) -> (Prepared, Event) {
        let publisher = SpiffeId::parse("spiffe://port.karachi.pk/terminal/kict").unwrap();
        let prepared = Preparation { publisher, derive_ids }.prepare(text).unwrap();
        let event = Event::decode(prepared.bytes.clone()).unwrap();
        (prepared, event)
    }

    #[test]
    fn what_is_missing_is_filled_in() {
        let (prepared, event) = prepare(r#"{"classifier": "CLASSIFIER_ACTUAL"}"#, false);
        assert_eq!(event.event_id, prepared.event_id);
        assert_eq!(Uuid::parse_str(&event.event_id).unwrap().get_version_num(), 7);
        assert_eq!(event.publisher, "spiffe://port.karachi.pk/terminal/kict");
        assert!(event.created_time.is_some() && prepared.has_fresh_id);
    }

    #[test]
    fn what_is_said_stays() {
        let text = r#"{"eventId": "a", "publisher": "spiffe://b/c", "createdTime": "2026-11-24T00:00:00Z"}"#;
        let (prepared, event) = prepare(text, true);
        assert_eq!((event.event_id.as_str(), event.publisher.as_str()), ("a", "spiffe://b/c"));
        assert_eq!(event.created_time.unwrap().seconds, 1_795_478_400);
        assert!(!prepared.has_fresh_id);
    }

    #[test]
    fn a_derived_id_stands_for_what_is_said_and_not_for_when() {
        let id = |text: &str| prepare(text, true).0.event_id;
        let one = id(r#"{"classifier": "CLASSIFIER_ACTUAL", "createdTime": "2026-11-24T00:00:00Z"}"#);
        assert_eq!(one, id(r#"{"createdTime": "2026-11-25T00:00:00Z", "classifier": "CLASSIFIER_ACTUAL"}"#));
        assert_ne!(one, id(r#"{"classifier": "CLASSIFIER_PLANNED"}"#));
        assert_eq!(Uuid::parse_str(&one).unwrap().get_version_num(), 5);
    }
}
