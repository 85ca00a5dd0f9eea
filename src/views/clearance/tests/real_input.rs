//! The responses of a customs system that nobody here wrote, where the reference data is at hand: the fold accepts every sequence of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::*;

/// One response: where it stands in its scenario, what it answers to, when, and which function it has.
struct Response {
    file: PathBuf,
    lrn: String,
    mrn: String,
    issued_ns: i64,
    function: String,
}

fn folder() -> PathBuf {
    let folder = std::env::var("TRADELANE_SHARED_DATA")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    folder.join("customs/wco-dms")
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}

/// What follows the opening tag of the first element of this name, whatever its namespace prefix and attributes.
fn inside<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    xml.match_indices('<').find_map(|(at, _)| {
        let (tag, rest) = xml[at + 1..].split_once('>')?;
        let name = tag.split_whitespace().next()?;
        (name.rsplit(':').next() == Some(element)).then_some(rest)
    })
}

/// The text of the first element of this name.
fn text<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    Some(inside(xml, element)?.split('<').next()?.trim())
}

/// The response in a file; none where it holds another message.
fn response(file: &Path) -> Option<Response> {
    let xml = std::fs::read_to_string(file).expect("a text");
    let own = inside(&xml, "Response")?;
    let read = || {
        let declaration = inside(own, "Declaration")?;
        let issued = text(inside(own, "IssueDateTime")?, "DateTimeString")?;
        let (moment, zone) = issued.split_at_checked(14)?;
        let zone = if zone == "Z" { "+0000".to_owned() } else { format!("{:0<5}", zone.replace(':', "")) };
        let issued = chrono::DateTime::parse_from_str(&format!("{moment}{zone}"), "%Y%m%d%H%M%S%z").ok()?;
        Some(Response {
            lrn: text(declaration, "FunctionalReferenceID")?.to_owned(),
            mrn: text(declaration, "ID")?.to_owned(),
            issued_ns: issued.timestamp_nanos_opt()?,
            function: text(own, "FunctionCode")?.to_owned(),
            file: file.to_owned(),
        })
    };
    Some(read().unwrap_or_else(|| panic!("{}: a response that cannot be read", file.display())))
}

/// The step of a function (standards, section 6); a receipt that is not the first message is of an amendment. None for a control, which is
/// an inspection.
fn step_of(function: &str, is_first: bool) -> Option<ClearanceStep> {
    Some(match function {
        "01" => ClearanceStep::Accepted,
        "02" if is_first => ClearanceStep::Lodged,
        "03" => ClearanceStep::Rejected,
        "05" => return None,
        "06" => ClearanceStep::DocumentsRequired,
        "02" | "07" | "11" => ClearanceStep::Amended,
        "08" => ClearanceStep::Released,
        "09" => ClearanceStep::Cleared,
        "10" => ClearanceStep::Invalidated,
        "13" => ClearanceStep::Assessed,
        "14" | "15" => ClearanceStep::PaymentRequired,
        "16" => ClearanceStep::Exited,
        "18" => ClearanceStep::Reminded,
        other => panic!("a function that the standards do not list: {other}"),
    })
}

#[tokio::test]
async fn every_sequence_of_the_collected_responses_is_accepted() {
    let mut files = Vec::new();
    walk(&folder().join("scenarios"), &mut files);
    if files.is_empty() {
        skipped();
        return;
    }
    files.sort();
    let mut samples = Vec::new();
    walk(&folder().join("notifications"), &mut samples);
    let functions: BTreeSet<String> =
        samples.iter().filter_map(|file| response(file)).map(|one| one.function).collect();
    assert_eq!(functions.len(), 15, "one sample of each function");
    assert_eq!(
        functions.iter().filter(|function| step_of(function, true).is_none()).count(),
        1,
        "only a control is no step"
    );
    let mut sequences: BTreeMap<(PathBuf, String), Vec<Response>> = BTreeMap::new();
    for response in files.iter().filter_map(|file| response(file)) {
        // One folder is one scenario, in which a declaration goes through all its steps.
        let folder = response.file.parent().expect("a folder").to_owned();
        sequences.entry((folder, response.mrn.clone())).or_default().push(response);
    }
    let (mut count, mut incomplete, mut ends) = (0, 0, BTreeSet::new());
    for ((folder, mrn), responses) in &sequences {
        let node = TestNode::start();
        let mut told = Vec::new();
        for (index, response) in responses.iter().enumerate() {
            let Some(step) = step_of(&response.function, index == 0) else { continue };
            let about =
                [subject(IdentifierKind::Mrn, mrn, ""), subject(IdentifierKind::Lrn, &response.lrn, &mrn[2..4])];
            let clearance = proto::Clearance { step: step.into(), ..proto::Clearance::default() };
            let mut event = events::event(CUSTOMS, response.issued_ns, about.to_vec(), Body::Clearance(clearance));
            // Stated one after the other, as the files are numbered.
            event.created_time = Some(events::timestamp(response.issued_ns + index as i64));
            told.push(event.with_id());
        }
        if told.is_empty() {
            continue;
        }
        count += told.len();
        // Last first: arrival does not matter.
        told.reverse();
        node.store(&told).await;
        let found = found(&node, &reads_all(CUSTOMS), &subject(IdentifierKind::Mrn, mrn, "")).await;
        let clearance = found.clearance.expect("an answer");
        let [unit] = clearance.lifecycles.as_slice() else { panic!("{}: {clearance:?}", folder.display()) };
        assert_eq!(unit.folded.anomalies, [], "{} {mrn}: {}", folder.display(), super::told(&clearance));
        incomplete += usize::from(unit.folded.history_incomplete());
        ends.extend(unit.folded.whole.state);
    }
    assert!(count > 120 && sequences.len() > 30, "{count} steps of {} declarations", sequences.len());
    assert!(incomplete <= 4, "{incomplete} sequences begin in the middle");
    assert!(ends.len() >= 4, "{ends:?}");
    summed_up(count, sequences.len(), incomplete);
}

#[allow(clippy::print_stderr)] // Whoever reads the test's output is to know what it left out.
fn skipped() {
    eprintln!("SKIPPED: no responses; set TRADELANE_SHARED_DATA to the folder of the reference data");
}

#[allow(clippy::print_stderr)] // Whoever reads the test's output is to know what it has seen.
fn summed_up(steps: usize, declarations: usize, incomplete: usize) {
    eprintln!("{steps} steps of {declarations} declarations, {incomplete} of which begin in the middle");
}
