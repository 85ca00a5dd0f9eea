//! One broken rule of one field, as every room says it. It never says how a client is told: the API's table of errors does.

/// A field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path from the request's root, as in the proto files: `events[3].subjects[0].value`. Empty: the request as a whole.
    pub field: String,
    /// `UPPER_SNAKE`, for programs.
    pub reason: &'static str,
    /// What would be right, for people.
    pub description: String,
}
