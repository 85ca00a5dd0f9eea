//! The order in which views put statements, the same on every node: by what the publishers said, never by a node's own sequence
//! (standards, section 6: event time with a coarser precision last within its span, then created time, then event id).

use std::sync::Arc;

use crate::{domain::EventId, wire::proto};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
const HOUR_NS: i64 = 60 * MINUTE_NS;
const DAY_NS: i64 = 24 * HOUR_NS;

/// An event's place in the order. The publisher comes last, so that two events never have the same place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoldKey {
    /// The event's time, or the last nanosecond of the minute, hour or local day that it is known by; since 1970.
    pub span_end_ns: i64,
    /// 0 for an instant, then minute, hour, day.
    pub coarseness: u8,
    /// When the statement was made, nanoseconds since 1970.
    pub created_ns: i64,
    /// The event's id.
    pub event_id: EventId,
    /// The publisher's name.
    pub publisher: Arc<str>,
}

impl FoldKey {
    /// The place of an event.
    #[must_use]
    pub fn of(event: &proto::Event, publisher: &str, event_id: EventId) -> Self {
        let time_ns = time_ns(event.event_time.as_ref());
        let offset_ns = i64::from(event.utc_offset_minutes.unwrap_or(0)).saturating_mul(MINUTE_NS);
        let (coarseness, span_ns) = match event.time_precision() {
            proto::TimePrecision::Unspecified | proto::TimePrecision::Instant => (0, 1),
            proto::TimePrecision::Minute => (1, MINUTE_NS),
            proto::TimePrecision::Hour => (2, HOUR_NS),
            proto::TimePrecision::Day => (3, DAY_NS),
        };
        // Spans are those of the clock at the place, where the publisher said how it stands.
        let local_ns = time_ns.saturating_add(offset_ns);
        let span_start_ns = local_ns.saturating_sub(local_ns.rem_euclid(span_ns));
        let span_end_ns = span_start_ns.saturating_add(span_ns - 1).saturating_sub(offset_ns);
        Self {
            span_end_ns,
            coarseness,
            created_ns: self::time_ns(event.created_time.as_ref()),
            event_id,
            publisher: publisher.into(),
        }
    }
}

/// A message's time as nanoseconds since 1970; an absent one as 0, one out of range at the range's end.
#[must_use]
pub fn time_ns(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds.saturating_mul(SECOND_NS).saturating_add(i64::from(time.nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seconds: i64, precision: proto::TimePrecision, offset: Option<i32>, created: i64) -> FoldKey {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let event = proto::Event {
            event_time: at(seconds),
            time_precision: precision.into(),
            utc_offset_minutes: offset,
            created_time: at(created),
            ..Default::default()
        };
        FoldKey::of(&event, "spiffe://port.example/a", EventId::from_bytes([1; 16]))
    }

    #[test]
    fn a_coarser_time_comes_last_within_its_span() {
        use proto::TimePrecision::{Day, Hour, Instant, Minute};
        let noon = 12 * 3600;
        let mut keys = [
            key(24 * 3600, Instant, None, 0),
            key(0, Day, None, 0),
            key(noon, Hour, None, 0),
            key(24 * 3600 - 1, Instant, None, 0),
            key(noon, Minute, None, 0),
            key(noon + 59, Instant, None, 0),
            key(noon + 3599, Instant, None, 0),
        ];
        let expected = [&keys[5], &keys[4], &keys[6], &keys[2], &keys[3], &keys[1], &keys[0]].map(Clone::clone);
        keys.sort();
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_day_is_the_day_at_the_place() {
        // Midnight in Karachi (five hours east) is 19:00 of the day before in UTC.
        let day = key(19 * 3600, proto::TimePrecision::Day, Some(300), 0);
        assert!(key(43 * 3600 - 1, proto::TimePrecision::Instant, Some(300), 0) < day);
        assert!(key(43 * 3600, proto::TimePrecision::Instant, Some(300), 0) > day);
    }

    #[test]
    fn the_later_statement_comes_later_at_the_same_time() {
        let instant = proto::TimePrecision::Instant;
        assert!(key(0, instant, None, 1) < key(0, instant, None, 2));
    }
}
