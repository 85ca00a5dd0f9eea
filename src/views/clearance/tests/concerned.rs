//! Which clearances an event bears on: what a list and a watch look at again when it comes.

use super::*;

/// The kinds and values of some subjects.
fn named(subjects: &[Subject]) -> Vec<String> {
    subjects.iter().map(|one| one.fields().value.to_owned()).collect()
}

async fn concerned(node: &TestNode, event: Event) -> (Vec<String>, Vec<String>) {
    let places = node.store(&[event]).await;
    let record = crate::log::EventLog::get(&*node.log, places).await.expect("readable").remove(0);
    let Concerned { names, units, .. } = Concerned::by(&record).expect("a good header");
    (named(&names), named(&units))
}

fn values(subjects: &[&proto::Subject]) -> Vec<String> {
    let mut terms: Vec<Subject> = subjects.iter().map(|one| Subject::of(&key(&canonical(one)))).collect();
    terms.sort();
    named(&terms)
}

#[tokio::test]
async fn an_event_bears_on_what_it_is_about_and_names_the_rest() {
    let node = TestNode::start();
    let (d, c, b) = (declaration("D-1"), container(1), bill("B-1"));
    let lrn = subject(IdentifierKind::Lrn, "TT-IM-1", "GB");
    let mrn = subject(IdentifierKind::Mrn, "20GB1OJPU2P01FGVR4", "");
    let both = [d.clone(), c.clone()];
    // A step, and a hold, of a declaration: that alone.
    let accepted = step(CUSTOMS, 1, ClearanceStep::Accepted, &both);
    assert_eq!(concerned(&node, accepted.clone()).await, (values(&[&d, &c]), values(&[&d])));
    let held = hold(CUSTOMS, 2, HoldStep::Placed, "H-1", &both);
    assert_eq!(concerned(&node, held).await, (values(&[&d, &c]), values(&[&d])));
    // Of goods by their own numbers: the narrowest; by both numbers of a declaration: that of customs.
    let goods = step(CUSTOMS, 3, ClearanceStep::Released, &[c.clone(), b.clone()]);
    assert_eq!(concerned(&node, goods).await, (values(&[&c, &b]), values(&[&c])));
    let two_numbers = step(CUSTOMS, 4, ClearanceStep::Accepted, &[lrn.clone(), mrn.clone()]);
    assert_eq!(concerned(&node, two_numbers).await, (values(&[&lrn, &mrn]), values(&[&mrn])));
    // What it names in another role than the first is named, and not what it is about.
    let declared_before = proto::Subject { role: SubjectRole::Previous.into(), ..declaration("D-0") };
    let aside = step(CUSTOMS, 5, ClearanceStep::Accepted, &[c.clone(), declared_before.clone()]);
    assert_eq!(concerned(&node, aside).await, (values(&[&c, &declared_before]), values(&[&c])));
    // An association: the declarations that it ties, and no goods.
    let tie = attached(6, &b, &[c.clone(), d.clone(), mrn.clone()], true);
    assert_eq!(concerned(&node, tie).await, (values(&[&b, &c, &d, &mrn]), values(&[&d, &mrn])));
    // A revision: all that it names, since what it revises may have been about any of them.
    assert_eq!(concerned(&node, accepted.retracted()).await, (values(&[&d, &c]), values(&[&d, &c])));
    // What is no clearance, hold or association bears on nothing, though it names the goods.
    let voyage = Voyage::new(1, NOW_NS);
    let discharged = voyage.discharged();
    assert_eq!(
        concerned(&node, discharged).await,
        (values(&[&voyage.container_subject(), &voyage.bill_subject()]), Vec::new())
    );
}

#[tokio::test]
async fn what_two_events_bear_on_is_each_once() {
    let node = TestNode::start();
    let (d, c) = (declaration("D-1"), container(1));
    let places = node
        .store(&[
            step(CUSTOMS, 1, ClearanceStep::Accepted, std::slice::from_ref(&d)),
            step(CUSTOMS, 2, ClearanceStep::Released, &[d.clone(), c.clone()]),
            step(CUSTOMS, 3, ClearanceStep::Released, std::slice::from_ref(&c)),
        ])
        .await;
    let mut all = Concerned::default();
    for record in crate::log::EventLog::get(&*node.log, places).await.expect("readable") {
        all.extend(Concerned::by(&record).expect("a good header"));
    }
    assert_eq!((named(&all.names), named(&all.units)), (values(&[&d, &c]), values(&[&d, &c])));
}
