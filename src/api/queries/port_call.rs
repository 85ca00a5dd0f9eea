//! One port call, its times side by side.

use super::{Queries, QueryError, timeline::subject};
use crate::{
    api::recorded::timestamp,
    domain::{
        Filter,
        bindings::SubjectKey,
        codes::kind,
        filter::{FilterSpec, PlaceSpec, TimeRangeSpec},
        header::SubjectTerm,
    },
    identity::Caller,
    views::{
        decoded::key,
        fold_order::time_ns,
        port_call::{Row, Standing, Stated, Window, rows},
    },
    wire::{
        proto::{GetPortCallRequest, GetPortCallResponse, PortCallRow, PortCallTime},
        violations::Violation,
    },
};

impl Queries {
    /// Answers `EventService.GetPortCall`.
    ///
    /// # Errors
    /// The subject, port or times are invalid, the caller has no right to read, more is known than one answer gathers, or the views
    /// cannot answer.
    pub async fn get_port_call(
        &self,
        caller: &Caller,
        request: GetPortCallRequest,
    ) -> Result<GetPortCallResponse, QueryError> {
        let (call, spec) = subject(request.subject.as_ref())?;
        let un_locode = request.un_locode.to_ascii_uppercase();
        check(&call, &un_locode)?;
        let place = PlaceSpec { role: "event".into(), un_locode: un_locode.clone(), ..PlaceSpec::default() };
        let event_time = TimeRangeSpec {
            start_time: request.start_time.as_ref().map(|time| moment(time, "start_time")).transpose()?,
            end_time: request.end_time.as_ref().map(|time| moment(time, "end_time")).transpose()?,
        };
        let spec = FilterSpec {
            types: vec!["movement".into()],
            subjects: vec![spec],
            places: if un_locode.is_empty() { Vec::new() } else { vec![place] },
            event_time: Some(event_time).filter(|range| *range != TimeRangeSpec::default()),
            ..FilterSpec::default()
        };
        let filter = Filter::compile(&spec, false).map_err(QueryError::subject)?;
        let asking = self.asking(caller).await?;
        let gathered = self.finder.gather_events(&asking.rights, asking.now_ns, asking.through, &[filter]).await?;
        let window = Window {
            un_locode: &un_locode,
            start_ns: request.start_time.as_ref().map_or(i64::MIN, |time| time_ns(Some(time))),
            end_ns: request.end_time.as_ref().map_or(i64::MAX, |time| time_ns(Some(time))),
            subject: SubjectKey { ..key(&call) },
        };
        let rows = rows(&gathered, &window).iter().map(message).collect();
        let origins = self.origins(asking.through);
        Ok(GetPortCallResponse { rows, as_of: self.position(asking.through), origins })
    }
}

/// Which subjects name a call, alone or together with a port.
fn check(call: &SubjectTerm, un_locode: &str) -> Result<(), QueryError> {
    let missing = |field: &str, description: &str| {
        Err(QueryError::Invalid(vec![Violation {
            field: field.to_owned(),
            reason: "FIELD_MISSING",
            description: description.to_owned(),
        }]))
    };
    let numbered = matches!(call.kind, kind::PORT_CALL | kind::TERMINAL_CALL);
    let moving = matches!(
        call.kind,
        kind::VESSEL_IMO | kind::VESSEL_MMSI | kind::VESSEL_CALL_SIGN | kind::VESSEL_ENI | kind::VOYAGE
    );
    if !numbered && !moving {
        return Err(QueryError::invalid(
            "subject.kind",
            "SUBJECT_DOES_NOT_FIT",
            "must be PORT_CALL or TERMINAL_CALL, or a kind of vessel or VOYAGE together with un_locode",
        ));
    }
    if numbered && call.issuer.is_empty() {
        return missing("subject.issuer", "must name the port or terminal that gave the call its number");
    }
    if moving && un_locode.is_empty() {
        return missing("un_locode", "must name the port where the subject is a vessel or voyage");
    }
    Ok(())
}

fn moment(time: &prost_types::Timestamp, field: &str) -> Result<chrono::DateTime<chrono::Utc>, QueryError> {
    u32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| chrono::DateTime::from_timestamp(time.seconds, nanos))
        .ok_or_else(|| QueryError::invalid(field, "TIME_OUT_OF_RANGE", "must be a time between the years 1 and 9999"))
}

fn message(row: &Row) -> PortCallRow {
    let time = |standing: Standing| row.times.get(&standing).map(stated);
    PortCallRow {
        step: row.key.step,
        service: row.key.service,
        place_kind: row.key.place_kind,
        reporter: row.key.reporter.clone(),
        planned: time(Standing::Planned),
        estimated: time(Standing::Estimated),
        requested: time(Standing::Requested),
        actual: time(Standing::Actual),
    }
}

fn stated(stated: &Stated) -> PortCallTime {
    PortCallTime {
        event_time: Some(timestamp(stated.event_time_ns)),
        created_time: Some(timestamp(stated.created_ns)),
        event_id: stated.event_id.to_string(),
        superseded_count: stated.superseded_count,
    }
}
