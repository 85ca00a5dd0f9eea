//! Requests that no service can read, or only in part: whatever is wrong with them is said with a code, a reason and the field, in a status
//! that every client can receive.

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::{
        events::{HOUR_NS, Voyage},
        pki::TERMINAL,
    },
    wire::{
        PublishRequest,
        proto::{self, Event, OnInvalid, PublishStreamRequest},
    },
};

use crate::harness::{Harness, POLICY};

/// The trailers of a call that Python, Java and C++ clients receive, unless they are told otherwise.
const TRAILER_DETAILS_BYTES_MAX: usize = 6_144;

/// Bytes that are sent as a message, as they are.
#[derive(Clone, PartialEq, Default, Debug)]
struct Raw(Bytes);

impl Message for Raw {
    fn encode_raw(&self, buf: &mut impl bytes::BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: prost::encoding::WireType,
        buf: &mut impl bytes::Buf,
        ctx: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

async fn refusal(channel: &Channel, path: &'static str, bytes: impl Into<Bytes>) -> Status {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("a connection");
    let codec: ProstCodec<Raw, Raw> = ProstCodec::default();
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(tonic::Request::new(Raw(bytes.into())), path, codec).await.expect_err("a wrong request")
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap_or_else(|| panic!("no details: {status:?}")).reason
}

fn fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().unwrap_or_else(|| panic!("no violations: {status:?}"));
    violations.field_violations.into_iter().map(|violation| violation.field).collect()
}

fn discharged(n: u32) -> Event {
    let voyage = Voyage::new(n, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS);
    Event { publisher: TERMINAL.into(), ..voyage.discharged() }.with_id()
}

#[tokio::test]
async fn what_cannot_be_read_or_is_too_large_is_told_in_words_that_every_client_can_receive() {
    let harness = Harness::start_with(POLICY, |config| config.api.publish_request_bytes_max = 100_000).await;
    let channel = harness.connect(&harness.port).await.expect("a connection");
    let (publish, list) = ("/tradelane.v1.EventService/Publish", "/tradelane.v1.EventService/ListEvents");

    let garbage = refusal(&channel, publish, vec![0xff; 3]).await;
    assert_eq!((garbage.code(), reason(&garbage).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{garbage:?}");

    // filters[0], with field 1023 in it, as often as fits.
    let unknown = [0x0a, 0x03, 0xf8, 0x3f, 0x01];
    let one = refusal(&channel, list, unknown.to_vec()).await;
    assert_eq!((one.code(), reason(&one).as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{one:?}");
    assert_eq!(fields(&one), ["filters[0]"]);
    assert!(one.message().starts_with("filters[0]: has field 1023"), "{one:?}");
    let many = refusal(&channel, list, unknown.repeat(10_000)).await;
    assert_eq!(many.code(), Code::InvalidArgument);
    assert!(many.details().len() <= TRAILER_DETAILS_BYTES_MAX, "{} bytes", many.details().len());
    let nested = [[0x0a, 0x1e].as_slice(), &[0xf8, 0x3f, 0x01].repeat(10)].concat();
    let nested = refusal(&channel, list, nested.repeat(1_000)).await;
    assert!(nested.details().len() <= TRAILER_DETAILS_BYTES_MAX, "{} bytes", nested.details().len());

    // What begins with an unknown field is read to its end, where nothing stops it.
    let (durable, full) = ("/tradelane.v1.SubscriptionService/GetSubscription", 64 * 1024);
    for (path, bytes, limit) in [(publish, 100_001, 100_000), (list, full + 1, full), (durable, full + 1, full)] {
        let large = refusal(&channel, path, [0xf8, 0x3f, 0x01].repeat(bytes / 3 + 1)).await;
        let told = (large.code(), reason(&large));
        assert_eq!(told, (Code::InvalidArgument, "REQUEST_TOO_LARGE".to_owned()), "{path}: {large:?}");
        assert!(large.message().contains(&format!("limit is: {limit} bytes")), "{path}: {large:?}");
    }
    let nearly = refusal(&channel, list, [0x0a, 0x00].repeat(full / 2)).await;
    assert_eq!(reason(&nearly), "INVALID_REQUEST", "as large as may be: {nearly:?}");
    let mut client = harness.events(&harness.port).await;
    let events: Vec<_> = (0..800).map(|n| discharged(n).unsigned()).collect();
    let request = PublishRequest { events, ..PublishRequest::default() };
    let request = PublishStreamRequest { correlation_id: 1, publish: Some(request) };
    let mut answers = client.publish_stream(tokio_stream::once(request)).await.expect("a stream").into_inner();
    let large = answers.message().await.expect_err("too large");
    assert_eq!((large.code(), reason(&large).as_str()), (Code::InvalidArgument, "REQUEST_TOO_LARGE"), "{large:?}");
    harness.stop().await;
}

#[tokio::test]
async fn an_event_that_is_skipped_is_told_what_a_request_with_it_alone_would_be_told() {
    let harness = Harness::start().await;
    let mut client = harness.events(&harness.port).await;
    let first = discharged(1);
    let mut publish = async |events: &[&Event], on_invalid: OnInvalid| {
        let events = events.iter().map(|event| event.unsigned()).collect();
        client.publish(PublishRequest { events, on_invalid: on_invalid.into() }).await.map(tonic::Response::into_inner)
    };
    publish(&[&first], OnInvalid::RejectBatch).await.expect("stored");
    let other = Event { utc_offset_minutes: Some(60), ..first.clone() };
    let foreign = Event { publisher: "spiffe://port.valparaiso.cl/another".into(), ..discharged(2) };
    let good = discharged(3);
    let said = publish(&[&good, &other, &foreign, &first], OnInvalid::Skip).await.expect("answered");

    let [stored, conflict, denied, again] = said.results.as_slice() else { panic!("four results: {said:?}") };
    assert!(stored.error.is_none() && !stored.duplicate && again.duplicate, "{said:?}");
    for (index, result, field, event) in [(1, conflict, "event_id", &other), (2, denied, "publisher", &foreign)] {
        let error = result.error.as_ref().expect("refused");
        let alone = publish(&[event], OnInvalid::RejectBatch).await.expect_err("refused too");
        assert_eq!(Code::from_i32(error.code), alone.code());
        assert_eq!(error.message, alone.message().replace("events[0]", &format!("events[{index}]")));
        let error = Status::with_details(alone.code(), "", error.encode_to_vec().into());
        assert_eq!(fields(&error), [format!("events[{index}].{field}")]);
        assert_eq!(reason(&error), reason(&alone));
    }
    let stored = client.list_events(proto::ListEventsRequest::default()).await.expect("a list").into_inner().events;
    assert_eq!(stored.len(), 2, "what was refused is not there");
    harness.stop().await;
}
