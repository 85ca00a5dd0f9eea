//! The fold of holds. A hold is known by the trust domain of its publisher and its number there: only that domain lifts it, and neither a
//! release nor any other step of a declaration does.

use std::collections::BTreeMap;

use crate::domain::term::{TermHash, TermKind};

/// What names a hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HoldKey {
    /// The trust domain of whoever placed it.
    pub domain: Box<str>,
    /// The authority's own number of it.
    pub hold_id: Box<str>,
}

impl HoldKey {
    /// The term of every statement about the hold. Who reads events adds it to the terms of their headers, which know no hold.
    #[must_use]
    pub fn term(&self) -> TermHash {
        TermHash::of(TermKind::Hold, &[self.domain.as_bytes(), self.hold_id.as_bytes()])
    }
}

/// One statement about a hold, as the fold looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldStatement {
    /// Which hold.
    pub key: HoldKey,
    /// True where it is placed, false where it is lifted.
    pub placed: bool,
}

/// A hold that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHold {
    /// The statements that placed it since it was last lifted, by their indexes: the first says since when, all say on what.
    pub placed_by: Vec<usize>,
}

/// The holds that are open after some statements, which are in the order of statements.
#[must_use]
pub fn open_holds(statements: &[HoldStatement]) -> BTreeMap<HoldKey, OpenHold> {
    let mut open: BTreeMap<HoldKey, OpenHold> = BTreeMap::new();
    for (index, statement) in statements.iter().enumerate() {
        if statement.placed {
            let hold = open.entry(statement.key.clone()).or_insert_with(|| OpenHold { placed_by: Vec::new() });
            hold.placed_by.push(index);
        } else {
            open.remove(&statement.key);
        }
    }
    open
}
