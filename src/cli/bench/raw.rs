//! Calls whose messages are bytes already, so that the measuring side costs little: no message is built or read in full while the clock
//! runs. It never judges an answer beyond counting what is in it.

use bytes::{Buf, BufMut, Bytes};
use futures::Stream;
use http::uri::PathAndQuery;
use prost::encoding::{WireType, decode_varint};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::cli::connect::DECODE_BYTES_MAX;

/// Where events are published.
pub const PUBLISH: &str = "/tradelane.v1.EventService/Publish";
/// Where they are published in a stream.
pub const PUBLISH_STREAM: &str = "/tradelane.v1.EventService/PublishStream";
/// Where they are followed.
pub const SUBSCRIBE: &str = "/tradelane.v1.EventService/Subscribe";

/// Messages as bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// A client of one connection.
#[derive(Debug, Clone)]
pub struct RawClient(Grpc<Channel>);

impl RawClient {
    /// Over a connection.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel).max_decoding_message_size(DECODE_BYTES_MAX))
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// As the server says, or the connection is gone.
    pub async fn unary(&mut self, path: &'static str, request: Bytes) -> Result<Bytes, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        Ok(self.0.unary(Request::new(request), path, RawCodec).await?.into_inner())
    }

    /// One request, many answers.
    ///
    /// # Errors
    /// As the server says, or the connection is gone.
    pub async fn server_stream(&mut self, path: &'static str, request: Bytes) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        Ok(self.0.server_streaming(Request::new(request), path, RawCodec).await?.into_inner())
    }

    /// Many requests, many answers.
    ///
    /// # Errors
    /// As the server says, or the connection is gone.
    pub async fn both_streams(
        &mut self,
        path: &'static str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Streaming<Bytes>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        Ok(self.0.streaming(Request::new(requests), path, RawCodec).await?.into_inner())
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))
    }
}

/// The length-delimited fields of a message, in order. Ends where the bytes are no protobuf.
pub fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let key = decode_varint(&mut bytes).ok()?;
            match WireType::try_from(key & 7).ok()? {
                WireType::Varint => {
                    decode_varint(&mut bytes).ok()?;
                }
                WireType::SixtyFourBit => bytes = bytes.get(8..)?,
                WireType::ThirtyTwoBit => bytes = bytes.get(4..)?,
                WireType::LengthDelimited => {
                    let length = decode_varint(&mut bytes).ok()? as usize;
                    let field = bytes.get(..length)?;
                    bytes = &bytes[length..];
                    return Some(((key >> 3) as u32, field));
                }
                WireType::StartGroup | WireType::EndGroup => return None,
            }
        }
        None
    })
}

/// How many events a `PublishResponse` says are stored.
#[must_use]
pub fn stored_in_response(response: &[u8]) -> usize {
    // A result with an error (field 5) stored nothing.
    let is_stored = |result: &[u8]| fields(result).all(|(number, _)| number != 5);
    fields(response).filter(|(number, result)| *number == 1 && is_stored(result)).count()
}

/// How many events a `PublishStreamResponse` says are stored.
#[must_use]
pub fn stored_in_stream_response(response: &[u8]) -> usize {
    fields(response).filter(|(number, _)| *number == 2).map(|(_, response)| stored_in_response(response)).sum()
}

/// The events of a `SubscribeResponse`: each a `RecordedEvent`.
pub fn delivered(response: &[u8]) -> impl Iterator<Item = &[u8]> {
    fields(response)
        .filter(|(number, _)| *number == 2)
        .flat_map(|(_, batch)| fields(batch).filter(|(number, _)| *number == 1).map(|(_, recorded)| recorded))
}

/// The id of a `RecordedEvent`'s event.
#[must_use]
pub fn id_of(recorded: &[u8]) -> Option<&[u8]> {
    let first = |bytes| fields(bytes).find_map(|(number, field)| (number == 1).then_some(field));
    first(first(first(recorded)?)?)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::wire::{
        EventBatch, SignedEvent,
        proto::{
            PublishResponse, PublishResult, PublishStreamResponse, RecordedEvent, SubscribeResponse,
            publish_stream_response::Answer, subscribe_response,
        },
    };

    #[test]
    fn stored_events_are_counted_and_refused_ones_are_not() {
        let good = PublishResult { event_id: "a".into(), position: "p".into(), ..PublishResult::default() };
        let error = Some(tonic_types::Status { code: 3, ..Default::default() });
        let bad = PublishResult { error, ..good.clone() };
        let response = PublishResponse { results: vec![good.clone(), bad, good] };
        assert_eq!(stored_in_response(&response.encode_to_vec()), 2);
        let said = PublishStreamResponse { correlation_id: 7, answer: Some(Answer::Response(response)) };
        assert_eq!(stored_in_stream_response(&said.encode_to_vec()), 2);
    }

    #[test]
    fn delivered_events_are_found_with_their_ids() {
        let event = crate::wire::proto::Event { event_id: "the id".into(), ..Default::default() };
        let signed = SignedEvent { event: event.encode_to_vec().into(), signature: None };
        let recorded = RecordedEvent { position: "p".into(), signed: Some(signed), ..RecordedEvent::default() };
        let batch = EventBatch { events: vec![recorded.clone(), recorded], ..EventBatch::default() };
        let response = SubscribeResponse { message: Some(subscribe_response::Message::Events(batch)) };
        let bytes = response.encode_to_vec();
        assert_eq!(delivered(&bytes).map(id_of).collect::<Vec<_>>(), [Some(&b"the id"[..]); 2]);
    }
}
