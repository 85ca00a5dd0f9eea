//! The known name nearest to one that was mistyped. It never guesses far: who meant something else is not led astray.

/// The candidate that takes the fewest edits, where that is at most a third of the name's length (and at least two are allowed).
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let edits_max = (name.chars().count() / 3).max(2);
    candidates
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance, one row at a time.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, expected) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *expected);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["listen.address", "node.data_dir"];
        assert_eq!(nearest("listen.adress", known.into_iter()), Some("listen.address"));
        assert_eq!(nearest("node.datadir", known.into_iter()), Some("node.data_dir"));
        assert_eq!(nearest("peers.retry", known.into_iter()), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
