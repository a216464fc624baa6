//! Record batches of Kafka that are compressed once and sent many times. What differs from one sending to the next (keys,
//! times) is kept out of reach of the compression: while a batch is compressed, random bytes stand in those places, so
//! that the compressor can only copy them as they are, and afterwards they are found in its output. Stamping a batch is
//! copying it, writing into those places and computing one checksum. Used by `generator`s; knows no sockets.
//!
//! ```text
//!  record batch:  61 bytes of header (CRC-32C of what follows it) │ LZ4 frame of one block of at most 64 KiB
//!  record:        length │ attributes │ timestamp delta │ offset delta │ key length │ key │ value length │ value │ headers
//!                                     └──────────── head: written at sending ──────────┘        └ event time ┘
//! ```

use std::ops::Range;

use anyhow::{Context, ensure};
use forebay_server::mix::Random;

/// Bytes before the records.
const HEADER: usize = 61;
/// Where the checksum begins to count.
const CHECKED_FROM: usize = 21;
/// Magic number, version 1 with independent blocks, blocks of up to 64 KiB, checksum of these.
const FRAME: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
/// Most bytes of the records of a batch.
pub const MOST_BYTES: usize = 64 << 10;
/// Most records of a batch: each has two places, whose ends differ from those of all others.
pub const MOST_RECORDS: usize = 64;
/// Longest time between the first and the last record of a batch, ms: what fits into one byte of a signed varint.
const MOST_SPAN_MS: i64 = 63;
/// Set in a block's size if it is not compressed.
const STORED: u32 = 1 << 31;

/// A record to be prepared.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// The key is written at each sending, in the same length.
    pub key_varies: bool,
    /// Payload; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Where the digits of the event time are that are written at each sending.
    pub time: Option<TimePlace>,
}

/// Where in a record an event time is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimePlace {
    /// So many bytes of the value.
    Value(Range<usize>),
    /// All of the header of this number.
    Header(usize),
}

/// A batch that can be sent again and again.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    places: Vec<Places>,
    /// Bytes of its records before compression.
    pub raw_bytes: usize,
}

/// What can be written in a record, as ranges of the batch's bytes.
#[derive(Debug, Clone, Default)]
struct Places {
    /// From the timestamp delta to the end of the key.
    head: Option<Range<usize>>,
    /// Length of the key at its end.
    key: usize,
    time: Option<Range<usize>>,
}

impl Places {
    /// The same in something that begins so many bytes earlier.
    fn moved(self, by: usize) -> Places {
        let shift = |range: Range<usize>| range.start + by..range.end + by;
        Places { head: self.head.map(shift), time: self.time.map(shift), key: self.key }
    }
}

/// The places of a record that is being stamped.
pub struct Slots<'b> {
    /// The key, if it varies.
    pub key: Option<&'b mut [u8]>,
    /// Digits of the event time, if they vary.
    pub time: Option<&'b mut [u8]>,
}

