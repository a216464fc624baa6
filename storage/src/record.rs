//! One version as it lies in a segment: fixed header, entity id, payload. Written by the batch, read by everyone.
//! Knows nothing of frames; a record is verified by its own two checksums.

use std::fmt;

use crate::codec::Coding;
use crate::layout::{aligned, checksum, layout};
use crate::types::{Kind, TopicIndex, VersionKey};

layout! {
    /// What stands before every entity id and payload.
    struct RecordHeader: 96 {
        /// Low 32 bits of xxh3 over bytes 4 .. 96 + entity_len.
        head_sum: u32,
        /// Low 32 bits of xxh3 over the stored payload.
        payload_sum: u32,
        /// Low 64 bits of xxh3-128 of the entity id.
        entity_hash: u64,
        event_time_ms: i64,
        ingest_time_ms: i64,
        expiry_ms: i64,
        offset: i64,
        /// The record that was current before this one came.
        prev: u64,
        /// An older record of the same chain of currents, by Myers' rule; 0: none known.
        jump: u64,
        /// The newest late record of the key before this one came, or the current one, whose `late` goes on from there.
        late: u64,
        /// Versions in the chain of currents, this one included, as far as they were looked at; 0 for a late one, and for
        /// one that did not look at the one before it.
        depth: u32,
        /// Stored bytes of the payload.
        payload_len: u32,
        /// Number of the codec generation that the payload was coded with; 0: as it came.
        codec: u32,
        view: u16,
        topic: u16,
        entity_len: u8,
        /// 0: value, 1: tombstone.
        kind: u8,
        /// Bit 0: late; 1: mixed; 2 and 3: the payload's coding.
        flags: u8,
        reserved: [u8; 5],
    }
}

/// Byte of `head_sum`, and of the first byte it covers.
const HEAD_SUM_COVERS: usize = 4;
const PREV_AT: usize = 48;
const JUMP_AT: usize = 56;
const LATE_AT: usize = 64;
pub(crate) const ENTITY_LEN_AT: usize = 88;

/// It was older than the current version when it came.
pub(crate) const FLAG_LATE: u8 = 1;
/// In its chain of currents some version has an older one below it that was ingested later, by another topic's clock.
pub(crate) const FLAG_MIXED: u8 = 2;

/// The coding is in these bits of the flags: 0 raw, 1 zstd, 2 shape.
const CODING_SHIFT: u32 = 2;
const CODING_MASK: u8 = 3;

/// Where a record is: segment number and byte. Later in the log is greater. 0 is nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location(pub u64);

impl Location {
    pub const NONE: Location = Location(0);
    /// The segment number of records that are not written yet; their byte counts from the start of the frame.
    const PENDING: u64 = 0xFF_FFFF;
    /// The highest number a segment file may have.
    pub const MAX_SEGMENT: u32 = 0xFF_FFFE;

    #[inline]
    pub fn new(segment: u32, byte: u64) -> Location {
        Location(u64::from(segment) << 40 | byte)
    }

    #[inline]
    pub fn pending(byte: usize) -> Location {
        Location(Self::PENDING << 40 | byte as u64)
    }

    #[inline]
    pub fn segment(self) -> u32 {
        (self.0 >> 40) as u32
    }

    #[inline]
    pub fn byte(self) -> u64 {
        self.0 & ((1 << 40) - 1)
    }

    #[inline]
    pub fn is_pending(self) -> bool {
        self.0 >> 40 == Self::PENDING
    }

    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Where it will be once its frame is written at `frame`.
    #[inline]
    pub fn settled(self, frame: Location) -> Location {
        if self.is_pending() { Location(frame.0 + self.byte()) } else { self }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.byte())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() { write!(f, "-") } else { write!(f, "{self:?}") }
    }
}

impl RecordHeader {
    /// Bytes of the whole record, padding included.
    pub fn record_bytes(&self) -> usize {
        aligned(Self::SIZE + usize::from(self.entity_len) + self.payload_len as usize)
    }

    pub fn kind(&self) -> Kind {
        if self.kind == 0 { Kind::Value } else { Kind::Tombstone }
    }

    pub fn is_late(&self) -> bool {
        self.flags & FLAG_LATE != 0
    }

    pub fn is_mixed(&self) -> bool {
        self.flags & FLAG_MIXED != 0
    }

