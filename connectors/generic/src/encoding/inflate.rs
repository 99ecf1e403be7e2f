//! Compressed frames, inflated within a bound.

use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::codec::MAX_BYTES;

/// What ends each message of a stream: an empty block, by which the other side flushes (RFC 1951 §3.2.4).
const FLUSHED: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// How much room is made at least for what is inflated.
const ROOM: usize = 16 * 1024;

/// A frame that is a gzip file (RFC 1952).
///
/// # Errors
/// What is wrong, for people.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = MultiGzDecoder::new(bytes).take(limit);
    reader.read_to_end(&mut inflated).map_err(|error| error.to_string())?;
    if inflated.len() > MAX_BYTES { Err(too_large()) } else { Ok(inflated) }
}

/// A frame that is a zlib stream (RFC 1950).
///
/// # Errors
/// What is wrong, for people.
pub(super) fn zlib(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    match push(&mut Decompress::new(true), bytes, &mut inflated)? {
        None => Err("it ends too early".to_owned()),
        Some(0) => Ok(inflated),
        Some(more) => Err(format!("{more} bytes follow its end")),
    }
}

/// One zlib stream over all frames of a connection.
pub(super) struct Stream {
    state: Decompress,
    has_ended: bool,
    /// The last bytes of it.
    last: [u8; 4],
    /// What was inflated of a message that has not ended.
    message: Vec<u8>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { state: Decompress::new(true), has_ended: false, last: [0xFF; 4], message: Vec::new() }
    }
}

impl Stream {
    /// The message that ends with these bytes; `None` if it goes on in the next frame.
    ///
    /// # Errors
    /// What is wrong, for people. Nothing behind it can be read.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        if self.has_ended {
            return Err("the stream had ended".to_owned());
        }
        match push(&mut self.state, bytes, &mut self.message)? {
            Some(more) if more > 0 => return Err(format!("{more} bytes follow its end")),
            ended => self.has_ended = ended.is_some(),
        }
        for byte in bytes.get(bytes.len().saturating_sub(FLUSHED.len())..).unwrap_or_default() {
            let [_, second, third, fourth] = self.last;
            self.last = [second, third, fourth, *byte];
        }
        let is_whole = self.has_ended || self.last == FLUSHED;
        Ok(is_whole.then(|| std::mem::take(&mut self.message)))
    }
}

/// Inflates bytes behind what is inflated already. `Some` if the stream ends in them: how many follow.
fn push(state: &mut Decompress, bytes: &[u8], inflated: &mut Vec<u8>) -> Result<Option<usize>, String> {
    let mut rest = bytes;
    loop {
        if inflated.len() == inflated.capacity() {
            inflated.reserve(ROOM);
        }
        let (read, written) = (state.total_in(), inflated.len());
        let status = state.decompress_vec(rest, inflated, FlushDecompress::None);
        let status = status.map_err(|error| error.to_string())?;
        let read = usize::try_from(state.total_in() - read).unwrap_or(usize::MAX);
        rest = rest.get(read..).unwrap_or_default();
        if inflated.len() > MAX_BYTES {
            return Err(too_large());
        }
        let stands = read == 0 && inflated.len() == written;
        match status {
            Status::StreamEnd => return Ok(Some(rest.len())),
            // There may be more in it where the room is used up.
            _ if rest.is_empty() && inflated.len() < inflated.capacity() => return Ok(None),
            _ if stands && inflated.len() < inflated.capacity() => {
                return Err("it cannot be read on".to_owned());
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

fn too_large() -> String {
    format!("it is larger than {MAX_BYTES} bytes once it is inflated")
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression};

    use super::super::tests::{compressed, flushed};
    use super::*;

    #[test]
    fn what_is_cut_broken_or_followed_by_more_is_refused() {
        let text = b"{\"a\":\"some text, some text, some text\"}";
        for (as_gzip, inflate) in [(true, gzip as fn(&[u8]) -> _), (false, zlib)] {
            let good = compressed(text, as_gzip);
            assert_eq!(inflate(&good).unwrap(), text);
            for end in 0..good.len() {
                assert!(inflate(&good[..end]).is_err(), "gzip {as_gzip}, {end} of {}", good.len());
            }
            assert!(inflate(&[&good, &b"more"[..]].concat()).is_err());
            let mut broken = good.clone();
            *broken.last_mut().unwrap() ^= 1;
            assert!(inflate(&broken).is_err(), "the checksum is wrong");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_takes_memory() {
        let bomb = vec![0; 64 << 20];
        for (as_gzip, inflate) in [(true, gzip as fn(&[u8]) -> _), (false, zlib)] {
            let small = compressed(&bomb, as_gzip);
            assert!(small.len() < 100_000);
            assert!(inflate(&small).unwrap_err().contains("larger than"));
        }
        // In many frames of one message, too.
        let mut stream = Stream::default();
        let mut wrong = None;
        for part in compressed(&bomb, false).chunks(1_000) {
            wrong = stream.push(part).err();
            if wrong.is_some() {
                break;
            }
            assert!(stream.message.capacity() <= 3 * MAX_BYTES);
        }
        assert!(wrong.unwrap().contains("larger than"));
    }

    #[test]
    fn a_stream_goes_on_over_frames_and_ends_messages_where_it_is_flushed() {
        let mut state = Compress::new(Compression::default(), true);
        let mut stream = Stream::default();
        for text in ["{\"a\":1}", "{\"a\":1,\"b\":2}", ""] {
            let bytes = flushed(&mut state, text.as_bytes());
            let (first, rest) = bytes.split_at(bytes.len() - 2);
            assert_eq!(stream.push(first).unwrap(), None);
            assert_eq!(stream.push(rest).unwrap().unwrap(), text.as_bytes());
        }
        assert!(stream.push(b"no stream").is_err());
        let mut ended = Stream::default();
        assert_eq!(ended.push(&compressed(b"[]", false)).unwrap().unwrap(), b"[]");
        assert!(ended.push(&[1]).unwrap_err().contains("had ended"));
    }
}
