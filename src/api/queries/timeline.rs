//! The history of one subject, in pages.

use super::{PAGE_BYTES_MAX, Queries, QueryError, page_size};
use crate::{
    domain::{
        EventId, Filter, Sequence,
        codes::IDENTIFIER_KIND,
        filter::{FilterSpec, SubjectSpec},
        header::SubjectTerm,
    },
    identity::Caller,
    views::{
        decoded::{canonical, key},
        fold_order::FoldKey,
        page_token::TokenInvalid,
        timeline::{Asked, Entry, Timeline},
    },
    wire::{
        proto::{self, AssociatedSubject, GetTimelineRequest, GetTimelineResponse, TimelineEntry},
        violations::Violation,
    },
};

/// How many entries a page holds where the request does not say.
const PAGE_SIZE: u32 = 200;
/// The most associations that are followed.
const DEPTH_MAX: u32 = 3;

/// Where a timeline goes on: what a page token holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    /// The end of the log as the first page saw it.
    through: Sequence,
    /// The last entry given.
    after: FoldKey,
}

impl Queries {
    /// Answers `EventService.GetTimeline`.
    ///
    /// # Errors
    /// The subject or the token is invalid, the caller has no right to read, more is known than one answer gathers, or the views cannot
    /// answer.
    pub async fn get_timeline(
        &self,
        caller: &Caller,
        mut request: GetTimelineRequest,
    ) -> Result<GetTimelineResponse, QueryError> {
        let token = std::mem::take(&mut request.page_token);
        let binding = self.binding("GetTimeline", caller, &request);
        let (subject, spec) = subject(request.subject.as_ref())?;
        let spec = FilterSpec { subjects: vec![spec], ..FilterSpec::default() };
        let filter = Filter::compile(&spec, false).map_err(QueryError::subject)?;
        let depth = match (request.exclude_associated, request.association_depth) {
            (_, deeper) if DEPTH_MAX < deeper => {
                let description = format!("must be at most {DEPTH_MAX}, not {deeper}");
                return Err(QueryError::invalid("association_depth", "OUT_OF_RANGE", description));
            }
            (true, _) => 0,
            (false, depth) => depth.max(1),
        };
        let asking = self.asking(caller).await?;
        let resumed = match &*token {
            "" => None,
            token => Some(Cursor::read(&self.parts.tokens.open(&binding, token)?)?),
        };
        let through = resumed.as_ref().map_or(asking.through, |cursor| cursor.through);
        let asked = Asked {
            filter: &filter,
            subject: key(&subject),
            depth,
            rights: &asking.rights,
            now_ns: asking.now_ns,
            through,
        };
        let timeline = self.finder.timeline(&asked).await?;
        let shown = |entry: &&Entry| {
            (request.include_revised || entry.revised_by.is_none())
                && resumed.as_ref().is_none_or(|cursor| cursor.after < entry.key)
        };
        let shown: Vec<&Entry> = timeline.entries.iter().filter(shown).collect();
        let entries = self.page(&timeline, &shown, page_size(request.page_size, PAGE_SIZE)).await?;
        let last = entries.len().checked_sub(1).filter(|_| entries.len() < shown.len());
        let next = last.map(|last| Cursor { through, after: shown[last].key.clone() });
        let associated = timeline.associated.iter().map(|one| AssociatedSubject {
            subject: Some(subject_message(&one.subject)),
            distance: one.distance,
            event_id: one.event_id.to_string(),
            publisher: one.publisher.to_string(),
        });
        Ok(GetTimelineResponse {
            entries,
            associated: associated.collect(),
            next_page_token: next.map(|cursor| self.parts.tokens.seal(&binding, &cursor.written())).unwrap_or_default(),
            as_of: self.position(through),
            origins: self.origins(through),
        })
    }

    /// The first entries with their events, as many as a page holds.
    async fn page(&self, timeline: &Timeline, shown: &[&Entry], size: usize) -> Result<Vec<TimelineEntry>, QueryError> {
        let mut entries: Vec<TimelineEntry> = Vec::new();
        let mut bytes = 0;
        // In small stretches, so that large events are not all fetched at once.
        for stretch in shown[..shown.len().min(size)].chunks(64) {
            let mut places: Vec<Sequence> = stretch.iter().map(|entry| entry.sequence).collect();
            places.sort_unstable();
            let records = self.parts.log.get(places).await?;
            for entry in stretch {
                // What retention dropped in this moment ends the page; the next one will not have it.
                let Some(record) = records.iter().find(|record| record.sequence == entry.sequence) else {
                    return Ok(entries);
                };
                if !entries.is_empty() && bytes + record.signed.len() > PAGE_BYTES_MAX {
                    return Ok(entries);
                }
                bytes += record.signed.len();
                entries.push(TimelineEntry {
                    event: Some(self.recorded(record)?),
                    via_subject: entry.via.map(|via| subject_message(&timeline.associated[via].subject)),
                    revised_by: entry.revised_by.map(|event_id| event_id.to_string()).unwrap_or_default(),
                });
            }
        }
        Ok(entries)
    }
}

