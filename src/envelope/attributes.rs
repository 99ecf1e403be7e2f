//! The attributes of an event as CloudEvents has them: headers in binary mode, members of the document in structured mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md>).

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::settings::EventMode;

/// Longest value of a header, in bytes. The true value is in the body.
const VALUE_LIMIT: usize = 1_024;

/// Headers whose value is not the same for every event.
pub(super) mod header {
    pub(in super::super) const MESSAGE_ID: &str = "Nats-Msg-Id";
    pub(in super::super) const ID: &str = "ce-id";
    pub(in super::super) const SEQUENCE: &str = "ce-sequence";
    pub(in super::super) const ONGOING_GAP: &str = "ce-ongoinggap";
    pub(in super::super) const SOURCE: &str = "ce-source";
    pub(in super::super) const TYPE: &str = "ce-type";
    pub(in super::super) const TIME: &str = "ce-time";
    pub(in super::super) const RECORDED_TIME: &str = "ce-recordedtime";
    pub(in super::super) const LINK: &str = "ce-link";
    pub(in super::super) const SUBJECT: &str = "ce-subject";
    pub(in super::super) const UPSTREAM_EVENT: &str = "ce-upstreamevent";
    pub(in super::super) const TRACEPARENT: &str = "traceparent";
}

/// The headers that are the same for every event in binary mode, as they are sent.
pub(super) const BINARY: &[u8] =
    b"ce-specversion: 1.0\r\nce-datacontenttype: application/json\r\nContent-Type: application/json\r\n";
/// Those of structured mode.
pub(super) const STRUCTURED: &[u8] = b"Content-Type: application/cloudevents+json\r\n";

/// The headers that stand first and change with the epoch, or with an ongoing gap. The source follows.
const LEAD: [&str; 4] = [header::MESSAGE_ID, header::ID, header::SEQUENCE, header::ONGOING_GAP];

/// How the document of structured mode begins.
pub(super) const DOCUMENT: &[u8] = br#"{"specversion":"1.0","datacontenttype":"application/json""#;

/// Appends a number in decimal digits, with zeros in front of it up to this width.
pub(super) fn push_number(to: &mut String, number: u64, width: usize) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number);
    to.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
    to.push_str(digits);
}

/// Appends an attribute as this mode has it.
pub(super) fn push(mode: EventMode, to: &mut Vec<u8>, header: &str, value: &str) {
    match mode {
        EventMode::Binary => push_header(to, header, value),
        EventMode::Structured => push_member(to, header, value),
    }
}

/// Appends a header as it is sent: `<name>: <value>` and the end of the line.
pub(super) fn push_header(to: &mut Vec<u8>, header: &str, value: &str) {
    to.extend_from_slice(header.as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(header_value(value).as_bytes());
    to.extend_from_slice(b"\r\n");
}

/// The headers without those that change with the epoch, or with an ongoing gap.
pub(super) fn without_lead(mut headers: &[u8]) -> &[u8] {
    let is_lead = |headers: &[u8]| {
        let behind =
            |name: &&str| headers.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b": "));
        LEAD.iter().any(behind)
    };
    while is_lead(headers)
        && let Some(end) = headers.iter().position(|byte| *byte == b'\n')
    {
        headers = headers.get(end + 1..).unwrap_or_default();
    }
    headers
}

/// Appends a member of the document, behind a comma.
fn push_member(to: &mut Vec<u8>, header: &str, value: &str) {
    to.extend_from_slice(b",\"");
    to.extend_from_slice(header.strip_prefix("ce-").unwrap_or(header).as_bytes());
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
    // Without a branch, and to the end whatever comes: so that many bytes are checked at a time.
    let plain = |byte: u8| (0x21..=0x7E).contains(&byte) & (byte != b'"') & (byte != b'%');
    if text.len() <= VALUE_LIMIT && text.bytes().fold(true, |all, byte| all & plain(byte)) {
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
