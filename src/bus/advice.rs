//! What an operator can do about a stream that JetStream does not create, or that does not take the events of an instance.

use async_nats::jetstream::ErrorCode;

use super::jetstream::{JetStream, NO_PEERS, NO_SPACE, StreamError};
use crate::settings::{Delivery, Ordering};

/// Why the stream cannot be created, and what to do. Asks for the name of a stream that is in the way.
pub(super) async fn not_created(
    js: JetStream<'_>,
    stream: &str,
    subject: &str,
    delivery: &Delivery,
    error: &StreamError,
) -> String {
    let what = format!("the stream {stream} cannot be created: {error}");
    let Delivery { max_bytes, replicas, .. } = delivery;
    if error.is(ErrorCode::STREAM_SUBJECT_OVERLAP) {
        // Where the user may not request them, there are no names.
        let others = js.names(subject).await.unwrap_or_default();
        let (who, name) = match others.as_slice() {
            [] => ("another stream takes".to_owned(), "<its name>"),
            [name] => (format!("the stream {name} takes"), name.as_str()),
            [name, ..] => (format!("the streams {} take", others.join(", ")), name.as_str()),
        };
        return format!(
            "{what}; {who} {subject} already: publish to it with delivery.stream = \"{name}\" and \
             delivery.ordering = \"best_effort\", or take these subjects out of it"
        );
    }
    if error.is_any(&NO_SPACE) {
        return format!(
            "{what}; JetStream reserves {max_bytes} for it (delivery.max_bytes, for each of {replicas} replicas): write \
             less, or give the server or the account more (max_file_store)"
        );
    }
    if error.is(ErrorCode::MAXIMUM_STREAMS_LIMIT) {
        return format!(
            "{what}; the account may have no more streams: raise its limit, or share one stream with delivery.stream \
             and delivery.ordering = \"best_effort\""
        );
    }
    if error.is_any(&NO_PEERS) {
        return format!(
            "{what}; it needs {replicas} servers (delivery.replicas) with {max_bytes} free (delivery.max_bytes)"
        );
    }
    what
}

/// Checks that a stream takes our events, and with strict order nothing else.
///
/// # Errors
/// What to do about it.
pub(super) fn subjects(
    stream: &str,
    taken: &[String],
    subject: &str,
    ordering: Ordering,
) -> Result<(), String> {
    let listed = || taken.join(", ");
    if !taken.iter().any(|pattern| covers(pattern, subject)) {
        // The tokens behind the prefix: `.event.<type>.<instance>.>`.
        let own = subject.rfind(".event.").map_or(subject, |at| &subject[at..]);
        let prefix =
            if taken.iter().any(|pattern| pattern.ends_with(own)) { ", or set nats.prefix back" } else { "" };
        return Err(format!(
            "the stream {stream} takes {} and not {subject}, and no stream is changed that is there: change it with \
             `nats stream edit {stream} --subjects '{subject}'`, which keeps what it holds, or delete it once that has \
             been read, or give the instance another one with delivery.stream{prefix}",
            listed()
        ));
    }
    if ordering == Ordering::Strict && taken != [subject] {
        return Err(format!(
            "the stream {stream} takes {} and not just {subject}, so others may write to it; give the instance a \
             stream of its own, or set delivery.ordering = \"best_effort\"",
            listed()
        ));
    }
    Ok(())
}

/// Whether all subjects below `subject`, which ends in `>`, match the pattern.
fn covers(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(wanted), Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_takes_our_events_or_the_error_says_what_to_do() {
        const OURS: &str = "acme.prod.event.sub0.shop.>";
        for (pattern, covered) in [
            (OURS, true),
            (">", true),
            ("acme.>", true),
            ("acme.*.event.*.shop.>", true),
            ("acme.prod.event.sub0.shop.*", false),
            ("acme.prod.event.sub0.shop", false),
            ("acme.prod.event.sub0.shop.a.>", false),
            ("pontoon.event.sub0.shop.>", false),
            ("*.event.sub0.shop.>", false),
            ("", false),
        ] {
            let taken = [pattern.to_owned()];
            let loose = subjects("S", &taken, OURS, Ordering::BestEffort);
            assert_eq!(loose.is_ok(), covered, "{pattern}");
            let strict = subjects("S", &taken, OURS, Ordering::Strict);
            assert_eq!(strict.is_ok(), pattern == OURS);
            assert_eq!(strict.is_err_and(|what| what.contains("best_effort")), covered && pattern != OURS);
        }
        let other = |pattern: &str| subjects("S", &[pattern.to_owned()], OURS, Ordering::Strict).unwrap_err();
        assert!(other("pontoon.event.sub0.shop.>").contains("nats.prefix"));
        assert!(!other("pontoon.event.aui.shop.>").contains("nats.prefix"));
        assert!(subjects("S", &[], OURS, Ordering::BestEffort).is_err(), "a mirror takes nothing");
    }
}
