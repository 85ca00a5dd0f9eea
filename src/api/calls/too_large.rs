//! A request above its limit, in the words of the table of errors. Transport finds it before any service is asked, and says OUT_OF_RANGE
//! without details: a client that goes by codes would take it for a position, or send it again. It never touches another status.

use http::HeaderMap;
use tonic::{Code, Status};

use crate::api::Refused;

/// What tonic begins with; what follows are the numbers.
const TRANSPORT_WORDS: &str = "Error, decoded message length too large: ";

/// What to say in place of a status, where it is transport's word on a message that is too large. Every OUT_OF_RANGE of ours has details.
pub(super) fn in_our_words(headers: &HeaderMap) -> Option<Status> {
    let status = Status::from_header_map(headers)?;
    if status.code() != Code::OutOfRange || !status.details().is_empty() {
        return None;
    }
    let numbers = status.message().strip_prefix(TRANSPORT_WORDS).unwrap_or(status.message());
    let message = format!("the request is too large: {numbers}; ask for less, or send fewer events, at once");
    Some(Refused::new(Code::InvalidArgument, "REQUEST_TOO_LARGE", message).into())
}