/// The subject that a request names, canonical, and how a filter asks for it.
pub(super) fn subject(asked: Option<&proto::Subject>) -> Result<(SubjectTerm, SubjectSpec), QueryError> {
    let Some(asked) = asked else {
        return Err(QueryError::invalid("subject", "SUBJECT_MISSING", "must be set"));
    };
    let subject = canonical(asked);
    let kind = IDENTIFIER_KIND.name(subject.kind).filter(|_| asked.kind > 0);
    let mut violations = Vec::new();
    let mut fault = |field: &str, description: &str| {
        violations.push(Violation {
            field: field.to_owned(),
            reason: "FIELD_MISSING",
            description: description.to_owned(),
        });
    };
    if kind.is_none() {
        fault("subject.kind", "must be an IdentifierKind that this node knows");
    }
    if subject.value.is_empty() {
        fault("subject.value", "must be set");
    }
    let Some(kind) = kind.filter(|_| violations.is_empty()) else { return Err(QueryError::Invalid(violations)) };
    let spec = SubjectSpec {
        kind: kind.to_owned(),
        value: subject.value.clone(),
        issuer: subject.issuer.clone(),
        date: subject.date.clone(),
        role: String::new(),
    };
    Ok((subject, spec))
}

/// A subject as the API says it.
pub(super) fn subject_message(subject: &SubjectTerm) -> proto::Subject {
    proto::Subject {
        kind: subject.kind.into(),
        value: subject.value.clone(),
        issuer: subject.issuer.clone(),
        date: subject.date.clone(),
        role: proto::SubjectRole::Unspecified.into(),
    }
}

impl Cursor {
    fn written(&self) -> Vec<u8> {
        let mut bytes = self.through.get().to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.after.span_end_ns.to_le_bytes());
        bytes.push(self.after.coarseness);
        bytes.extend_from_slice(&self.after.created_ns.to_le_bytes());
        bytes.extend_from_slice(self.after.event_id.as_bytes());
        bytes.extend_from_slice(self.after.publisher.as_bytes());
        bytes
    }

    fn read(content: &[u8]) -> Result<Self, TokenInvalid> {
        fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], TokenInvalid> {
            let (taken, left) = rest.split_first_chunk::<N>().ok_or(TokenInvalid)?;
            *rest = left;
            Ok(*taken)
        }
        let mut rest = content;
        Ok(Self {
            through: Sequence(u64::from_le_bytes(take(&mut rest)?)),
            after: FoldKey {
                span_end_ns: i64::from_le_bytes(take(&mut rest)?),
                coarseness: take::<1>(&mut rest)?[0],
                created_ns: i64::from_le_bytes(take(&mut rest)?),
                event_id: EventId::from_bytes(take(&mut rest)?),
                publisher: std::str::from_utf8(rest).map_err(|_| TokenInvalid)?.into(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        domain::spiffe::SPIFFE_ID_BYTES_MAX,
        views::page_token::{PageKey, PageTokens, TokenBinding},
    };

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let after = FoldKey {
            span_end_ns: -5,
            coarseness: 3,
            created_ns: 7,
            event_id: EventId::from_bytes([9; 16]),
            publisher: "spiffe://port.example/a".into(),
        };
        let cursor = Cursor { through: Sequence(42), after };
        assert_eq!(Cursor::read(&cursor.written()), Ok(cursor.clone()));
        assert_eq!(Cursor::read(&cursor.written()[..20]), Err(TokenInvalid));
        let publisher = format!("spiffe://port.example/{}", "a".repeat(SPIFFE_ID_BYTES_MAX - 22)).into();
        let longest = Cursor { after: FoldKey { publisher, ..cursor.after }, ..cursor }.written();
        let tokens = PageTokens::new(&PageKey::fresh(&SystemClock), &SystemClock);
        let binding = TokenBinding::of(&[]);
        assert_eq!(
            tokens.open(&binding, &tokens.seal(&binding, &longest)),
            Ok(longest),
            "whatever the publisher's name"
        );
    }
}
