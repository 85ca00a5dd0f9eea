//! A disk that fills up under a node: what it can no longer keep it refuses before the disk is full, with its reason; what it has it keeps
//! and shows; and it takes events again once there is room, without a start.

use std::{fs, path::Path, process::Command, time::Duration};

use prost::Message;
use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;
use tradelane::{
    clock::{Clock, SystemClock},
    testing::{
        events::{HOUR_NS, Voyage},
        pki::TERMINAL,
    },
    wire::{
        PublishRequest,
        proto::{Event, Extension, ListEventsRequest, ListOrder, event_service_client::EventServiceClient},
    },
};

use super::{
    child::{Disks, World},
    disk::Disk,
    say,
};

/// What the node is told to keep free: the least that it takes for its settings.
const REFUSE_BELOW_BYTES: u64 = 64 * 1024 * 1024;
/// So much more is left for events at first.
const ROOM_BYTES: u64 = 24 * 1024 * 1024;
/// How long to wait for what is to come; a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS_A_REQUEST: u32 = 100;
/// Below the limit of what an event may carry, and nothing that could be packed.
const EVENT_BYTES: usize = 16_000;

/// The events of the n-th request.
fn request(n: u32) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(n.into());
    let made = |number: u32| {
        let discharged = Voyage::new(number, SystemClock.now_ns() - Voyage::LASTS_NS - HOUR_NS).discharged();
        let data: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(EVENT_BYTES).collect();
        let extensions = vec![Extension { schema: "urn:tradelane:test".into(), data: data.into() }];
        Event { publisher: TERMINAL.into(), extensions, ..discharged }.with_id()
    };
    (n * EVENTS_A_REQUEST..(n + 1) * EVENTS_A_REQUEST).map(made).collect()
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("a mounted disk");
    stat.f_bavail * stat.f_frsize
}

/// Takes room on the disk.
fn ballast(disk: &Path, bytes: u64) {
    let file = disk.join("ballast");
    let taken = Command::new("fallocate").arg("-l").arg(bytes.to_string()).arg(&file).output().expect("fallocate runs");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}

/// The ids of everything that the node has, in its order.
async fn held(channel: &Channel) -> Vec<String> {
    let mut events = EventServiceClient::new(channel.clone());
    let mut ask =
        ListEventsRequest { page_size: 1_000, order: ListOrder::OldestFirst.into(), ..ListEventsRequest::default() };
    let mut ids = Vec::new();
    loop {
        let page = events.list_events(ask.clone()).await.expect("a page").into_inner();
        ids.extend(page.events.into_iter().map(|recorded| {
            let signed = recorded.signed.expect("whole");
            Event::decode(signed.event).expect("an event").event_id
        }));
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the right to mount: .ci/run powercuts runs it"]
async fn a_node_refuses_events_before_its_disk_is_full_and_goes_on_when_there_is_room() {
    let disk = Disk::create().expect("this machine lets us mount");
    let (world, data_dir) = (World::new(), disk.path().join("data"));
    let node = world.start(&data_dir, Disks::AsIs).await.expect("it starts");
    let channel = world.connect(node.address(), &world.port).await.expect("a connection");
    let mut events = EventServiceClient::new(channel.clone());
    let mut publish = async |made: &[Event]| {
        let request = PublishRequest { events: made.iter().map(Event::unsigned).collect(), on_invalid: 0 };
        events.publish(request).await
    };
    let mut stored: Vec<String> = Vec::new();
    let ids = |made: &[Event]| made.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>();

    ballast(&disk.path(), free_bytes(&disk.path()) - REFUSE_BELOW_BYTES - ROOM_BYTES);
    let filling = async {
        for n in 0.. {
            let made = request(n);
            match publish(&made).await {
                Ok(_) => stored.extend(ids(&made)),
                Err(refused) => return (made, refused),
            }
        }
        unreachable!("there are more numbers than the disk has room");
    };
    let (made, refused) = timeout(PATIENCE, filling).await.expect("the disk fills up");
    let free = free_bytes(&disk.path());
    say(&format!("refused with {free} bytes free, after {} events", stored.len()));
    let info = refused.get_details_error_info().unwrap_or_else(|| panic!("no details: {refused:?}"));
    assert_eq!((refused.code(), info.reason.as_str()), (Code::ResourceExhausted, "DISK_FULL"), "{refused:?}");
    assert!(refused.get_details_retry_info().is_some(), "when to come again: {refused:?}");
    assert!(!stored.is_empty() && free < REFUSE_BELOW_BYTES, "it refused with room: {free} bytes");
    // What was under way when the limit was reached still found room; most of the reserve is there.
    assert!(REFUSE_BELOW_BYTES / 2 < free, "{free} bytes are left");
    assert_eq!(held(&channel).await, stored, "what is stored is shown, and nothing of what was refused");

    // There is room again: it is noticed without anybody's help.
    fs::remove_file(disk.path().join("ballast")).expect("ours");
    let again = async {
        while let Err(refused) = publish(&made).await {
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("it takes events again");
    stored.extend(ids(&made));
    assert_eq!(held(&channel).await, stored);
    drop(channel);
    node.kill().await;
    let node = world.start(&data_dir, Disks::AsIs).await.expect("it starts again");
    let channel = world.connect(node.address(), &world.port).await.expect("a connection");
    assert_eq!(held(&channel).await, stored);
    drop(channel);
    node.kill().await;
}
