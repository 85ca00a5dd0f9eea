//! What the commands of the development PKI write, and how they refuse.

use clap::Parser;

use super::*;

const NOW_NS: i64 = 1_790_000_000_000_000_000;

#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: PkiCommand,
}

fn pki(directory: &tempfile::TempDir, line: &str) -> Result<String, Failure> {
    let directory = directory.path().to_str().expect("a temporary path is Unicode");
    let words = ["pki"].into_iter().chain(line.split(' ')).chain(["--dir", directory]);
    let program = Program::try_parse_from(words).map_err(|error| Failure::usage(error.to_string()))?;
    let mut out = Vec::new();
    run_at(&program.command, NOW_NS, &mut out)?;
    Ok(String::from_utf8(out).expect("the output is text"))
}

#[test]
fn an_authority_issues_and_revokes_and_the_files_are_where_it_says() {
    let directory = tempfile::tempdir().unwrap();
    pki(&directory, "init customs.gov.pk").unwrap();
    let said = pki(&directory, "issue spiffe://customs.gov.pk/agency/karachi --days 10").unwrap();
    let file = directory.path().join("customs.gov.pk/agency-karachi.pem");
    assert!(file.exists() && said.contains(file.to_str().unwrap()), "{said}");
    let list = directory.path().join("customs.gov.pk/crl.pem");
    let before = std::fs::read(&list).unwrap();
    let said = pki(&directory, "revoke spiffe://customs.gov.pk/agency/karachi").unwrap();
    assert!(said.starts_with("revoked: serial "), "{said}");
    assert_ne!(std::fs::read(&list).unwrap(), before);
}

#[test]
fn a_node_needs_a_host_name_and_a_participant_must_not_have_one() {
    let directory = tempfile::tempdir().unwrap();
    pki(&directory, "init exchange.gov.pk").unwrap();
    assert!(pki(&directory, "issue spiffe://exchange.gov.pk/node/khi-1 --node --host localhost").is_ok());
    let node = pki(&directory, "issue spiffe://exchange.gov.pk/node/khi-2 --node").unwrap_err();
    let participant = pki(&directory, "issue spiffe://exchange.gov.pk/operator --host localhost").unwrap_err();
    assert_eq!((node.code, participant.code), (ExitCode::Usage, ExitCode::Usage));
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let missing = pki(&directory, "issue spiffe://customs.gov.pk/agency/karachi").unwrap_err();
    assert!(missing.message.contains("tradelane pki init"), "{missing}");
    pki(&directory, "init customs.gov.pk").unwrap();
    assert_eq!(pki(&directory, "init customs.gov.pk").unwrap_err().code, ExitCode::Usage);
    let serial_alone = pki(&directory, "revoke 3f9c2a77").unwrap_err();
    assert!(serial_alone.message.contains("--domain"), "{serial_alone}");
}

#[test]
fn programs_are_told_the_files_and_serials() {
    let directory = tempfile::tempdir().unwrap();
    let json = |line: &str| {
        let said = pki(&directory, &format!("{line} --output json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&said).unwrap()
    };
    let authority = json("init customs.gov.pk");
    let issued = json("issue spiffe://customs.gov.pk/agency/karachi");
    let revoked = json("revoke spiffe://customs.gov.pk/agency/karachi");
    let list = json("crl customs.gov.pk");
    for file in [&authority["bundleFile"], &issued["certificateFile"], &issued["keyFile"], &list["crlFile"]] {
        assert!(std::path::Path::new(file.as_str().unwrap()).is_file(), "{file}");
    }
    assert_eq!(revoked["revokedSerials"], serde_json::json!([issued["serial"]]));
}
