//! The attributes of an event as CloudEvents has them: headers in binary mode, members of the document in structured mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md>).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::settings::EventMode;

/// Longest value of a header, in bytes. The true value is in the body.
const VALUE_LIMIT: usize = 1_024;

/// Declares the headers that a record holds: as a number, as a record is kept in memory.
macro_rules! headers {
    ($($header:ident = $name:literal,)*) => {
        /// A header whose value is not the same for every event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Header { $($header,)* }

        impl Header {
            const ALL: &[Self] = &[$(Self::$header),*];

            /// Its name.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$header => $name,)* }
            }
        }
    };
}

headers! {
    MessageId = "Nats-Msg-Id",
    Id = "ce-id",
    Sequence = "ce-sequence",
    OngoingGap = "ce-ongoinggap",
    Source = "ce-source",
    Type = "ce-type",
    Time = "ce-time",
    RecordedTime = "ce-recordedtime",
    Link = "ce-link",
    Subject = "ce-subject",
    UpstreamEvent = "ce-upstreamevent",
    Traceparent = "traceparent",
}

/// The headers, or members, that stand first: they change with the epoch, or with an ongoing gap.
pub(super) const LEAD: [Header; 4] = [Header::MessageId, Header::Id, Header::Sequence, Header::OngoingGap];

/// How the document of structured mode begins.
pub(super) const DOCUMENT: &[u8] = br#"{"specversion":"1.0","datacontenttype":"application/json""#;

/// Appends an attribute as this mode has it.
pub(super) fn push(mode: EventMode, to: &mut Vec<u8>, header: Header, value: &str) {
    match mode {
        EventMode::Binary => push_header(to, header, value),
        EventMode::Structured => push_member(to, header, value),
    }
}

/// Appends a header: its number, the length of its value in two bytes, and its value.
pub(super) fn push_header(to: &mut Vec<u8>, header: Header, value: &str) {
    let value = header_value(value);
    let length = u16::try_from(value.len()).unwrap_or_default();
    to.push(header as u8);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(value.as_bytes().get(..usize::from(length)).unwrap_or_default());
}

/// The first of these headers, its value, and those behind it.
pub(super) fn read_header(bytes: &[u8]) -> Option<(Header, &str, &[u8])> {
    let ([number, high, low], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((*Header::ALL.get(usize::from(*number))?, std::str::from_utf8(value).ok()?, rest))
}

/// Appends a member of the document, behind a comma.
fn push_member(to: &mut Vec<u8>, header: Header, value: &str) {
    let name = header.name();
    to.extend_from_slice(b",\"");
    to.extend_from_slice(name.strip_prefix("ce-").unwrap_or(name).as_bytes());
    to.extend_from_slice(b"\":");
    // Writing a text to memory cannot fail.
    let _ = serde_json::to_writer(to, value);
}

/// Where the members of a document begin that depend on no epoch: at its source, which no text can stand before.
pub(super) fn source_at(document: &[u8]) -> usize {
    let source = br#","source":"#;
    document.windows(source.len()).position(|at| at == source).unwrap_or_default()
}

/// Percent-encodes a header's value as the CloudEvents NATS binding says: space, `"`, `%` and everything outside
/// U+0021 to U+007E. At most 1,024 bytes come out; the true value is in the body.
pub fn header_value(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, 0x21..=0x7E) && byte != b'"' && byte != b'%';
    if text.len() <= VALUE_LIMIT && text.bytes().all(plain) {
        return text.into();
    }
    let mut value = String::with_capacity(text.len().min(VALUE_LIMIT));
    for byte in text.bytes() {
        if value.len() > VALUE_LIMIT - 3 {
            break;
        }
        if plain(byte) {
            value.push(char::from(byte));
        } else {
            let _ = write!(value, "%{byte:02X}");
        }
    }
    value.into()
}
