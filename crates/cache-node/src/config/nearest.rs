//! The known name that is nearest to a mistyped one.

/// The candidate with the least edit distance, if that is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = (typed.chars().count() / 2).clamp(1, 6);
    let distances = candidates.into_iter().map(|candidate| (distance(typed, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= near_enough).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, by one row of his table.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let names = ["l1_size", "require_auth", "auth_token"];
        assert_eq!(nearest("l1_szie", names), Some("l1_size"));
        assert_eq!(nearest("requireauth", names), Some("require_auth"));
        assert_eq!(nearest("zzzzzzzzzzzz", names), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
