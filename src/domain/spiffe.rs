//! Names of participants and nodes: SPIFFE IDs (SPIFFE-ID standard, sections 2 and 3), and patterns over them. It never decides what a
//! name may do.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest SPIFFE ID in bytes (SPIFFE-ID standard, section 2.3 allows 2,048); shorter here since every event carries several.
pub const SPIFFE_ID_BYTES_MAX: usize = 255;

/// A participant's or node's name, such as `spiffe://customs.gov.pk/agency/karachi`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

/// One administration: the part of a SPIFFE ID that says whose authorities vouch for it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE ID, or a prefix that ends in `/*` and stands for every ID below it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffePattern(Arc<str>);

/// Why a text is not a SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdMalformed {
    /// Another scheme, or none.
    #[error("must begin with spiffe://")]
    Scheme,
    /// Longer than [`SPIFFE_ID_BYTES_MAX`].
    #[error("must be at most 255 bytes long")]
    TooLong,
    /// The trust domain is empty or has a character outside `a-z 0-9 . - _`.
    #[error("must name a trust domain of lower-case letters, digits, dots, hyphens and underscores")]
    TrustDomain,
    /// There is no path, an empty or relative segment, or a character outside `A-Z a-z 0-9 . - _`.
    #[error("must have a path of segments of letters, digits, dots, hyphens and underscores")]
    Path,
}

impl SpiffeId {
    /// Reads a SPIFFE ID with a trust domain and a path.
    ///
    /// # Errors
    /// What of the standard's form it does not keep.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdMalformed> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// Whether a text is a SPIFFE ID, where nobody needs it as one.
    ///
    /// # Errors
    /// As for [`SpiffeId::parse`].
    pub fn check(text: &str) -> Result<(), SpiffeIdMalformed> {
        let (domain, path) = split(text)?;
        check_domain(domain)?;
        check_path(path.ok_or(SpiffeIdMalformed::Path)?)
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The administration that vouches for it.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        let rest = &self.0["spiffe://".len()..];
        rest.split('/').next().unwrap_or(rest)
    }
}

impl TrustDomain {
    /// Reads a trust domain, such as `customs.gov.pk`.
    ///
    /// # Errors
    /// It is empty or has another character than the standard allows.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdMalformed> {
        check_domain(text)?;
        Ok(Self(text.into()))
    }

    /// The domain's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffePattern {
    /// Reads a SPIFFE ID, or one with a trailing `/*` in place of its last segments (`spiffe://customs.gov.pk/*`).
    ///
    /// # Errors
    /// As for [`SpiffeId::parse`].
    pub fn parse(text: &str) -> Result<Self, SpiffeIdMalformed> {
        match text.strip_suffix("/*") {
            None => {
                SpiffeId::check(text)?;
            }
            Some(prefix) => {
                let (domain, path) = split(prefix)?;
                check_domain(domain)?;
                if let Some(path) = path {
                    check_path(path)?;
                }
            }
        }
        Ok(Self(text.into()))
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is the one meant, or below the prefix meant. Works on the text of a [`SpiffeId`], since the hot path has no more.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        pattern_matches(&self.0, id)
    }

    /// The name, where the pattern means exactly one.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        (!self.0.ends_with('*')).then_some(&*self.0)
    }
}

/// Whether a name is the one that a pattern means, or below its prefix; both as texts that were read before as [`SpiffePattern`] and
/// [`SpiffeId`], as a stored header has them.
#[must_use]
pub fn pattern_matches(pattern: &str, id: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern == id,
        Some(prefix) => id.len() > prefix.len() && id.starts_with(prefix),
    }
}

fn split(text: &str) -> Result<(&str, Option<&str>), SpiffeIdMalformed> {
    if text.len() > SPIFFE_ID_BYTES_MAX {
        return Err(SpiffeIdMalformed::TooLong);
    }
    let rest = text.strip_prefix("spiffe://").ok_or(SpiffeIdMalformed::Scheme)?;
    Ok(match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    })
}

fn check_domain(domain: &str) -> Result<(), SpiffeIdMalformed> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let good = !domain.is_empty() && domain.len() <= SPIFFE_ID_BYTES_MAX && domain.bytes().all(allowed);
    if good { Ok(()) } else { Err(SpiffeIdMalformed::TrustDomain) }
}

fn check_path(path: &str) -> Result<(), SpiffeIdMalformed> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let good = |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(allowed);
    if path.split('/').all(good) { Ok(()) } else { Err(SpiffeIdMalformed::Path) }
}

macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = SpiffeIdMalformed;

            fn from_str(text: &str) -> Result<Self, SpiffeIdMalformed> {
                Self::parse(text)
            }
        }
    };
}

text_type!(SpiffeId);
text_type!(TrustDomain);
text_type!(SpiffePattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_standards_form() {
        let id = SpiffeId::parse("spiffe://customs.gov.pk/agency/karachi").expect("a good name");
        assert_eq!(id.trust_domain(), "customs.gov.pk");
        for (wrong, why) in [
            ("https://customs.gov.pk/a", SpiffeIdMalformed::Scheme),
            ("spiffe:///a", SpiffeIdMalformed::TrustDomain),
            ("spiffe://Customs.gov.pk/a", SpiffeIdMalformed::TrustDomain),
            ("spiffe://customs.gov.pk", SpiffeIdMalformed::Path),
            ("spiffe://customs.gov.pk/", SpiffeIdMalformed::Path),
            ("spiffe://customs.gov.pk/a//b", SpiffeIdMalformed::Path),
            ("spiffe://customs.gov.pk/../b", SpiffeIdMalformed::Path),
            ("spiffe://customs.gov.pk/a*", SpiffeIdMalformed::Path),
            ("spiffe://customs.gov.pk/a b", SpiffeIdMalformed::Path),
        ] {
            assert_eq!(SpiffeId::parse(wrong), Err(why), "{wrong:?}");
        }
    }

    #[test]
    fn a_prefix_means_what_is_below_it_and_nothing_beside_it() {
        let pattern = SpiffePattern::parse("spiffe://customs.gov.pk/agency/*").expect("a good pattern");
        assert!(pattern.matches("spiffe://customs.gov.pk/agency/karachi"));
        assert!(!pattern.matches("spiffe://customs.gov.pk/agency"));
        assert!(!pattern.matches("spiffe://customs.gov.pk/agency2/karachi"));
        let domain = SpiffePattern::parse("spiffe://customs.gov.pk/*").expect("a good pattern");
        assert!(domain.matches("spiffe://customs.gov.pk/agency"));
        assert!(!domain.matches("spiffe://customs.gov.pk.evil.example/agency"));
        assert!(SpiffePattern::parse("spiffe://*").is_err());
    }
}
