//! Records in a file, one behind the other: four bytes that mark the beginning, the length and the CRC-32 of the record
//! as little-endian numbers, the record.
//!
//! What is torn at the end of the file, or damaged in the middle, is passed over up to the next whole record.

/// What every record begins with. It is not text, so that events hardly contain it.
const MARK: [u8; 4] = [0xF0, b'P', b'S', 0x0F];
/// Mark, length and checksum.
pub const HEAD: usize = 12;
/// How many beginnings are tried behind damage before the rest of the file is given up.
const MAX_TRIED: usize = 4_096;

/// Appends the record that `write` appends.
pub fn push(to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.extend_from_slice(&MARK);
    to.extend_from_slice(&[0; HEAD - MARK.len()]);
    write(to);
    let Some((head, record)) = to.get_mut(start..).and_then(|frame| frame.split_at_mut_checked(HEAD)) else {
        return;
    };
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes();
    let sum = crc32fast::hash(record).to_le_bytes();
    head[4..8].copy_from_slice(&length);
    head[8..12].copy_from_slice(&sum);
}

/// What stands in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A whole record, and where its frame begins.
    Record(usize, &'a [u8]),
    /// So many bytes that are not a record, before one that is, or at the end.
    Damaged(usize),
}

/// The records in these bytes, in their order.
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// The records of a file.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        if let Some(record) = record(rest) {
            let at = self.at;
            self.at += HEAD + record.len();
            return Some(Found::Record(at, record));
        }
        let marks = rest.windows(MARK.len()).enumerate().skip(1).filter(|(_, bytes)| *bytes == MARK);
        let whole = |(at, _): &(usize, &[u8])| rest.get(*at..).and_then(record).is_some();
        let next = marks.take(MAX_TRIED).find(whole).map_or(rest.len(), |(at, _)| at);
        self.at += next;
        Some(Found::Damaged(next))
    }
}

/// The record whose frame is at the beginning of these bytes, if it is whole.
pub fn record(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let record = rest.get(..usize::try_from(number(4)?).ok()?)?;
    (head.starts_with(&MARK) && crc32fast::hash(record) == number(8)?).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| push(&mut bytes, |to| to.extend_from_slice(record)));
        bytes
    }

    fn records(bytes: &[u8]) -> (Vec<&[u8]>, Vec<usize>) {
        let mut found = (Vec::new(), Vec::new());
        for next in Frames::new(bytes) {
            match next {
                Found::Record(_, record) => found.0.push(record),
                Found::Damaged(bytes) => found.1.push(bytes),
            }
        }
        found
    }

    #[test]
    fn a_file_that_ends_anywhere_has_all_whole_records() {
        let parts: [&[u8]; 3] = [b"one", &MARK, b""];
        let whole = file(&parts);
        for end in 0..=whole.len() {
            let (found, damaged) = records(&whole[..end]);
            let expected = (0..=3).rev().find(|count| file(&parts[..*count]).len() <= end).unwrap();
            assert_eq!(found, &parts[..expected], "{end}");
            assert_eq!(damaged.iter().sum::<usize>(), end - file(&parts[..expected]).len(), "{end}");
        }
    }

    #[test]
    fn a_changed_byte_costs_the_record_in_which_it_stands() {
        let parts: [&[u8]; 4] = [b"one", b"two two", &MARK, b"four"];
        let whole = file(&parts);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            let (found, damaged) = records(&bytes);
            let hit = (0..4).find(|count| at < file(&parts[..=*count]).len()).unwrap();
            let others: Vec<_> =
                parts.iter().enumerate().filter(|(n, _)| *n != hit).map(|(_, p)| *p).collect();
            assert_eq!((found, damaged), (others, vec![HEAD + parts[hit].len()]), "{at}");
        }
    }

    #[test]
    fn zeros_and_marks_without_a_record_are_passed_over() {
        assert_eq!(records(&[0; 5_000]), (vec![], vec![5_000]));
        let mut bytes = MARK.repeat(2_000);
        bytes.extend(file(&[b"x"]));
        assert_eq!(records(&bytes), (vec![&b"x"[..]], vec![8_000]));
        assert_eq!(records(b""), (vec![], vec![]));
    }
}