    /// How its payload is stored; nothing if no version of this program wrote that.
    pub fn coding(&self) -> Option<Coding> {
        match (self.codec, self.flags >> CODING_SHIFT & CODING_MASK) {
            (0, 0) => Some(Coding::Raw),
            (1.., 1) => Some(Coding::Zstd),
            (1.., 2) => Some(Coding::Shape),
            _ => None,
        }
    }

    pub fn key(&self) -> VersionKey {
        VersionKey {
            event_time_ms: self.event_time_ms,
            tombstone: self.kind != 0,
            topic: TopicIndex(self.topic),
            offset: self.offset,
        }
    }
}

/// The flags that tell a coding.
pub(crate) fn coding_flags(coding: Coding) -> u8 {
    let bits = match coding {
        Coding::Raw => 0,
        Coding::Zstd => 1,
        Coding::Shape => 2,
    };
    bits << CODING_SHIFT
}

/// Low 32 bits of a checksum.
pub(crate) fn short_sum(bytes: &[u8]) -> u32 {
    checksum(bytes) as u32
}

/// Whether the header and entity id at the front of `bytes` are what was written.
pub(crate) fn head_is_whole(bytes: &[u8]) -> bool {
    if bytes.len() < RecordHeader::SIZE {
        return false;
    }
    let end = RecordHeader::SIZE + usize::from(bytes[ENTITY_LEN_AT]);
    bytes.len() >= end && RecordHeader::decode(bytes).head_sum == short_sum(&bytes[HEAD_SUM_COVERS..end])
}

/// Appends a record to a frame that is being built. Its `head_sum` comes with [`settle`].
pub(crate) fn append(out: &mut Vec<u8>, header: &RecordHeader, entity: &[u8], payload: &[u8]) {
    let mut head = [0; RecordHeader::SIZE];
    header.encode(&mut head);
    out.extend_from_slice(&head);
    out.extend_from_slice(entity);
    out.extend_from_slice(payload);
    out.resize(aligned(out.len()), 0);
}

/// Gives a record of a frame its final pointers and head checksum, now that the frame's place is known.
pub(crate) fn settle(record: &mut [u8], frame: Location) {
    for at in [PREV_AT, JUMP_AT, LATE_AT] {
        let field = &mut record[at..at + 8];
        let pointer = Location(u64::from_le_bytes(field.try_into().expect("eight bytes")));
        field.copy_from_slice(&pointer.settled(frame).0.to_le_bytes());
    }
    let end = RecordHeader::SIZE + usize::from(record[ENTITY_LEN_AT]);
    let sum = short_sum(&record[HEAD_SUM_COVERS..end]);
    record[..HEAD_SUM_COVERS].copy_from_slice(&sum.to_le_bytes());
}

/// Depth the jump of a record of depth `depth` leads to; 0: before the first. Skew-binary: a depth is a sum of
/// terms 2^k - 1, greatest first, and the jump drops the smallest (Myers, "An applicative random-access stack", 1983).
pub(crate) fn jump_depth(depth: u32) -> u32 {
    let mut rest = depth;
    let mut smallest = 0;
    while rest > 0 {
        // The greatest 2^k - 1 that is at most `rest`.
        smallest = ((1u64 << (u64::from(rest) + 1).ilog2()) - 1) as u32;
        rest -= smallest;
    }
    depth - smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_follow_the_skew_binary_rule() {
        let expected = [0, 0, 1, 0, 3, 4, 3, 0, 7, 8, 7, 10, 11, 10, 7, 0];
        let got: Vec<_> = (0..16).map(jump_depth).collect();
        assert_eq!(got, expected);
        assert_eq!(jump_depth(u32::MAX), 0);
    }

    #[test]
    fn pointer_fields_are_where_settle_patches_them() {
        let mut header = RecordHeader::decode(&[0; RecordHeader::SIZE]);
        (header.prev, header.jump, header.late) = (1, 2, 3);
        header.entity_len = 7;
        let mut bytes = [0; RecordHeader::SIZE];
        header.encode(&mut bytes);
        assert_eq!((bytes[PREV_AT], bytes[JUMP_AT], bytes[LATE_AT], bytes[ENTITY_LEN_AT]), (1, 2, 3, 7));
    }
}
