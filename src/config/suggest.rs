//! Suggestions for unknown names.

/// "did you mean …?", or the list of known names.
pub(super) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, &known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "nothing may stand here".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known name that is nearest to `name`, if it is near enough.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let name = plain(name);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &plain(candidate)), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().min(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["url", "prefix", "user", "password", "reply_prefixes"];
        for (typo, meant) in
            [("ulr", "url"), ("pasword", "password"), ("reply-prefixes", "reply_prefixes"), ("USER", "user")]
        {
            assert_eq!(nearest(typo, &known), Some(meant));
        }
        assert_eq!(nearest("colour", &known), None);
        assert!(hint("colour", known).contains("known here: url, prefix"));
    }
}
