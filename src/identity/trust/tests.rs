//! Bundles are never merged, every wrong certificate is refused with its reason, and revocation lists count until their grace has ended.

use std::{fs, path::PathBuf};

use super::*;
use crate::{
    config::Config,
    identity::dev_pki::{CERTIFICATE_LIFE_NS, CRL_LIFE_NS, DevPki, Fault as Broken, Issued},
};

const NOW_NS: i64 = 1_790_000_000_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
const CUSTOMS: &str = "spiffe://customs.gov.pk/agency/karachi";
const TERMINAL: &str = "spiffe://port.valparaiso.cl/terminal/tps";

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("a good name")
}

/// A node of Pakistan's exchange that recognises Pakistan's customs and the port of Valparaíso.
struct World {
    root: tempfile::TempDir,
    config: IdentityConfig,
    exchange: DevPki,
    customs: DevPki,
    port: DevPki,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let create = |name: &str| {
            let domain = TrustDomain::parse(name).expect("a good domain");
            DevPki::create(root.path(), &domain, NOW_NS).expect("created")
        };
        let (mut exchange, customs, port) =
            (create("exchange.gov.pk"), create("customs.gov.pk"), create("port.valparaiso.cl"));
        let hosts = ["localhost".to_owned()];
        let node = exchange
            .issue_node(&id("spiffe://exchange.gov.pk/node/khi-1"), &hosts, NOW_NS, CERTIFICATE_LIFE_NS)
            .expect("issued");
        let mut config = Config::local(root.path(), root.path()).identity;
        config.certificate_file = node.certificate_file;
        config.private_key_file = node.key_file;
        let world = Self { root, config, exchange, customs, port };
        world.write_trust(&["exchange.gov.pk", "customs.gov.pk", "port.valparaiso.cl"]);
        world
    }

    fn write_trust(&self, domains: &[&str]) {
        let table = |name: &&str| {
            format!("[[domain]]\nname = {name:?}\nbundle_file = \"{name}/ca.pem\"\ncrl_files = [\"{name}/crl.pem\"]\n")
        };
        let text: Vec<String> = domains.iter().map(table).collect();
        fs::write(self.root.path().join("trust.toml"), text.concat()).expect("written");
    }

    fn trust(&self) -> TrustStore {
        TrustStore::load(&self.config, NOW_NS).expect("good files")
    }

    fn faults(&self) -> String {
        TrustStore::load(&self.config, NOW_NS).expect_err("bad files").to_string()
    }
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    pem::certificates(&issued.certificate_file).expect("a chain")
}

fn reason(trust: &TrustStore, issued: &Issued) -> Reason {
    trust.verify_client(&chain(issued), NOW_NS).expect_err("refused").reason
}

