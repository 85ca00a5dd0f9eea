//! Files read anew: all or nothing, noticed by every way, and said what changed.

use std::{path::Path, sync::Arc};

use tokio::time::Instant;

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    identity::{dev_pki::CERTIFICATE_LIFE_NS, trust::TrustItemKind},
    testing::pki::{NODE, PkiWorld, id},
};

const GRANT: &str = "[[grant]]\nid = 'a'\nwho = ['spiffe://customs.gov.pk/*']\nactions = ['read']\nall = true\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn open() -> (tempfile::TempDir, PkiWorld, Identity) {
    let directory = tempfile::tempdir().expect("a directory");
    let world = PkiWorld::create(directory.path(), SystemClock.now_ns()).expect("made");
    let mut config = world.config().identity;
    config.poll_interval = Duration::from_millis(20);
    std::fs::create_dir_all(config.audit_file.parent().unwrap_or(Path::new("."))).expect("made");
    let identity = Identity::open(&config, Arc::new(SystemClock)).expect("good files");
    (directory, world, identity)
}

async fn until(identity: &Identity, what: &str, done: impl Fn(&Identity) -> bool, mut again: impl FnMut()) {
    let deadline = Instant::now() + PATIENCE;
    while !done(identity) {
        assert!(Instant::now() < deadline, "{what} was not noticed");
        again();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_reload_says_what_changed_and_leaves_alone_what_did_not() {
    let (_directory, world, identity) = open();
    assert!(identity.reload(&ReloadCause::Signal).await.expect("good files").changes.is_empty());
    assert_eq!(identity.access().policy().generation, 1);

    world.write_policy(GRANT).expect("written");
    let by = ReloadCause::Operator(id(NODE));
    let outcome = identity.reload(&by).await.expect("good files");
    assert_eq!((outcome.policy_generation, outcome.changes), (2, vec!["grant a added".to_owned()]));
    world.write_policy(&GRANT.replace("'read'", "'read', 'publish'")).expect("written");
    assert_eq!(identity.reload(&by).await.expect("good files").changes, ["grant a changed"]);
    world.write_policy("").expect("written");
    world.write_trust(&["exchange.gov.pk", "customs.gov.pk"]).expect("written");
    let outcome = identity.reload(&by).await.expect("good files");
    assert_eq!(outcome.changes.len(), 3, "an authority, a list, a grant: {:?}", outcome.changes);
    assert!(outcome.changes.iter().all(|line| line.contains("removed")), "{:?}", outcome.changes);
}

#[tokio::test]
async fn a_bad_file_keeps_everything_and_says_why() {
    let (directory, mut world, identity) = open();
    world.write_policy(GRANT).expect("written");
    identity.reload(&ReloadCause::Signal).await.expect("good files");
    world.write_trust(&["exchange.gov.pk"]).expect("written");
    world.write_policy("[[grnat]]").expect("written");
    let faults = identity.reload(&ReloadCause::Signal).await.expect_err("a bad file").to_string();
    assert!(faults.contains("policy.toml:1: grnat: is not a known key; did you mean \"grant\"?"), "{faults}");
    assert_eq!(identity.access().policy().grants.len(), 1);
    assert_eq!(identity.trust().domains().count(), 3, "the good trust file beside it is not taken either");
    let audit = std::fs::read_to_string(directory.path().join("data/audit.log")).expect("the audit log");
    assert!(audit.contains("refused, all stays as it was"), "{audit}");

    world.write_policy("").expect("written");
    let other = id("spiffe://exchange.gov.pk/node/khi-2");
    let now_ns = SystemClock.now_ns();
    let renamed = world.exchange.issue_node(&other, &[], now_ns, CERTIFICATE_LIFE_NS).expect("issued");
    world.put_node_certificate(&renamed).expect("put");
    let faults = identity.reload(&ReloadCause::Signal).await.expect_err("another name").to_string();
    assert!(faults.contains("cannot change while it runs"), "{faults}");
}

#[tokio::test]
async fn files_links_and_sighup_are_noticed() {
    let (directory, mut world, identity) = open();
    let stopping = CancellationToken::new();
    let watching = tokio::spawn(identity.clone().watch(stopping.clone()));
    // Whoever comes first: a signal before anybody listens would end the process.
    let _listening = signal(SignalKind::hangup()).expect("listened to");

    world.write_policy(GRANT).expect("written");
    let granted = |identity: &Identity| identity.access().policy().grants.len() == 1;
    until(&identity, "a written file", granted, || {}).await;

    // As Kubernetes does: the file is a link into a folder that is itself a link, and only that is switched.
    let at = |name: &str| directory.path().join(name);
    let serial = |identity: &Identity| {
        let items = identity.trust().items();
        items.into_iter().find(|item| item.kind == TrustItemKind::NodeCertificate).expect("its own").serial
    };
    let first = serial(&identity);
    std::fs::create_dir(at("v1")).expect("made");
    for name in ["node.crt", "node.key"] {
        std::fs::rename(at(name), at("v1").join(name)).expect("moved");
    }
    std::os::unix::fs::symlink("v1", at("current")).expect("linked");
    for name in ["node.crt", "node.key"] {
        std::os::unix::fs::symlink(format!("current/{name}"), at(name)).expect("linked");
    }
    std::fs::create_dir(at("v2")).expect("made");
    let newer = world.exchange.issue_node(&id(NODE), &[], SystemClock.now_ns(), CERTIFICATE_LIFE_NS).expect("issued");
    std::fs::copy(&newer.certificate_file, at("v2/node.crt")).expect("copied");
    std::fs::copy(&newer.key_file, at("v2/node.key")).expect("copied");
    std::os::unix::fs::symlink("v2", at("next")).expect("linked");
    std::fs::rename(at("next"), at("current")).expect("switched");
    until(&identity, "a switched link", |identity| serial(identity) == newer.serial, || {}).await;
    assert_ne!(first, newer.serial);

    let audit = || std::fs::read_to_string(at("data/audit.log")).expect("the audit log");
    let signalled = |_: &Identity| audit().contains("SIGHUP");
    let hangup = || {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).expect("signalled");
    };
    until(&identity, "SIGHUP", signalled, hangup).await;
    stopping.cancel();
    watching.await.expect("no panic").expect("it could listen");
}

#[test]
fn ends_are_warned_of_once_for_each_stage() {
    let (_directory, _world, identity) = open();
    let mut item = identity.trust().items().pop().expect("an item");
    (item.not_before_ns, item.not_after_ns) = (0, 365 * DAY_NS);
    let mut warnings = Warnings::default();
    let due: Vec<i64> = (0..370).filter(|day| warnings.is_due(&item, day * DAY_NS)).map(|day| 365 - day).collect();
    assert_eq!(due, [30, 14, 7, 1]);
    (item.not_after_ns, item.serial) = (DAY_NS, "another".to_owned());
    assert!(!warnings.is_due(&item, 0), "a certificate of one day is not near its end when it begins");
    assert!(warnings.is_due(&item, DAY_NS - HOUR_NS));
    assert!(warnings.is_due_hourly("a", 0) && !warnings.is_due_hourly("a", 1) && warnings.is_due_hourly("a", HOUR_NS));
}
