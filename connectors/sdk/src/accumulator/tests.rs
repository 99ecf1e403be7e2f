//! What is published of the parts of a text, whichever way the service sends them.

use proptest::prelude::*;

use super::*;

fn piece(json: &str) -> Piece {
    Piece::read(json).unwrap()
}

/// A part as it is published.
fn json(part: &Fields) -> String {
    serde_json::to_string(part).unwrap()
}

/// What is published of each part: its delta, after `~` where it replaces what was before.
fn published(mode: Mode, parts: &[&str]) -> Vec<String> {
    let mut text = Accumulator::new(mode);
    let mut all = String::new();
    let parts = parts.iter().enumerate().map(|(index, part)| {
        let part = text.push(Piece::from((*part).to_owned()));
        assert_eq!(part.index, Some(index as u64));
        let (reset, delta) = (part.reset.is_some(), part.delta.unwrap());
        if reset {
            all.clear();
        }
        all.push_str(&delta);
        assert_eq!(part.length, Some(all.chars().count() as u64));
        format!("{}{delta}", if reset { "~" } else { "" })
    });
    parts.collect()
}

#[test]
fn a_cumulative_text_grows_or_is_rewritten() {
    use Mode::Cumulative;
    assert_eq!(published(Cumulative, &["I", "I found", "I found", "I found é"]), ["I", " found", "", " é"]);
    assert_eq!(published(Cumulative, &["I found", "We", "We do"]), ["I found", "~We", " do"]);
    assert_eq!(published(Cumulative, &["abc", "", "x"]), ["abc", "~", "x"]);
}

#[test]
fn deltas_are_passed_on() {
    assert_eq!(published(Mode::Delta, &["ha", "ha", "!"]), ["ha", "ha", "!"]);
}

#[test]
fn what_the_parts_are_is_decided_by_their_beginnings() {
    use Mode::Auto;
    assert_eq!(published(Auto, &["I", "I found", "I found it"]), ["I", " found", " it"]);
    assert_eq!(published(Auto, &["I", " found", " it"]), ["I", " found", " it"]);
    // Once it is decided, a text that begins otherwise was rewritten.
    assert_eq!(published(Auto, &["I", "I f", "I fo", "We"])[3], "~We");
    // Until then, what was published too short is made up for, or replaced.
    assert_eq!(published(Auto, &["*", "**", "bold"]), ["*", "*", "*bold"]);
    assert_eq!(published(Auto, &["ha", "ha", "!"]), ["ha", "", "ha!"]);
    assert_eq!(published(Auto, &["", "", "x"])[2], "x");
    assert_eq!(published(Auto, &["a", "ab", "x"]), ["a", "b", "~aabx"]);
}

#[test]
fn an_undecided_text_that_is_too_long_has_no_length() {
    let mut text = Accumulator::new(Mode::Auto);
    text.push(Piece::from("x".repeat(MAX_UNDECIDED + 1)));
    let part = text.push(Piece::from("y".to_owned()));
    assert_eq!(json(&part), r#"{"delta":"y","index":1}"#);
}

#[test]
fn another_text_begins_with_nothing_and_counts_on() {
    let mut text = Accumulator::new(Mode::Delta);
    text.replace();
    assert_eq!(text.push(piece(r#""ab""#)).reset, None);
    text.replace();
    let part = text.push(piece(r#""c""#));
    assert_eq!(json(&part), r#"{"delta":"c","index":1,"length":1,"reset":true}"#);
    assert_eq!(text.push(piece(r#""d""#)).reset, None);
}

#[test]
fn half_a_pair_is_held_back_until_the_other_half_comes() {
    for (mode, parts, wanted) in [
        (
            Mode::Delta,
            &[r#""Well done ""#, r#""\ud83d""#, r#""\udc4d""#, r#"" friend""#][..],
            &["Well done ", "", "\u{1F44D}", " friend"][..],
        ),
        (
            Mode::Auto,
            &[r#""Well done ""#, r#""\ud83d""#, r#""\udc4d""#, r#"" friend""#],
            &["Well done ", "", "\u{1F44D}", " friend"],
        ),
        (Mode::Auto, &[r#""\ud83d""#, r#""\udc4d!""#], &["", "\u{1F44D}!"]),
        (
            Mode::Delta,
            &[r#""a\ud83d""#, r#""\udc4d\ud83d""#, r#""""#, r#""\ude00""#],
            &["a", "\u{1F44D}", "", "\u{1F600}"],
        ),
        (Mode::Delta, &[r#""a\ud83d""#, r#""b""#, r#""\udc4d""#], &["a", "\u{FFFD}b", "\u{FFFD}"]),
        (Mode::Delta, &[r#""\ud83d""#, r#""\ud83d""#, r#""\udc4d""#], &["", "\u{FFFD}", "\u{1F44D}"]),
        (Mode::Delta, &[r#""a\ud83db\\ud83d""#, "5", "true"], &["a\u{FFFD}b\\ud83d", "5", "true"]),
        (
            Mode::Cumulative,
            &[r#""a\ud83d""#, r#""a\ud83d\udc4d""#, r#""a\ud83d\udc4d b""#],
            &["a", "\u{1F44D}", " b"],
        ),
        (Mode::Cumulative, &[r#""a\ud83d""#, r#""a\ud83db""#], &["a", "\u{FFFD}b"]),
    ] {
        let mut text = Accumulator::new(mode);
        let got: Vec<_> = parts.iter().map(|part| text.push(piece(part)).delta.unwrap()).collect();
        assert_eq!(got, wanted, "{mode:?} {parts:?}");
    }
}

#[test]
fn a_missing_part_leaves_the_length_unknown_and_no_half_waiting() {
    let mut text = Accumulator::new(Mode::Delta);
    assert_eq!(text.push_numbered(piece(r#""a\ud83d""#), Some(0)).length, Some(1));
    let part = text.push_numbered(piece(r#""\udc4d""#), Some(2));
    assert_eq!(json(&part), "{\"delta\":\"\u{FFFD}\u{FFFD}\",\"index\":2}");
    assert_eq!(text.push_numbered(piece(r#""b""#), Some(3)).length, None);
    assert_eq!(Accumulator::new(Mode::Delta).push_numbered(piece("7"), None).index, None);
}

proptest! {
    /// However a text is cut, even in the middle of pairs, its parts add up to it.
    #[test]
    fn the_parts_of_a_text_add_up(text in any::<String>(), cuts in prop::collection::vec(any::<u8>(), 0..8), mode in 0..3_u8) {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| usize::from(*cut) * units.len() / 255).collect();
        cuts.sort_unstable();
        cuts.push(units.len());
        let mode = [Mode::Delta, Mode::Cumulative, Mode::Auto][usize::from(mode)];
        let mut parts = Accumulator::new(mode);
        let (mut sum, mut from) = (String::new(), 0);
        let mut last = None;
        for cut in cuts {
            let start = if mode == Mode::Cumulative { 0 } else { from };
            let escaped: String = units[start..cut].iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let part = parts.push(piece(&format!("\"{escaped}\"")));
            if part.reset.is_some() {
                sum.clear();
            }
            sum.push_str(&part.delta.unwrap());
            last = part.length;
            from = cut;
        }
        // Deltas that repeat the beginning cannot be told from a cumulative text before a third part.
        if mode != Mode::Auto {
            prop_assert_eq!(last, Some(text.chars().count() as u64));
            prop_assert_eq!(sum, text);
        }
    }
}
