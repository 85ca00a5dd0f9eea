//! What an operator reads where a node refuses to start on damaged data, and that its words lead to a node that runs. Kinds of damage are
//! the log's own tests; this is the way out.

use std::fs;

use tradelane::{
    clock::{Clock, SystemClock},
    testing::nodes,
};

use crate::{
    harness::PATIENCE,
    peers::{bytes_of, discharged, held, holds, publish},
    process::{Process, operate, run},
};

/// `storage` among the exit codes that the README lists.
const EXIT_STORAGE: i32 = 74;

#[tokio::test(flavor = "multi_thread")]
async fn the_refusal_of_a_damaged_node_names_the_commands_that_bring_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = nodes::create(folder.path(), &['a'], SystemClock.now_ns()).remove(&'a').expect("made");
    let process = Process::start(&site);
    publish(&site, &(0..20).map(|n| discharged('a', n)).collect::<Vec<_>>()).await;
    let before = holds(&site, 20).await;
    let backup = folder.path().join("a.tradelane");
    let backup = backup.to_str().expect("a path of ASCII");
    let copied = operate(&site, &["backup", backup]);
    assert_eq!(copied.code, 0, "{copied:?}");
    process.kill();

    let data = site.folder.join("data");
    let watermark = data.join("watermark");
    let bytes = fs::read(&watermark).expect("every log has one");
    fs::write(&watermark, bytes.iter().map(|byte| !byte).collect::<Vec<u8>>()).expect("written");
    let mut refusing = Process::start(&site);
    assert_eq!(refusing.ends(PATIENCE).await, Some(EXIT_STORAGE));
    let said = fs::read_to_string(site.folder.join("node.log")).expect("it says why");
    assert!(said.contains("move the data directory aside"), "{said}");
    let command = said.split('`').find(|quoted| quoted.starts_with("tradelane restore")).expect("the command");

    fs::rename(&data, site.folder.join("data.damaged")).expect("moved aside");
    let config = site.config_file();
    let config = config.to_str().expect("a path of ASCII");
    let filled_in = |word| match word {
        "FILE" => config,
        "BACKUP" => backup,
        word => word,
    };
    let restored = run(&command.split(' ').skip(1).map(filled_in).collect::<Vec<_>>());
    assert_eq!(restored.code, 0, "{restored:?}");
    let process = Process::start(&site);
    assert_eq!(bytes_of(&holds(&site, 20).await), bytes_of(&before));
    publish(&site, &[discharged('a', 100)]).await;
    assert_eq!(held(&site).await.len(), 21);
    process.kill();
}
