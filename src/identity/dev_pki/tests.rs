//! What the development PKI issues, checked with openssl-free means: by reading it back.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::identity::certificate::{CertificateFacts, hexadecimal};

const NOW_NS: i64 = 1_790_000_000 * SECOND_NS;

fn domain() -> TrustDomain {
    TrustDomain::parse("customs.gov.pk").expect("a good domain")
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).expect("a good name")
}

fn uris(path: &Path) -> Vec<String> {
    let pem = fs::read(path).expect("the certificate");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
    CertificateFacts::read(&pem.contents).expect("a certificate").uri_names
}

#[test]
fn an_authority_goes_on_where_it_stopped() {
    let root = tempfile::tempdir().expect("a directory");
    let karachi = id("spiffe://customs.gov.pk/agency/karachi");
    let issued = {
        let mut pki = DevPki::create(root.path(), &domain(), NOW_NS).expect("created");
        assert!(matches!(DevPki::create(root.path(), &domain(), NOW_NS), Err(PkiError::Exists(_))));
        pki.issue_participant(&karachi, NOW_NS, CERTIFICATE_LIFE_NS).expect("issued")
    };
    assert_eq!(uris(&issued.certificate_file), [karachi.to_string()]);
    let mode = fs::metadata(&issued.key_file).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut pki = DevPki::open(root.path(), &domain()).expect("opened");
    assert!(matches!(pki.revoke("spiffe://customs.gov.pk/agency/lahore", NOW_NS), Err(PkiError::NothingToRevoke(_))));
    assert_eq!(pki.revoke(karachi.as_str(), NOW_NS).expect("revoked"), std::slice::from_ref(&issued.serial));
    let crl = fs::read(pki.write_crl(NOW_NS, CRL_LIFE_NS).expect("written")).expect("the list");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&crl).expect("PEM");
    let (_, list) = x509_parser::parse_x509_crl(&pem.contents).expect("a list");
    let serials: Vec<String> = list.iter_revoked_certificates().map(|it| hexadecimal(it.raw_serial())).collect();
    assert_eq!(serials, [issued.serial]);
    assert_eq!(list.crl_number(), Some(&2_u32.into()));
}

#[test]
fn an_authority_vouches_for_its_own_names_and_keeps_their_files_apart() {
    let root = tempfile::tempdir().expect("a directory");
    let mut pki = DevPki::create(root.path(), &domain(), NOW_NS).expect("created");
    let foreign = id("spiffe://port.valparaiso.cl/terminal/tps");
    assert!(matches!(pki.issue_participant(&foreign, NOW_NS, DAY_NS), Err(PkiError::ForeignName { .. })));
    pki.issue_participant(&id("spiffe://customs.gov.pk/a/b"), NOW_NS, DAY_NS).expect("issued");
    for taken in ["spiffe://customs.gov.pk/a-b", "spiffe://customs.gov.pk/ca"] {
        assert!(
            matches!(pki.issue_participant(&id(taken), NOW_NS, DAY_NS), Err(PkiError::NameTaken { .. })),
            "{taken}"
        );
    }
    let node = id("spiffe://customs.gov.pk/node/khi-1");
    let wrong = pki.issue_node(&node, &["not a host".to_owned()], NOW_NS, DAY_NS);
    assert!(matches!(wrong, Err(PkiError::HostName(_))));
    pki.issue_node(&node, &["localhost".to_owned(), "127.0.0.1".to_owned()], NOW_NS, DAY_NS).expect("issued");
}

#[test]
fn faults_are_what_they_say() {
    let root = tempfile::tempdir().expect("a directory");
    let mut pki = DevPki::create(root.path(), &domain(), NOW_NS).expect("created");
    let (own, other) = (id("spiffe://customs.gov.pk/a"), id("spiffe://port.valparaiso.cl/b"));
    let mut issue = |fault: Fault| pki.issue_broken(&own, &fault, NOW_NS).expect("issued");
    assert!(issue(Fault::Expired).not_after_ns < NOW_NS);
    assert_eq!(uris(&issue(Fault::SecondUriName(other.clone())).certificate_file).len(), 2);
    assert!(uris(&issue(Fault::NoUriName).certificate_file).is_empty());
    assert_eq!(uris(&issue(Fault::NameIs(other.clone())).certificate_file), [other.to_string()]);
    issue(Fault::SelfSigned);
    issue(Fault::NotYetValid);
    issue(Fault::ServerOnly);
}