impl Batch {
    /// Prepares records; at most [`MOST_RECORDS`] of together at most [`MOST_BYTES`].
    pub fn prepare(drafts: &[Draft], random: &mut Random) -> anyhow::Result<Batch> {
        ensure!((1..=MOST_RECORDS).contains(&drafts.len()), "{} records in a batch", drafts.len());
        let (raw, places) = encode(drafts);
        ensure!(raw.len() <= MOST_BYTES, "a batch of {} bytes", raw.len());
        // Where random bytes happen to be compressible others are tried.
        let found = (0..64).find_map(|_| compress(&raw, &places, random));
        let (block, places, size) = found.context("the places of a batch cannot be kept apart")?;
        let mut bytes = header(drafts.len());
        bytes.extend_from_slice(&FRAME);
        bytes.extend_from_slice(&size.to_le_bytes());
        let places = places.into_iter().map(|places| places.moved(bytes.len())).collect();
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(&[0; 4]);
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        Ok(Batch { bytes, places, raw_bytes: raw.len() })
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes as sent.
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Appends it to `out`: record `i` is stamped `i / len` of `span_ms` after `begin_ms`, and what varies in it is what
    /// `write` (number of the record, its Kafka timestamp, its places) writes there.
    pub fn stamp(
        &self,
        out: &mut Vec<u8>,
        begin_ms: i64,
        span_ms: i64,
        mut write: impl FnMut(usize, i64, Slots<'_>),
    ) {
        let from = out.len();
        out.extend_from_slice(&self.bytes);
        let bytes = &mut out[from..];
        let span_ms = span_ms.clamp(0, MOST_SPAN_MS);
        let mut latest_ms = begin_ms;
        for (number, places) in self.places.iter().enumerate() {
            let mut delta_ms = span_ms * number as i64 / self.places.len() as i64;
            let middle = places.time.as_ref().map_or(bytes.len(), |time| time.start);
            let (before, after) = bytes.split_at_mut(middle);
            let key = match &places.head {
                Some(head) => {
                    before[head.start] = 2 * delta_ms as u8;
                    Some(&mut before[head.end - places.key..head.end])
                }
                None => {
                    delta_ms = 0;
                    None
                }
            };
            let time = places.time.as_ref().map(|time| &mut after[..time.len()]);
            latest_ms = latest_ms.max(begin_ms + delta_ms);
            write(number, begin_ms + delta_ms, Slots { key, time });
        }
        bytes[27..35].copy_from_slice(&begin_ms.to_be_bytes());
        bytes[35..43].copy_from_slice(&latest_ms.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Overwrites fixed-width digits.
pub fn write_digits(into: &mut [u8], mut number: u64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Header of a batch of so many records, without length, times and checksum; from a producer without an id.
fn header(records: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    bytes[16] = 2; // version of the format
    bytes[21..23].copy_from_slice(&3_i16.to_be_bytes()); // LZ4
    bytes[23..27].copy_from_slice(&(records as i32 - 1).to_be_bytes());
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&(records as i32).to_be_bytes());
    bytes
}

fn push_varint(out: &mut Vec<u8>, number: i64) {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn push_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    push_varint(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Records as Kafka has them before compression, and their places.
fn encode(drafts: &[Draft]) -> (Vec<u8>, Vec<Places>) {
    let (mut raw, mut all) = (Vec::new(), Vec::new());
    for (number, draft) in drafts.iter().enumerate() {
        let (body, mut places) = encode_one(number, draft);
        push_varint(&mut raw, body.len() as i64);
        places = places.moved(raw.len());
        raw.extend_from_slice(&body);
        all.push(places);
    }
    (raw, all)
}

fn encode_one(number: usize, draft: &Draft) -> (Vec<u8>, Places) {
    let (mut body, mut places) = (vec![0, 0], Places::default());
    push_varint(&mut body, number as i64);
    push_bytes(&mut body, draft.key.as_deref());
    // A short one would not be left alone by the compressor.
    places.key = draft.key.as_ref().map_or(0, Vec::len);
    places.head = (draft.key_varies && places.key >= 8).then_some(1..body.len());
    push_bytes(&mut body, draft.value.as_deref());
    let value_from = body.len() - draft.value.as_ref().map_or(0, Vec::len);
    if let Some(TimePlace::Value(range)) = &draft.time {
        places.time = Some(value_from + range.start..value_from + range.end);
    }
    push_varint(&mut body, draft.headers.len() as i64);
    for (at, (name, value)) in draft.headers.iter().enumerate() {
        push_bytes(&mut body, Some(name.as_bytes()));
        push_bytes(&mut body, Some(value));
        if draft.time == Some(TimePlace::Header(at)) {
            places.time = Some(body.len() - value.len()..body.len());
        }
    }
    (body, places)
}

/// The block, the places in it, and what stands for its size; `None` if a place was not left as it was.
fn compress(raw: &[u8], places: &[Places], random: &mut Random) -> Option<(Vec<u8>, Vec<Places>, u32)> {
    let mut marked = raw.to_vec();
    let all = || places.iter().flat_map(|places| [&places.head, &places.time]).flatten();
    for (number, place) in all().enumerate() {
        let place = &mut marked[place.clone()];
        place.fill_with(|| random.bits() as u8);
        // A match of the text before or after goes on into a place whose outermost byte is that of another place. So these
        // all differ, and are no ASCII.
        let own = number as u8 | 0x80;
        (place[0], place[place.len() - 1]) = (own, own);
    }
    let mut block = lz4_flex::block::compress(&marked);
    if block.len() >= raw.len() {
        return Some((raw.to_vec(), places.to_vec(), raw.len() as u32 | STORED));
    }
    let mut from = 0;
    let mut find = |place: &Option<Range<usize>>| -> Option<Option<Range<usize>>> {
        let Some(place) = place else { return Some(None) };
        let wanted = &marked[place.clone()];
        let at = from + block[from..].windows(wanted.len()).position(|bytes| bytes == wanted)?;
        from = at + wanted.len();
        Some(Some(at..from))
    };
    let mut found = Vec::with_capacity(places.len());
    for places in places {
        found.push(Places { head: find(&places.head)?, time: find(&places.time)?, ..*places });
    }
    let to = found.iter().flat_map(|places| [&places.head, &places.time]).flatten();
    for (place, to) in all().zip(to) {
        block[to.clone()].copy_from_slice(&raw[place.clone()]);
    }
    let again = lz4_flex::block::decompress(&block, raw.len()).ok()?;
    let size = block.len() as u32;
    (again == raw).then_some((block, found, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(number: usize) -> Draft {
        let value = format!(r#"{{"ts":1700000000000,"number":{number},"text":"the same in all of them"}}"#);
        Draft {
            key: Some(b"entity-0000".to_vec()),
            key_varies: true,
            value: Some(value.into_bytes()),
            time: Some(TimePlace::Value(6..19)),
            ..Draft::default()
        }
    }

    /// The records of a stamped batch as bytes, by the frame's own rules.
    fn records(batch: &[u8]) -> Vec<u8> {
        let size = u32::from_le_bytes(batch[68..72].try_into().expect("four bytes"));
        let block = &batch[72..72 + (size & !STORED) as usize];
        match size & STORED {
            0 => lz4_flex::block::decompress(block, MOST_BYTES).expect("LZ4"),
            _ => block.to_vec(),
        }
    }

    fn stamped(drafts: &[Draft]) -> Vec<u8> {
        let batch = Batch::prepare(drafts, &mut Random::new(1)).expect("prepared");
        let mut out = Vec::new();
        batch.stamp(&mut out, 1_800_000_000_000, 30, |number, at_ms, slots| {
            if let Some(key) = slots.key {
                write_digits(&mut key[7..], number as u64);
            }
            if let Some(time) = slots.time {
                write_digits(time, at_ms as u64);
            }
        });
        out
    }

    #[test]
    fn a_stamped_batch_has_the_records_that_were_meant() {
        let drafts: Vec<Draft> = (0..60).map(draft).collect();
        let out = stamped(&drafts);
        let meant = drafts.into_iter().enumerate().map(|(number, mut draft)| {
            draft.key = Some(format!("entity-{number:04}").into_bytes());
            let text = String::from_utf8(draft.value.expect("a value")).expect("text");
            let at_ms = 1_800_000_000_000 + number as i64 * 30 / 60;
            draft.value = Some(text.replace("1700000000000", &at_ms.to_string()).into_bytes());
            draft
        });
        let (mut raw, places) = encode(&meant.collect::<Vec<_>>());
        for (number, places) in places.iter().enumerate() {
            raw[places.head.clone().expect("a head").start] = (number * 30 / 60) as u8 * 2;
        }
        assert!(records(&out) == raw, "{:?}", String::from_utf8_lossy(&records(&out)));
        assert!(out.len() < raw.len() / 2, "{} of {} bytes", out.len(), raw.len());
    }

    #[test]
    fn places_are_kept_apart_nearly_always() {
        let drafts: Vec<Draft> = (0..60).map(draft).collect();
        let (raw, places) = encode(&drafts);
        let mut random = Random::new(3);
        let found = (0..200).filter(|_| compress(&raw, &places, &mut random).is_some()).count();
        assert!(found > 150, "{found} of 200");
    }

    #[test]
    fn a_batch_says_its_length_count_times_and_checksum() {
        let out = stamped(&[draft(0), draft(1)]);
        let number =
            |range: Range<usize>| out[range].iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        assert_eq!(number(8..12) as usize, out.len() - 12);
        assert_eq!(number(17..21), u64::from(crc32c::crc32c(&out[CHECKED_FROM..])));
        assert_eq!((number(23..27), number(57..61)), (1, 2));
        assert_eq!((number(27..35), number(35..43)), (1_800_000_000_000, 1_800_000_000_015));
    }

    #[test]
    fn what_does_not_vary_stays() {
        let plain =
            Draft { key: None, value: None, headers: vec![("a".into(), b"b".to_vec())], ..Draft::default() };
        let (raw, _) = encode(std::slice::from_ref(&plain));
        assert_eq!(records(&stamped(&[plain])), raw);
    }

    #[test]
    fn a_time_in_a_header_is_written() {
        let headers = vec![("forebay-event-time".to_owned(), b"1700000000000".to_vec())];
        let stone = Draft { value: None, headers, time: Some(TimePlace::Header(0)), ..draft(0) };
        let text = String::from_utf8_lossy(&records(&stamped(&[stone]))).into_owned();
        assert!(text.contains("1800000000000"), "{text:?}");
    }
}
