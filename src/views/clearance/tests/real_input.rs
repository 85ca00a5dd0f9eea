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

/// The text of the first element of this name, without its namespace prefix.
fn text<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    xml.split('<').skip(1).find_map(|part| {
        let (tag, text) = part.split_once('>')?;
        let name = tag.split_whitespace().next()?.trim_end_matches('/');
        (name.rsplit(':').next() == Some(element)).then_some(text.trim())
    })
}

/// The part of a text within the first element of this name.
fn inside<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
    let begin =
        [format!("<{element}>"), format!(":{element}>")].iter().find_map(|tag| Some(xml.find(tag)? + tag.len()))?;
    Some(&xml[begin..])
}

fn response(file: PathBuf) -> Option<Response> {
    let xml = std::fs::read_to_string(&file).ok()?;
    let own = inside(&xml, "Response")?;
    let declaration = inside(own, "Declaration")?;
    let issued = text(inside(own, "IssueDateTime")?, "DateTimeString")?;
    let (moment, zone) = issued.split_at_checked(14)?;
    let zone = if zone == "Z" { "+0000".to_owned() } else { zone.replace(':', "") };
    let issued = chrono::DateTime::parse_from_str(&format!("{moment}{zone}"), "%Y%m%d%H%M%S%z").ok()?;
    Some(Response {
        lrn: text(declaration, "FunctionalReferenceID")?.to_owned(),
        mrn: text(declaration, "ID")?.to_owned(),
        issued_ns: issued.timestamp_nanos_opt()?,
        function: text(own, "FunctionCode")?.to_owned(),
        file,
    })
}

/// The step of a function (standards, section 6); a second receipt is of an amendment. None for a control, which is an inspection.
fn step_of(function: &str, lodged: &mut bool) -> Option<ClearanceStep> {
    Some(match function {
        "01" => ClearanceStep::Accepted,
        "02" if std::mem::replace(lodged, true) => ClearanceStep::Amended,
        "02" => ClearanceStep::Lodged,
        "03" => ClearanceStep::Rejected,
        "05" => return None,
        "06" => ClearanceStep::DocumentsRequired,
        "07" | "11" => ClearanceStep::Amended,
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
    let mut sequences: BTreeMap<(PathBuf, String), Vec<Response>> = BTreeMap::new();
    for response in files.into_iter().filter_map(response) {
        // One folder is one scenario, in which a declaration goes through all its steps.
        let folder = response.file.parent().expect("a folder").to_owned();
        sequences.entry((folder, response.mrn.clone())).or_default().push(response);
    }
    let (mut count, mut incomplete, mut ends) = (0, 0, BTreeSet::new());
    for ((folder, mrn), responses) in &sequences {
        let node = TestNode::start();
        let mut lodged = false;
        let mut told = Vec::new();
        for (index, response) in responses.iter().enumerate() {
            let Some(step) = step_of(&response.function, &mut lodged) else { continue };
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
    assert!(count > 150 && sequences.len() > 50, "{count} steps of {} declarations", sequences.len());
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
