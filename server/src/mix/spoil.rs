//! Turns a good record into one a server must refuse, as producers with bugs do. Used by `generate` only.

use std::ops::Range;

use super::record::{Defect, MixRecord};

/// Every defect, evenly likely.
pub(super) const DEFECTS: [Defect; 11] = [
    Defect::NullKey,
    Defect::EmptyKey,
    Defect::LongKey,
    Defect::EmptyValue,
    Defect::Truncated,
    Defect::NotObject,
    Defect::BadUtf8,
    Defect::NoEventTime,
    Defect::BadEventTime,
    Defect::UnknownView,
    Defect::BadTtl,
];

/// Spoils a record whose event time is at `time` of its value, or in the named header.
pub(super) fn spoil(
    record: &mut MixRecord,
    defect: Defect,
    time: Range<usize>,
    time_header: Option<&'static str>,
) {
    let value = record.value.get_or_insert_default();
    let headers = &mut record.headers;
    match defect {
        Defect::NullKey => record.key = None,
        Defect::EmptyKey => record.key = Some(Vec::new()),
        Defect::LongKey => record.key = Some(vec![b'k'; 300]),
        Defect::EmptyValue => value.clear(),
        Defect::Truncated => value.truncate(value.len() * 2 / 3),
        Defect::NotObject => {
            value.insert(0, b'[');
            value.push(b']');
        }
        Defect::BadUtf8 => {
            let inside = value.iter().position(u8::is_ascii_lowercase).unwrap_or(0);
            value[inside] = 0xff;
        }
        Defect::NoEventTime => match time_header {
            Some(name) => headers.remove(name),
            None => drop(value.splice(around_wrapper(value, time), *b"null")),
        },
        Defect::BadEventTime => match time_header {
            Some(name) => headers.push(name, |out| out.extend_from_slice(b"yesterday")),
            None => drop(value.splice(time, *b"\"yesterday\"")),
        },
        Defect::UnknownView => headers.push("forebay-view", |out| out.extend_from_slice(b"modem_sginal")),
        Defect::BadTtl => headers.push("forebay-ttl-ms", |out| out.extend_from_slice(b"soon")),
    }
}

/// Where the time is, with the Avro-JSON wrapper it may have.
fn around_wrapper(value: &[u8], time: Range<usize>) -> Range<usize> {
    const WRAPPER: &[u8] = b"{\"long\":";
    match value[..time.start].ends_with(WRAPPER) {
        true => time.start - WRAPPER.len()..time.end + 1,
        false => time,
    }
}
