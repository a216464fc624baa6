//! "Did you mean": the known name nearest to one that is not known. Called wherever a person's spelling is refused:
//! configuration, definitions, requests.

/// The candidate that takes the fewest edits to reach, if that is few for the name's length.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    let near = candidates.into_iter().map(|candidate| (distance(name, candidate), candidate));
    near.filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean "x"?`, or nothing: to be put after a message.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    suggest(name, candidates).map(|known| format!("; did you mean \"{known}\"?")).unwrap_or_default()
}

/// Insertions, deletions, replacements and swaps of neighbours, ignoring case (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = last[j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["points", "priority", "name"];
        assert_eq!(suggest("pionts", known), Some("points"));
        assert_eq!(suggest("Points", known), Some("points"));
        assert_eq!(suggest("pririoty", known), Some("priority"));
        assert_eq!(suggest("nam", known), Some("name"));
        assert_eq!(suggest("threads", known), None);
        assert_eq!(suggest("", known), None);
        assert_eq!(did_you_mean("poins", known), "; did you mean \"points\"?");
    }
}
