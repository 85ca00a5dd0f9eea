//! A list of clearances, walked along the log backwards: each stands where its last statement stands that the request asks for, so that a
//! page needs to know nothing of the pages before it. Nothing is kept between pages but their token.

use std::collections::HashSet;

use super::message::state;
use crate::{
    api::queries::{PAGE_BYTES_MAX, Queries, QueryError},
    domain::{Filter, HeaderRef, Sequence, codes::CLEARANCE_STEP, filter::MatchContext},
    identity::Caller,
    log::{LogError, Record},
    views::{
        associations::statement::Subject,
        candidates::Bounds,
        clearance::{Concerned, Filed, Found},
        finder::{Question, Take, Work},
        fold_order::time_ns,
        page_token::TokenInvalid,
    },
    wire::{
        self,
        proto::{self, EventFilter, ListClearancesRequest, ListClearancesResponse, PlaceRole},
        violations::Violation,
    },
};

/// How many clearances a page holds where the request does not say, and at the most: each is folded from tens of events.
const PAGE_SIZE: u32 = 50;
const PAGE_SIZE_MAX: u32 = 200;
/// How many clearances are folded for one page, whatever comes of them.
const FOLDED_MAX: usize = 400;
/// The walk looks for so many events at once, so often at the most.
const STRETCH: usize = 64;
const STRETCHES_MAX: usize = 40;
/// What one stretch may cost.
const WORK: Work = Work { examined_max: 1_000, lookups_max: 1_000 };

/// Where a list goes on: what a page token holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// The end of the log as the first page saw it.
    through: Sequence,
    /// The event at which to go on.
    from: Sequence,
    /// How many of what it is about were told already.
    skip: u32,
}

/// What a request asks for.
struct Wanted {
    filter: Filter,
    states: Vec<i32>,
    held: bool,
    state_time: Option<proto::TimeRange>,
}

impl Queries {
    /// Answers `ClearanceService.ListClearances`.
    ///
    /// # Errors
    /// The request or the token is invalid, the caller has no right to read, or the views cannot answer.
    pub async fn list_clearances(
        &self,
        caller: &Caller,
        mut request: ListClearancesRequest,
    ) -> Result<ListClearancesResponse, QueryError> {
        let token = std::mem::take(&mut request.page_token);
        let binding = self.binding("ListClearances", caller, &request);
        let wanted = Wanted::of(&request)?;
        let asking = self.asking(caller).await?;
        let resumed = match &*token {
            "" => None,
            token => Some(Cursor::read(&self.parts.tokens.open(&binding, token)?)?),
        };
        let through = resumed.map_or(asking.through, |cursor| cursor.through);
        let after = Sequence(self.parts.log.first_retained().get().saturating_sub(1));
        let bounds = Bounds { after, before: through.next(), descending: true };
        let size = if request.page_size == 0 { PAGE_SIZE } else { request.page_size.min(PAGE_SIZE_MAX) } as usize;
        let filters = [wanted.filter.clone()];
        let question = Question { filters: &filters, rights: &asking.rights, now_ns: asking.now_ns };

        let mut page: Vec<proto::ClearanceStatus> = Vec::new();
        let (mut bytes, mut folded, mut stretches) = (0, 0, 0);
        let mut done: HashSet<Subject> = HashSet::new();
        let mut next = resumed.or_else(|| bounds.first().map(|from| Cursor { through, from, skip: 0 }));
        'page: while let Some(cursor) = next {
            if stretches == STRETCHES_MAX {
                break;
            }
            stretches += 1;
            let mut records: Vec<Record> = Vec::new();
            let mut take = |record| {
                records.push(record);
                Ok(if records.len() == STRETCH { Take::Last } else { Take::More })
            };
            let reached = self.finder.walk(&question, bounds, cursor.from, WORK, &mut take).await?;
            for record in &records {
                let skip = if record.sequence == cursor.from { cursor.skip } else { 0 };
                for (unit, number) in Concerned::by(record)?.units.into_iter().zip(0..).skip(skip as usize) {
                    if done.contains(&unit) {
                        continue;
                    }
                    if page.len() == size || folded == FOLDED_MAX || bytes > PAGE_BYTES_MAX {
                        next = Some(Cursor { through, from: record.sequence, skip: number });
                        break 'page;
                    }
                    folded += 1;
                    let found = self.found(&asking, through, &unit).await?;
                    let stands_at = self.stands_at(&found, &question)?;
                    if stands_at == Some(record.sequence)
                        && let Some(clearance) = self.row((&unit, through), &found, &wanted)
                    {
                        bytes += prost::Message::encoded_len(&clearance);
                        page.push(clearance);
                    }
                    // Its turn comes later only where it stands further on.
                    if stands_at.is_none_or(|place| record.sequence <= place) {
                        done.insert(unit);
                    }
                }
            }
            next = reached.map(|from| Cursor { through, from, skip: 0 });
        }
        Ok(ListClearancesResponse {
            clearances: page,
            next_page_token: next.map(|cursor| self.parts.tokens.seal(&binding, &cursor.written())).unwrap_or_default(),
            as_of: self.position(through),
            origins: self.origins(through),
        })
    }

    /// Where the last of the statements about a subject stands that the request asks for.
    fn stands_at(&self, found: &Found, question: &Question<'_>) -> Result<Option<Sequence>, LogError> {
        let mut last = None;
        for filed in &found.own {
            if last.is_none_or(|last| last < filed.decoded.sequence) && self.is_asked_for(filed, question)? {
                last = Some(filed.decoded.sequence);
            }
        }
        Ok(last)
    }

    fn is_asked_for(&self, filed: &Filed, question: &Question<'_>) -> Result<bool, LogError> {
        let record = &filed.record;
        let header = HeaderRef::parse(&record.header)
            .map_err(|error| LogError::Damaged(format!("sequence {}: {error}", record.sequence)))?;
        let context = MatchContext {
            accepted_time_ns: record.accepted_time_ns,
            origin_node: record.origin.as_ref().map_or(&self.parts.node, |origin| &origin.node).as_str(),
            caller: question.rights.who.as_str(),
            // What she asks must not tell her of bindings that she may not see herself.
            bindings: &question.rights.askable(&*self.parts.associations, question.now_ns),
        };
        Ok(question.filters.iter().any(|filter| filter.matches(&header, &context)))
    }

    /// The clearance of a subject by its own number, where it is as the request wants it.
    fn row(
        &self,
        (unit, through): (&Subject, Sequence),
        found: &Found,
        wanted: &Wanted,
    ) -> Option<proto::ClearanceStatus> {
        let clearance = found.clearance.as_ref()?;
        let own = clearance.own_lifecycle();
        let set_by = own.and_then(|own| own.folded.whole.set_by.map(|index| &own.steps[index]));
        let last_hold = clearance.open_holds.iter().filter_map(|held| held.placed_by.last());
        let since = set_by.or_else(|| last_hold.max_by_key(|filed| filed.decoded.fold_key()));
        let in_state =
            wanted.states.is_empty() || wanted.states.contains(&state(own.and_then(|own| own.folded.whole.state)));
        let held = !wanted.held || !clearance.open_holds.is_empty();
        let in_time = wanted.state_time.as_ref().is_none_or(|range| {
            since.is_some_and(|filed| {
                let time = time_ns(filed.decoded.event.event_time.as_ref());
                range.start_time.as_ref().is_none_or(|start| time_ns(Some(start)) <= time)
                    && range.end_time.as_ref().is_none_or(|end| time < time_ns(Some(end)))
            })
        });
        let mut message = (in_state && held && in_time).then(|| self.clearance_message(clearance, through))?;
        // The declarant's own number gives way to that of customs.
        message.subject = Some(super::message::message(own.map_or(unit, |own| &own.subject)));
        Some(message)
    }
}

