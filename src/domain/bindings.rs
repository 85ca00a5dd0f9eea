//! Which participants associations in force bind to which subjects: what a filter's party can also be met by, beyond the parties that an
//! event names itself. It never decides who may bind whom; the publish door did, before the association was stored.

use tokio::sync::watch;

use super::{Sequence, header::SubjectTerm};

/// One subject as bindings know it: compared field by field, exactly. The date belongs to it, since a flight's number repeats daily.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectKey<'a> {
    /// `IdentifierKind` by enum value.
    pub kind: u8,
    /// The canonical value.
    pub value: &'a str,
    /// The scope of the number; empty where it is global.
    pub issuer: &'a str,
    /// `YYYY-MM-DD`, or empty.
    pub date: &'a str,
}

/// Which participants associations in force bind to which subjects. The associations view knows; tests and the publish door without it
/// use [`NoBindings`].
pub trait PartyBindings: Send + Sync {
    /// Whether an association in force makes the participant a party of the subject.
    fn is_bound(&self, participant: &str, subject: &SubjectKey<'_>) -> bool;
}

/// Bindings as they change, for readers that go along the log.
///
/// An event must be judged with every association that stands before it applied, else what a party was bound to a moment ago would be
/// withheld from her, and a stream would pass over it for good: a reader whose rights depend on bindings waits until
/// [`BindingsFeed::progress`] has reached the event's place before it judges the event.
pub trait BindingsFeed: PartyBindings + 'static {
    /// Watches the last place of the log whose associations are applied. Moves only forward while the process lives, except that a
    /// rebuild holds it where it is.
    fn progress(&self) -> watch::Receiver<Sequence>;

    /// What the participant was newly bound to by associations that stand after a place, in order of their places: for announcing that
    /// her view was widened. Bounded: of very many only the latest are kept.
    fn newly_bound(&self, participant: &str, after: Sequence) -> Vec<NewBinding>;

    /// Up to where something that the participant was newly bound to is not kept any more; zero where all of it is.
    fn forgotten_through(&self, participant: &str) -> Sequence;
}

/// A subject that an association bound a participant to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBinding {
    /// The place of the association.
    pub sequence: Sequence,
    /// The subject; its role is that of a primary subject.
    pub subject: SubjectTerm,
}

/// Nobody is bound to anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoBindings;

impl PartyBindings for NoBindings {
    fn is_bound(&self, _: &str, _: &SubjectKey<'_>) -> bool {
        false
    }
}
