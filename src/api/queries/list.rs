//! Stored events by filters, in pages. A page begins where the one before ended, and what was published since is not in it.

use super::{PAGE_BYTES_MAX, Queries, QueryError, page_size};
use crate::{
    domain::{Filter, Sequence},
    identity::Caller,
    log::LogError,
    views::{
        candidates::Bounds,
        finder::{Question, Take, Work},
        page_token::TokenInvalid,
    },
    wire::{
        self,
        proto::{ListEventsRequest, ListEventsResponse, ListOrder},
    },
};

/// What one page may cost: about a second of looking up and fetching where nothing is cached.
const WORK: Work = Work { examined_max: 10_000, lookups_max: 10_000 };
/// How many events a page holds where the request does not say.
const PAGE_SIZE: u32 = 100;

/// Where a list goes on: what a page token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// The end of the log as the first page saw it.
    through: Sequence,
    /// The first place that was not examined.
    from: Sequence,
}

impl Queries {
    /// Answers `EventService.ListEvents`.
    ///
    /// # Errors
    /// The filters or the token are invalid, the caller has no right to read, or the views cannot answer.
    pub async fn list_events(
        &self,
        caller: &Caller,
        mut request: ListEventsRequest,
    ) -> Result<ListEventsResponse, QueryError> {
        let token = std::mem::take(&mut request.page_token);
        let binding = self.binding("ListEvents", caller, &request);
        let filters = wire::filter::compile(&request.filters, "filters").map_err(QueryError::Invalid)?;
        let descending = match ListOrder::try_from(request.order) {
            Ok(ListOrder::Unspecified | ListOrder::NewestFirst) => true,
            Ok(ListOrder::OldestFirst) => false,
            Err(_) => {
                return Err(QueryError::invalid("order", "ENUM_UNKNOWN", "must be a ListOrder that this node knows"));
            }
        };
        let asking = self.asking(caller).await?;
        let resumed = match &*token {
            "" => None,
            token => Some(Cursor::read(&self.parts.tokens.open(&binding, token)?)?),
        };
        let through = resumed.map_or(asking.through, |cursor| cursor.through);
        let bounds = self.bounds(&filters, through, descending).await?;
        let question = Question { filters: &filters, rights: &asking.rights, now_ns: asking.now_ns };
        let size = page_size(request.page_size, PAGE_SIZE);
        let (mut records, mut bytes) = (Vec::new(), 0);
        let next = match resumed.map(|cursor| cursor.from).or_else(|| bounds.first()) {
            None => None,
            Some(from) => {
                let mut take = |record: crate::log::Record| {
                    if !records.is_empty() && bytes + record.signed.len() > PAGE_BYTES_MAX {
                        return Ok(Take::Full);
                    }
                    bytes += record.signed.len();
                    records.push(record);
                    Ok(if records.len() == size { Take::Last } else { Take::More })
                };
                self.finder.walk(&question, bounds, from, WORK, &mut take).await?
            }
        };
        let next_page_token = next.map(|from| self.parts.tokens.seal(&binding, &Cursor { through, from }.written()));
        Ok(ListEventsResponse {
            events: records.iter().map(|record| self.recorded(record)).collect::<Result<_, _>>()?,
            next_page_token: next_page_token.unwrap_or_default(),
            as_of: self.position(through),
            narrowed: asking.rights.narrowing(&filters, asking.now_ns).narrowed,
            origins: self.origins(through),
        })
    }

    /// The stretch of the log that can hold matches: accepted times grow along it.
    async fn bounds(&self, filters: &[Filter], through: Sequence, descending: bool) -> Result<Bounds, LogError> {
        let log = &self.parts.log;
        let mut bounds = Bounds {
            after: Sequence(log.first_retained().get().saturating_sub(1)),
            before: through.next(),
            descending,
        };
        let ranges: Option<Vec<_>> = filters.iter().map(|filter| filter.spec().accepted_time.as_ref()).collect();
        let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) else { return Ok(bounds) };
        let nanoseconds = |time: &chrono::DateTime<chrono::Utc>| time.timestamp_nanos_opt();
        let starts: Option<Vec<i64>> =
            ranges.iter().map(|range| range.start_time.as_ref().and_then(nanoseconds)).collect();
        if let Some(start) = starts.and_then(|starts| starts.into_iter().min()) {
            let first = log.first_accepted_since(start).await?;
            bounds.after = bounds.after.max(Sequence(first.get().saturating_sub(1)));
        }
        let ends: Option<Vec<i64>> = ranges.iter().map(|range| range.end_time.as_ref().and_then(nanoseconds)).collect();
        if let Some(end) = ends.and_then(|ends| ends.into_iter().max()) {
            bounds.before = bounds.before.min(log.first_accepted_since(end).await?);
        }
        Ok(bounds)
    }
}

impl Cursor {
    fn written(self) -> Vec<u8> {
        [self.through.get().to_le_bytes(), self.from.get().to_le_bytes()].concat()
    }

    fn read(content: &[u8]) -> Result<Self, TokenInvalid> {
        let number = |at: usize| {
            let bytes = content.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).ok_or(TokenInvalid)?;
            Ok(Sequence(u64::from_le_bytes(bytes)))
        };
        Ok(Self { through: number(0)?, from: number(8)? })
    }
}
