//! What is wrong with a request, field by field, as `google.rpc.BadRequest` carries it. It never decides a status.

use std::fmt;

/// At most so many violations are told of one event: who has more has got the message.
pub const VIOLATIONS_PER_EVENT_MAX: usize = 32;

/// The domain of every `google.rpc.ErrorInfo` of ours.
pub const ERROR_DOMAIN: &str = "tradelane";

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path from the request: `events[3].subjects[0].value`.
    pub field: String,
    /// `UPPER_SNAKE`, for programs.
    pub reason: &'static str,
    /// What would be right, for people.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, description, .. } = self;
        if field.is_empty() { f.write_str(description) } else { write!(f, "{field}: {description}") }
    }
}

/// What is wrong in one line, for a status: the first, and how many more there are.
#[must_use]
pub fn in_words(violations: &[Violation]) -> String {
    match violations {
        [] => "the request is invalid".to_owned(),
        [only] => only.to_string(),
        [first, others @ ..] => format!("{first} (and {} more)", others.len()),
    }
}

/// Where in a message something stands, built on the stack while walking it: nothing is written out until something is wrong.
#[derive(Debug, Clone, Copy)]
pub enum Path<'a> {
    /// The path of the message itself; empty for a message that is the request.
    Root(&'a str),
    /// A field of a message.
    Field(&'a Path<'a>, &'static str),
    /// An element of a repeated field.
    Element(&'a Path<'a>, &'static str, usize),
}

impl Path<'_> {
    /// A field of the message at this path.
    #[must_use]
    pub const fn field(&self, name: &'static str) -> Path<'_> {
        Path::Field(self, name)
    }

    /// An element of a repeated field of the message at this path.
    #[must_use]
    pub const fn element(&self, name: &'static str, index: usize) -> Path<'_> {
        Path::Element(self, name, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut below = |parent: &Path<'_>| match parent {
            Path::Root("") => Ok(()),
            parent => write!(f, "{parent}."),
        };
        match self {
            Self::Root(path) => f.write_str(path),
            Self::Field(parent, name) => {
                below(parent)?;
                f.write_str(name)
            }
            Self::Element(parent, name, index) => {
                below(parent)?;
                write!(f, "{name}[{index}]")
            }
        }
    }
}

/// Violations as they are found, up to [`VIOLATIONS_PER_EVENT_MAX`].
#[derive(Debug, Default)]
pub struct Report {
    violations: Vec<Violation>,
}

impl Report {
    /// Notes a violation; beyond the limit nothing is noted, and nothing written out.
    pub fn add(&mut self, at: &Path<'_>, reason: &'static str, description: impl Into<String>) {
        if self.violations.len() < VIOLATIONS_PER_EVENT_MAX {
            self.violations.push(Violation { field: at.to_string(), reason, description: description.into() });
        }
    }

    /// Notes a violation unless a condition holds.
    pub fn require(&mut self, holds: bool, at: &Path<'_>, reason: &'static str, description: &str) {
        if !holds {
            self.add(at, reason, description);
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// What was found.
    #[must_use]
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }
}
