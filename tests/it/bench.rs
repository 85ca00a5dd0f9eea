//! The measurements as a script runs them, with tiny counts: they end by themselves, what they print is well formed, and the counts add
//! up. It never looks at a time or a rate.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_run_of_everything_ends_and_its_counts_add_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_tradelane"))
        .args([
            "bench",
            "--quick",
            "--seconds",
            "20",
            "--events",
            "10000",
            "--events",
            "5000",
            "--output",
            "json",
            "--dir",
        ])
        .arg(folder.path())
        // A node of the environment must not be met.
        .env("TRADELANE_PROFILE", "/nowhere")
        .output()
        .expect("the program runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");

    let document: Value = serde_json::from_str(&out).expect("one JSON document");
    assert_eq!(document["settings"]["quick"], true);
    let measurements = document["measurements"].as_array().expect("measurements");
    let of = |workload: &str, system: &str| -> Vec<&Value> {
        let wanted = |one: &&Value| one["workload"] == workload && one["system"] == system;
        measurements.iter().filter(wanted).collect()
    };
    for one in measurements {
        let (count, seconds) = (one["count"].as_u64().expect("a count"), one["seconds"].as_f64().expect("seconds"));
        assert!(count > 0 && seconds > 0.0, "{one}");
        assert_eq!(one["round"], 1, "{one}");
    }
    // The same requests went to the node, to the file and to the server that does nothing.
    let publish = of("publish", "tradelane");
    for limit in of("publish", "plain_file").into_iter().chain(of("publish", "no_op_server")) {
        let node = publish.iter().find(|one| one["case"] == limit["case"]).expect("the same case");
        assert_eq!(node["count"], limit["count"], "{}", limit["case"]);
    }
    let counts = |workload: &str, system: &str| -> Vec<u64> {
        of(workload, system).iter().map(|one| one["count"].as_u64().expect("a count")).collect()
    };
    assert_eq!(counts("publish", "tradelane").len(), 9 + 2, "every size, and the stream beside calls");
    // 2,000 and 20,000 a second for 20 s, divided by 500; end to end and until acknowledged.
    assert_eq!(counts("latency", "tradelane"), [80, 80, 800, 800]);
    // 10,000 and 5,000 events divided by 500, each read without and with a filter, and streamed bare.
    assert_eq!(document["settings"]["stored_events"], serde_json::json!([20, 10]));
    assert_eq!((counts("replay", "tradelane"), counts("replay", "bare_stream")), (vec![20, 20, 10, 10], vec![20, 10]));
    // 100,000, 20,000 and 2,000 events by requests of 100, divided by 500; one request at least.
    assert_eq!(counts("fan_out", "tradelane"), [10 * 200, 100 * 100, 1_000 * 100]);
    assert_eq!(
        counts("query", "tradelane").len(),
        2 * 8,
        "every kind, quiet and while events are published, at both sizes"
    );
    // How they were stored, a declaration, a container, a page, a watch; at both sizes.
    assert_eq!(counts("clearance", "tradelane").len(), 2 * 5);
    // 10,000 events divided by 500, replayed and over a link; and 2,000 a second for 20 s, divided by 500, to either node's subscriber.
    assert_eq!(counts("federation", "tradelane"), [20, 20, 80, 80]);
    let names = |list: &str| -> Vec<String> {
        let all = document[list].as_array().expect("a list").iter();
        all.map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert!(names("ratios").iter().any(|name| name == "single events: stream to unary"), "{:?}", names("ratios"));
    let figures = names("figures");
    let of_both = |what: &str| figures.iter().filter(|name| name.contains(what)).count();
    assert_eq!((of_both("kill -9"), of_both("an orderly stop")), (2, 2), "{figures:?}");
    // 4,000 requests of 100 events, divided by 500, without and with durable subscriptions; then 50,000 events, by whole requests.
    assert_eq!(counts("durable", "tradelane"), [800, 800, 100, 100, 100]);
    assert_eq!((of_both("20 durable subscriptions"), of_both("2 idle consumers")), (1, 1), "{figures:?}");
    // 1,000 and 10,000 subscribers divided by 500.
    assert_eq!((of_both("of 2 idle subscribers"), of_both("of 20 idle subscribers")), (1, 1), "{figures:?}");
}

#[test]
fn it_says_what_it_cannot_use() {
    let output = Command::new(env!("CARGO_BIN_EXE_tradelane"))
        .args(["bench", "--quick", "--dir", "/proc/nowhere"])
        .output()
        .expect("the program runs");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("/proc/nowhere"), "{err}");
}
