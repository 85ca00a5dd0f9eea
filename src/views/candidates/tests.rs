//! The walk against sets computed plainly.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::log::memory::MemoryTerms;

/// A tree of terms, described so that proptest can print and shrink it.
#[derive(Debug, Clone)]
enum Tree {
    Term(u8),
    Any(Vec<Tree>),
    All(Vec<Tree>),
}

impl Tree {
    fn build(&self) -> Candidates {
        match self {
            Self::Term(term) => Candidates::term(TermHash(u64::from(*term))),
            Self::Any(branches) => Candidates::Any(branches.iter().map(Self::build).collect()),
            Self::All(branches) => Candidates::All(branches.iter().map(Self::build).collect()),
        }
    }

    fn holds(&self, lists: &[BTreeSet<u64>], place: u64) -> bool {
        match self {
            Self::Term(term) => lists[usize::from(*term)].contains(&place),
            Self::Any(branches) => branches.iter().any(|branch| branch.holds(lists, place)),
            Self::All(branches) => branches.iter().all(|branch| branch.holds(lists, place)),
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    (0_u8..4).prop_map(Tree::Term).prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Tree::Any),
            prop::collection::vec(inner, 1..4).prop_map(Tree::All),
        ]
    })
}

fn walk(tree: &Tree, lists: &[BTreeSet<u64>], bounds: Bounds, allowance: usize) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let index = MemoryTerms::default();
        let entries = lists
            .iter()
            .zip(0..)
            .flat_map(|(list, term)| list.iter().map(move |place| (TermHash(term), Sequence(*place))));
        index.add(entries.collect(), Sequence(u64::MAX)).await.expect("memory takes it");
        let (mut found, mut place, mut candidates) = (Vec::new(), bounds.first(), tree.build());
        let mut used_up_at = None;
        while let Some(at) = place {
            let mut skips = allowance;
            place = match candidates.seek(&index, &bounds, at, &mut skips).await.expect("memory answers") {
                Walk::At(hit) => {
                    found.push(hit.get());
                    used_up_at = None;
                    bounds.following(hit)
                }
                Walk::Through(reached) => {
                    assert!(!bounds.precedes(reached, at), "a walk never goes back");
                    // As a next page does: begin anew from where the walk had come to.
                    candidates = tree.build();
                    assert_ne!(used_up_at, Some(reached), "an allowance of {allowance} must move the walk on");
                    used_up_at = Some(reached);
                    Some(reached)
                }
                Walk::End => None,
            };
        }
        found
    })
}

proptest! {
    #[test]
    fn a_walk_finds_what_sets_hold(
        tree in trees(),
        lists in prop::collection::vec(prop::collection::btree_set(1_u64..600, 0..200), 4),
        after in 0_u64..300,
        length in 0_u64..400,
        descending: bool,
    ) {
        let bounds = Bounds { after: Sequence(after), before: Sequence(after + length), descending };
        let mut expected: Vec<u64> = (after + 1..after + length).filter(|place| tree.holds(&lists, *place)).collect();
        if descending {
            expected.reverse();
        }
        prop_assert_eq!(walk(&tree, &lists, bounds, usize::MAX), expected.clone());
        // Allowances that run out end a step, never lose a candidate, and always get on.
        prop_assert_eq!(walk(&tree, &lists, bounds, 64), expected);
    }
}

#[test]
fn every_place_is_a_candidate_without_terms() {
    let bounds = Bounds { after: Sequence(2), before: Sequence(6), descending: true };
    assert_eq!(bounds.first(), Some(Sequence(5)));
    assert_eq!(bounds.following(Sequence(4)), Some(Sequence(3)));
    assert_eq!(bounds.following(Sequence(3)), None);
    let empty = Bounds { after: Sequence(2), before: Sequence(3), descending: false };
    assert_eq!(empty.first(), None);
    let nothing_yet = Bounds { after: Sequence(0), before: Sequence(0), descending: true };
    assert_eq!(nothing_yet.first(), None);
}