#[test]
fn every_wrong_certificate_is_refused_with_its_reason() {
    let mut world = World::new();
    let good = world.customs.issue_participant(&id(CUSTOMS), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    let trust = world.trust();
    assert_eq!(trust.verify_client(&chain(&good), NOW_NS).expect("believed").id, id(CUSTOMS));
    assert_eq!(trust.verify_client(&[], NOW_NS).expect_err("refused").reason, Reason::NoCertificate);
    let garbage = [CertificateDer::from(vec![1, 2, 3])];
    assert_eq!(trust.verify_client(&garbage, NOW_NS).expect_err("refused").reason, Reason::BadCertificate);
    let mut broken = |fault: Broken| {
        let issued = world.customs.issue_broken(&id(CUSTOMS), &fault, NOW_NS).expect("issued");
        reason(&trust, &issued)
    };
    assert_eq!(broken(Broken::Expired), Reason::Expired);
    assert_eq!(broken(Broken::NotYetValid), Reason::NotYetValid);
    assert_eq!(broken(Broken::SecondUriName(id(TERMINAL))), Reason::NotOneUriName);
    assert_eq!(broken(Broken::NoUriName), Reason::NotOneUriName);
    assert_eq!(broken(Broken::SelfSigned), Reason::WrongAuthority);
    assert_eq!(broken(Broken::ServerOnly), Reason::WrongPurpose);
    // Both domains are recognised, and still one may not name what is the other's.
    assert_eq!(broken(Broken::NameIs(id(TERMINAL))), Reason::WrongAuthority);
    assert_eq!(broken(Broken::NameIs(id("spiffe://nobody.example/a"))), Reason::UnknownTrustDomain);
}

#[test]
fn revocation_lists_count_for_leaves_and_intermediates() {
    let mut world = World::new();
    let direct = world.customs.issue_participant(&id(CUSTOMS), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    let chained = world.port.issue_through_intermediate(&id(TERMINAL), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    let trust = world.trust();
    for issued in [&direct, &chained] {
        trust.verify_client(&chain(issued), NOW_NS).expect("believed");
    }
    world.customs.revoke(CUSTOMS, NOW_NS).expect("revoked");
    world.port.revoke_intermediate(NOW_NS).expect("revoked");
    world.customs.write_crl(NOW_NS, CRL_LIFE_NS).expect("written");
    world.port.write_crl(NOW_NS, CRL_LIFE_NS).expect("written");
    let trust = world.trust();
    for issued in [&direct, &chained] {
        assert_eq!(reason(&trust, issued), Reason::Revoked);
    }
}

#[test]
fn where_lists_are_given_an_issuer_without_one_is_refused() {
    let mut world = World::new();
    let root_only = fs::read(world.port.crl_file()).expect("the list");
    let chained = world.port.issue_through_intermediate(&id(TERMINAL), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    fs::write(world.port.crl_file(), root_only).expect("written");
    assert_eq!(reason(&world.trust(), &chained), Reason::RevocationUnknown);
}

#[test]
fn the_newest_list_counts_wherever_it_stands() {
    let mut world = World::new();
    let issued = world.customs.issue_participant(&id(CUSTOMS), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    let old = fs::read_to_string(world.customs.crl_file()).expect("the list");
    world.customs.revoke(CUSTOMS, NOW_NS).expect("revoked");
    world.customs.write_crl(NOW_NS, CRL_LIFE_NS).expect("written");
    let new = fs::read_to_string(world.customs.crl_file()).expect("the list");
    for both in [format!("{old}{new}"), format!("{new}{old}")] {
        fs::write(world.customs.crl_file(), both).expect("written");
        assert_eq!(reason(&world.trust(), &issued), Reason::Revoked);
    }
}

#[test]
fn an_expired_list_refuses_its_domain_after_the_grace_and_no_other() {
    let mut world = World::new();
    let customs = world.customs.issue_participant(&id(CUSTOMS), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    let port = world.port.issue_participant(&id(TERMINAL), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    world.customs.write_crl(NOW_NS, HOUR_NS).expect("written");
    let trust = world.trust();
    let later = |hours: i64| NOW_NS + hours * HOUR_NS;
    assert_eq!(trust.lists_in_grace(later(0)).count(), 0);
    trust.verify_client(&chain(&customs), later(24)).expect("believed in the grace");
    assert_eq!(trust.lists_in_grace(later(24)).count(), 1);
    assert_eq!(trust.verify_client(&chain(&customs), later(26)).expect_err("refused").reason, Reason::CrlExpired);
    assert_eq!(trust.refused_domains(later(26)).map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["customs.gov.pk"]);
    trust.verify_client(&chain(&port), later(26)).expect("another domain's list has not expired");
}

#[test]
fn an_expired_authority_vouches_for_nobody() {
    let mut world = World::new();
    let far_ns = NOW_NS + 3_700 * 24 * HOUR_NS;
    let issued = world.customs.issue_participant(&id(CUSTOMS), far_ns, CERTIFICATE_LIFE_NS).expect("issued");
    world.customs.write_crl(far_ns, CRL_LIFE_NS).expect("written");
    let refusal = world.trust().verify_client(&chain(&issued), far_ns).expect_err("refused");
    assert_eq!(refusal.reason, Reason::Expired);
    assert!(refusal.detail.contains("authority"), "{refusal}");
}

#[test]
fn withdrawing_a_domain_refuses_its_participants() {
    let mut world = World::new();
    let issued = world.port.issue_participant(&id(TERMINAL), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    world.write_trust(&["exchange.gov.pk", "customs.gov.pk"]);
    assert_eq!(reason(&world.trust(), &issued), Reason::UnknownTrustDomain);
}

#[test]
fn bad_files_are_all_named() {
    let mut world = World::new();
    let wrong_key = world.customs.issue_participant(&id(CUSTOMS), NOW_NS, CERTIFICATE_LIFE_NS).expect("issued");
    let own_key = std::mem::replace(&mut world.config.private_key_file, wrong_key.key_file);
    assert!(world.faults().contains("does not go with"), "{}", world.faults());
    world.config.private_key_file = own_key;
    world.config.certificate_file = PathBuf::from("/nonexistent/node.crt");
    fs::write(world.customs.crl_file(), "nonsense").expect("written");
    fs::remove_file(world.port.bundle_file()).expect("removed");
    let faults = world.faults();
    for expected in ["/nonexistent/node.crt: cannot be read", "customs.gov.pk/crl.pem", "port.valparaiso.cl/ca.pem"] {
        assert!(faults.contains(expected), "{expected} is not in {faults}");
    }
    fs::write(world.root.path().join("trust.toml"), "[[domain]]\nname = 'A'\nbundel_file = 'x'\n").expect("written");
    assert!(world.faults().contains("did you mean \"bundle_file\"?"), "{}", world.faults());
}

#[test]
fn a_node_without_its_own_domain_or_with_a_dead_certificate_is_refused() {
    let mut world = World::new();
    world.write_trust(&["customs.gov.pk"]);
    assert!(world.faults().contains("has no [[domain]] exchange.gov.pk, the node's own"), "{}", world.faults());
    world.write_trust(&["exchange.gov.pk"]);
    let node = id("spiffe://exchange.gov.pk/node/khi-1");
    let dead = world.exchange.issue_broken(&node, &Broken::Expired, NOW_NS).expect("issued");
    (world.config.certificate_file, world.config.private_key_file) = (dead.certificate_file, dead.key_file);
    assert!(world.faults().contains("EXPIRED"), "{}", world.faults());
}

#[test]
fn what_the_node_relies_on_is_listed_soonest_end_first() {
    let mut world = World::new();
    world.customs.write_crl(NOW_NS, HOUR_NS).expect("written");
    let items = world.trust().items();
    assert_eq!(items.len(), 7, "the node's certificate, three authorities, three lists: {items:#?}");
    assert_eq!((items[0].kind, items[0].trust_domain.as_str()), (TrustItemKind::RevocationList, "customs.gov.pk"));
    assert_eq!(items[0].remaining_ns(NOW_NS), HOUR_NS);
    assert_eq!(items.iter().filter(|item| item.kind == TrustItemKind::NodeCertificate).count(), 1);
    assert_eq!(world.trust().domains_without_lists().count(), 0);
}
