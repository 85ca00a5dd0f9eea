//! An event's id as its publisher set it. It never names an event alone: identity is (publisher, event id).

use std::fmt;

use uuid::Uuid;

/// A UUID (RFC 9562) in its canonical lower-case form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Uuid);

/// The text is not a canonical lower-case UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a UUID of RFC 9562 in lower case, such as 0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f")]
pub struct EventIdMalformed;

impl EventId {
    /// Reads the canonical form (36 characters, lower case, hyphens), and no other.
    ///
    /// # Errors
    /// Any other spelling of a UUID, or the nil UUID.
    pub fn parse(text: &str) -> Result<Self, EventIdMalformed> {
        let canonical = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match Uuid::try_parse(text) {
            Ok(uuid) if canonical && !uuid.is_nil() => Ok(Self(uuid)),
            _ => Err(EventIdMalformed),
        }
    }

    /// The id from its 16 bytes, as storage keeps it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The UUID itself.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_read() {
        assert!(EventId::parse("0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f").is_ok());
        for wrong in [
            "",
            "0198C5A2-7B1E-7C3D-9F00-5A1B2C3D4E5F",
            "0198c5a27b1e7c3d9f005a1b2c3d4e5f",
            "{0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f}",
            "urn:uuid:0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(EventId::parse(wrong).is_err(), "{wrong:?} was read");
        }
    }
}