impl Wanted {
    fn of(request: &ListClearancesRequest) -> Result<Self, QueryError> {
        let unknown = |description: String| QueryError::invalid("states", "ENUM_UNKNOWN", description);
        if request.states.len() > 12 {
            return Err(QueryError::invalid("states", "TOO_MANY_VALUES", "must be at most 12 states"));
        }
        let mut types = Vec::new();
        for state in &request.states {
            // Notices are no states.
            let name =
                u8::try_from(*state).ok().filter(|state| *state < 20).and_then(|state| CLEARANCE_STEP.name(state));
            let name = name.ok_or_else(|| unknown(format!("must be states, not {state}")))?;
            types.push(format!("clearance.{name}"));
        }
        if types.is_empty() {
            types = if request.held { vec!["hold.placed".into()] } else { vec!["clearance".into(), "hold".into()] };
        }
        let office = |place: &proto::Place| proto::Place { role: PlaceRole::Office.into(), kind: 0, ..place.clone() };
        let filter = EventFilter {
            types,
            places: request.offices.iter().map(office).collect(),
            event_time: request.state_time,
            ..EventFilter::default()
        };
        let mut compiled = wire::filter::compile(&[filter], "filters").map_err(renamed)?;
        let filter = compiled.pop().expect("one filter makes one");
        let (held, state_time) = (request.held, request.state_time);
        Ok(Self { filter, states: request.states.clone(), held, state_time })
    }
}

/// What is wrong with the filter that was made of a request, by the request's own fields.
fn renamed(violations: Vec<Violation>) -> QueryError {
    let own =
        |field: &str| field.replace("filters[0].places", "offices").replace("filters[0].event_time", "state_time");
    let renamed = violations.into_iter().map(|violation| Violation { field: own(&violation.field), ..violation });
    QueryError::Invalid(renamed.collect())
}

impl Cursor {
    fn written(self) -> Vec<u8> {
        let mut bytes = self.through.get().to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.from.get().to_le_bytes());
        bytes.extend_from_slice(&self.skip.to_le_bytes());
        bytes
    }

    fn read(content: &[u8]) -> Result<Self, TokenInvalid> {
        let (through, rest) = content.split_first_chunk::<8>().ok_or(TokenInvalid)?;
        let (from, rest) = rest.split_first_chunk::<8>().ok_or(TokenInvalid)?;
        let (skip, _) = rest.split_first_chunk::<4>().ok_or(TokenInvalid)?;
        let sequence = |bytes: &[u8; 8]| Sequence(u64::from_le_bytes(*bytes));
        Ok(Self { through: sequence(through), from: sequence(from), skip: u32::from_le_bytes(*skip) })
    }
}
