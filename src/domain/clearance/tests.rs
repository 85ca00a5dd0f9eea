//! The folds: every move of the table, items, notices, contradictions, holds of two authorities.

use super::*;
use crate::domain::{SpiffeId, codes::CLEARANCE_STEP};

const KARACHI: &str = "spiffe://customs.gov.pk/agency/karachi";
const PESHAWAR: &str = "spiffe://customs.gov.pk/agency/peshawar";
const KABUL: &str = "spiffe://customs.gov.af/agency/kabul";

fn step(name: &str) -> Step {
    by(KARACHI, name, &[])
}

fn by(authority: &str, name: &str, items: &[u32]) -> Step {
    Step {
        step: CLEARANCE_STEP.number(name).expect("a step"),
        authority: SpiffeId::parse(authority).expect("a good name"),
        goods_items: items.to_vec(),
    }
}

fn fold(names: &[&str]) -> Lifecycle {
    Lifecycle::fold(&names.iter().map(|name| step(name)).collect::<Vec<_>>())
}

/// The table of the standards, as it is written there.
const MOVES: &str = "
lodged             -> accepted documents_required rejected released invalidated
rejected           -> lodged accepted
accepted           -> documents_required released cleared in_transit refused invalidated
documents_required -> accepted released cleared in_transit refused invalidated
released           -> documents_required cleared in_transit transit_discharged exited release_revoked invalidated
release_revoked    -> accepted documents_required released refused invalidated
cleared            -> exited release_revoked invalidated
in_transit         -> released documents_required transit_discharged exited
";

#[test]
fn the_moves_are_those_of_the_table_and_every_other_is_kept_and_flagged() {
    let allowed = |from: State, to: State| {
        let name = |state: State| CLEARANCE_STEP.name(state.code()).expect("a name");
        MOVES.lines().filter_map(|line| line.split_once("->")).any(|(left, right)| {
            left.trim() == name(from) && right.split_whitespace().any(|successor| successor == name(to))
        })
    };
    for from in State::ALL {
        for to in State::ALL {
            let mut steps = vec![step("lodged"), step("lodged")];
            (steps[0].step, steps[1].step) = (from.code(), to.code());
            let folded = Lifecycle::fold(&steps);
            assert_eq!(folded.whole.state, Some(to), "{from:?} to {to:?}: an impossible move sets the state too");
            let flagged: Vec<(State, State)> = folded.anomalies.iter().map(|one| (one.from, one.to)).collect();
            let expected = if from == to || allowed(from, to) { vec![] } else { vec![(from, to)] };
            assert_eq!(flagged, expected, "{from:?} to {to:?}");
            assert_eq!(folded.history_incomplete(), !from.begins(), "{from:?}");
        }
    }
    assert_eq!(MOVES.split_whitespace().filter(|word| *word == "->").count(), 8);
}

#[test]
fn notices_leave_the_state_and_what_is_said_again_changes_nothing() {
    let folded = fold(&["assessed", "lodged", "accepted", "amended", "payment_required", "accepted", "reminded"]);
    assert_eq!(folded.whole, Standing { state: Some(State::Accepted), set_by: Some(2), history_incomplete: false });
    assert!(folded.anomalies.is_empty());
    assert_eq!(fold(&["assessed"]).whole, Standing::default());
    // A step that only a newer model has may mean anything: it lets nothing go, and nothing after it is called impossible.
    let mut steps = vec![step("accepted"), step("released"), step("lodged")];
    steps[2].step = 19;
    assert!(Lifecycle::fold(&steps[..2]).lets_go() && !Lifecycle::fold(&steps).lets_go());
    steps.push(step("lodged"));
    let folded = Lifecycle::fold(&steps);
    assert_eq!((folded.whole.state, folded.anomalies.len()), (Some(State::Lodged), 0));
}

#[test]
fn a_revoked_release_lets_nothing_go_until_it_is_given_again() {
    let mut names = vec!["lodged", "accepted", "released"];
    assert!(fold(&names).lets_go());
    names.push("release_revoked");
    assert!(!fold(&names).lets_go() && fold(&names).anomalies.is_empty());
    names.push("released");
    assert!(fold(&names).lets_go());
    for state in State::ALL {
        let expected = ["released", "cleared", "exited", "transit_discharged"].map(|name| CLEARANCE_STEP.number(name));
        assert_eq!(state.lets_go(), expected.contains(&Some(state.code())), "{state:?}");
    }
}

