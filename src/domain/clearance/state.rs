//! The states of a declaration and the moves between them (standards, section 6). It never refuses a move: one that should not be is for
//! the fold to report.

/// The state of a declaration: its last step that is no notice. The numbers are those of `ClearanceStep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// Received by customs.
    Lodged = 1,
    /// Accepted.
    Accepted = 2,
    /// Not accepted.
    Rejected = 3,
    /// Documents are asked for.
    DocumentsRequired = 4,
    /// The goods are released.
    Released = 5,
    /// A release was taken back.
    ReleaseRevoked = 6,
    /// Everything is settled.
    Cleared = 7,
    /// Released for transit.
    InTransit = 8,
    /// The transit is discharged.
    TransitDischarged = 9,
    /// The goods have left the customs territory.
    Exited = 10,
    /// The goods are not released.
    Refused = 11,
    /// The declaration is void: it lets nothing go, and stands against its goods until it is detached from them.
    Invalidated = 12,
}

/// Steps from this number on are notices: they leave the state as it is.
const FIRST_NOTICE: u8 = 20;

/// What a step does to the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It sets the state.
    Sets(State),
    /// It leaves it.
    Notice,
    /// A step of a newer model: nobody here knows what state it sets.
    Unknown,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 12] = [
        Self::Lodged,
        Self::Accepted,
        Self::Rejected,
        Self::DocumentsRequired,
        Self::Released,
        Self::ReleaseRevoked,
        Self::Cleared,
        Self::InTransit,
        Self::TransitDischarged,
        Self::Exited,
        Self::Refused,
        Self::Invalidated,
    ];

    /// Its number in `ClearanceStep`.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The states that may follow this one. To stay is never a move.
    #[must_use]
    pub const fn successors(self) -> &'static [Self] {
        use State::{
            Accepted, Cleared, DocumentsRequired, Exited, InTransit, Invalidated, Lodged, Refused, Rejected,
            ReleaseRevoked, Released, TransitDischarged,
        };
        match self {
            Lodged => &[Accepted, DocumentsRequired, Rejected, Released, Invalidated],
            // A new attempt under the same number.
            Rejected => &[Lodged, Accepted],
            Accepted => &[DocumentsRequired, Released, Cleared, InTransit, Refused, Invalidated],
            DocumentsRequired => &[Accepted, Released, Cleared, InTransit, Refused, Invalidated],
            Released => {
                &[DocumentsRequired, Cleared, InTransit, TransitDischarged, Exited, ReleaseRevoked, Invalidated]
            }
            ReleaseRevoked => &[Accepted, DocumentsRequired, Released, Refused, Invalidated],
            Cleared => &[Exited, ReleaseRevoked, Invalidated],
            InTransit => &[Released, DocumentsRequired, TransitDischarged, Exited],
            Refused | Invalidated | TransitDischarged | Exited => &[],
        }
    }

    /// Whether a history may begin with it; one that begins with another is incomplete here.
    #[must_use]
    pub const fn begins(self) -> bool {
        matches!(self, Self::Lodged | Self::Accepted | Self::Rejected)
    }

    /// Whether, as far as this declaration goes, the goods may leave.
    #[must_use]
    pub const fn lets_go(self) -> bool {
        matches!(self, Self::Released | Self::Cleared | Self::Exited | Self::TransitDischarged)
    }

    /// Whether it takes back what was said before it. Where another authority said that, the two contradict each other.
    #[must_use]
    pub const fn takes_back(self) -> bool {
        matches!(self, Self::Rejected | Self::ReleaseRevoked | Self::Refused | Self::Invalidated)
    }
}

impl Effect {
    /// What the step of this number does.
    #[must_use]
    pub fn of(step: u8) -> Self {
        match State::ALL.into_iter().find(|state| state.code() == step) {
            Some(state) => Self::Sets(state),
            None if FIRST_NOTICE <= step => Self::Notice,
            None => Self::Unknown,
        }
    }
}
