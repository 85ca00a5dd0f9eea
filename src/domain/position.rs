//! Places in a node's log. A bare number never leaves the log: readers hold a position, which carries the epoch, so that a log that was
//! restored from a backup cannot be mistaken for the one before.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// An event's place in one node's log: 1 for the first, strictly increasing. Zero is "before the first", never an event's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a log. Opening a restored log opens a new epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub Uuid);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a reader stands: (epoch, sequence). Written as one opaque string, `<epoch as 32 hexadecimal digits>-<sequence>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log that the sequence belongs to.
    pub epoch: Epoch,
    /// The last place that was read.
    pub sequence: Sequence,
}

/// The text is not a position that a node gave out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a position as a node gave it, unaltered")]
pub struct PositionMalformed;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.sequence)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = PositionMalformed;

    fn from_str(text: &str) -> Result<Self, PositionMalformed> {
        let (epoch, sequence) = text.split_once('-').ok_or(PositionMalformed)?;
        let epoch = Uuid::try_parse(epoch).map_err(|_| PositionMalformed)?;
        let sequence = sequence.parse().map_err(|_| PositionMalformed)?;
        let position = Self { epoch: Epoch(epoch), sequence: Sequence(sequence) };
        // One place has one spelling, so that clients may compare positions as strings.
        if position.to_string() == text { Ok(position) } else { Err(PositionMalformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_one_spelling() {
        let position = Position { epoch: Epoch(Uuid::from_u128(7)), sequence: Sequence(42) };
        let text = position.to_string();
        assert_eq!(text.parse(), Ok(position));
        for wrong in ["", "42", "x-42", &text.replace("-42", "-042"), &text.to_uppercase().replace('0', "O"), "-1"] {
            assert_eq!(wrong.parse::<Position>(), Err(PositionMalformed), "{wrong:?}");
        }
    }
}
