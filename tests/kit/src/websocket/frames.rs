//! Frames of a server, which are not masked (RFC 6455 §5.2).

pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;

/// Adds a text message.
pub(super) fn text(to: &mut Vec<u8>, payload: &[u8]) {
    frame(to, TEXT, payload);
}

/// Adds a message in one frame.
pub(super) fn frame(to: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    const LAST: u8 = 0x80;
    to.push(LAST | opcode);
    let length = payload.len();
    if let (Ok(short), 0..126) = (u8::try_from(length), length) {
        to.push(short);
    } else if let Ok(medium) = u16::try_from(length) {
        to.push(126);
        to.extend(medium.to_be_bytes());
    } else {
        to.push(127);
        to.extend((length as u64).to_be_bytes());
    }
    to.extend_from_slice(payload);
}

/// Adds a close frame.
pub(super) fn close(to: &mut Vec<u8>, code: u16, reason: &str) {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    frame(to, CLOSE, &payload);
}
