//! The codec of every generated client and server: protobuf as prost reads it, with two differences. A request that carries something
//! unknown inside a filter is refused, and bytes that are no protobuf are the caller's fault (`INVALID_ARGUMENT`), not ours. It never
//! changes what is sent.

use std::{collections::HashMap, marker::PhantomData};

use bytes::Buf;
use prost::{Message, Name};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{
    strict,
    violations::{ERROR_DOMAIN, Violation, in_words},
};

/// Named by the generated code; see `proto/build.rs`.
#[derive(Debug)]
pub struct StrictCodec<E, D>(PhantomData<(E, D)>);

/// Reads one message.
#[derive(Debug)]
pub struct StrictDecoder<D>(PhantomData<D>);

impl<E, D> Default for StrictCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for StrictCodec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Name + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = ProstEncoder<E>;
    type Decoder = StrictDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(PhantomData)
    }
}

impl<D: Message + Default + Name> Decoder for StrictDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let decoded = if D::NAME.ends_with("Request") && strict::is_checked(&D::full_name()) {
            let bytes = buf.copy_to_bytes(buf.remaining());
            strict::check(&D::full_name(), &bytes).map_err(|violations| refused(&violations))?;
            D::decode(bytes)
        } else {
            D::decode(buf)
        };
        decoded.map(Some).map_err(|error| refused(&[strict::malformed(&error.to_string())]))
    }
}

/// The status, in the words of the services' own refusals.
fn refused(violations: &[Violation]) -> Status {
    let said = |violation: &Violation| {
        let mut said = FieldViolation::new(&violation.field, &violation.description);
        violation.reason.clone_into(&mut said.reason);
        said
    };
    let mut details = ErrorDetails::new();
    details.set_error_info("INVALID_REQUEST", ERROR_DOMAIN, HashMap::new());
    details.set_bad_request(violations.iter().map(said).collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, in_words(violations), details)
}