#[test]
fn items_are_released_one_by_one_and_the_rest_stays() {
    let mut steps = vec![step("lodged"), step("accepted"), by(KARACHI, "released", &[1, 2])];
    let folded = Lifecycle::fold(&steps);
    assert_eq!(folded.whole.state, Some(State::Accepted));
    assert_eq!(folded.items.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(folded.items.values().all(|item| item.state == Some(State::Released)) && !folded.lets_go());
    steps.push(by(KARACHI, "release_revoked", &[2]));
    steps.push(step("released"));
    let folded = Lifecycle::fold(&steps);
    assert!(folded.lets_go(), "a step without items is of all of them");
    assert_eq!((folded.items[&1].set_by, folded.items[&2].set_by, folded.whole.set_by), (Some(2), Some(4), Some(4)));
    // What is impossible for both items is told once.
    steps.push(by(KARACHI, "lodged", &[1, 2]));
    let folded = Lifecycle::fold(&steps);
    let flagged: Vec<_> = folded.anomalies.iter().map(|one| (one.from_step, one.step)).collect();
    assert_eq!(flagged, [(2, 5), (4, 5)], "once for each step that they come from");
    assert!(!folded.lets_go());
}

#[test]
fn only_another_administration_contradicts_and_a_transit_over_two_offices_does_not() {
    let kinds = |steps: &[Step]| -> Vec<AnomalyKind> {
        Lifecycle::fold(steps).anomalies.iter().map(|anomaly| anomaly.kind).collect()
    };
    let transit = [by(KARACHI, "accepted", &[]), by(KARACHI, "in_transit", &[]), by(KABUL, "transit_discharged", &[])];
    assert!(kinds(&transit).is_empty() && Lifecycle::fold(&transit).lets_go());
    let released = by(KARACHI, "released", &[]);
    let revoked = |who| [by(KARACHI, "accepted", &[]), released.clone(), by(who, "release_revoked", &[])];
    assert!(kinds(&revoked(PESHAWAR)).is_empty(), "one administration, two offices");
    assert_eq!(kinds(&revoked(KABUL)), [AnomalyKind::Contradiction]);
    assert_eq!(kinds(&[released.clone(), by(KABUL, "accepted", &[])]), [AnomalyKind::Contradiction]);
    assert_eq!(kinds(&[released.clone(), by(PESHAWAR, "accepted", &[])]), [AnomalyKind::ImpossibleMove]);
    assert!(kinds(&[released, by(KABUL, "released", &[])]).is_empty(), "both say the same");
}

#[test]
fn each_authority_lifts_its_own_hold() {
    let statement = |domain: &str, hold_id: &str, placed| HoldStatement {
        key: HoldKey { domain: domain.into(), hold_id: hold_id.into() },
        placed,
    };
    let mut statements = vec![
        statement("customs.gov.pk", "H-1", true),
        statement("plants.gov.pk", "H-1", true),
        statement("customs.gov.pk", "H-1", true),
        statement("port.karachi.pk", "H-1", false),
    ];
    let open = open_holds(&statements);
    assert_eq!(open.len(), 2, "whoever did not place it does not lift it");
    assert_eq!(open[&statements[0].key].placed_by, [0, 2]);
    statements.push(statement("customs.gov.pk", "H-1", false));
    let open = open_holds(&statements);
    assert_eq!(open.keys().map(|key| &*key.domain).collect::<Vec<_>>(), ["plants.gov.pk"]);
    statements.push(statement("customs.gov.pk", "H-1", true));
    assert_eq!(open_holds(&statements)[&statements[0].key].placed_by, [5], "since it was placed again");
}

#[test]
fn a_release_needs_every_declaration_no_hold_and_all_coverage() {
    use Obstacle::{CoverageIncomplete, HoldOpen, NoClearance, NotReleased};
    assert!(obstacles([true, true], false, Coverage::Complete).is_empty());
    for (let_go, hold, coverage, expected) in [
        (vec![], false, Coverage::Complete, vec![NoClearance]),
        (vec![true, false], false, Coverage::Complete, vec![NotReleased]),
        (vec![true], true, Coverage::Complete, vec![HoldOpen]),
        (vec![true], false, Coverage::Partial, vec![CoverageIncomplete]),
        (vec![], true, Coverage::Unknown, vec![NoClearance, HoldOpen, CoverageIncomplete]),
    ] {
        assert_eq!(obstacles(let_go, hold, coverage), expected);
    }
}
