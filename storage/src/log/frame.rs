//! One commit as it lies in a segment: header, the position of every topic, records. Built by the writer's batch,
//! checked by recovery and inspection. A frame counts only if it follows the one whose checksum it names.

use crate::layout::{self, checksum, layout};
use crate::log::segment::Segment;
use crate::record::{self, RecordHeader};

layout! {
    /// What stands before the positions and records of a frame.
    struct FrameHeader: 80 {
        magic: [u8; 8],
        /// xxh3 over everything of the frame after this header.
        body_sum: u64,
        shard: [u8; 16],
        /// 1 for the first frame of a shard, then one more each.
        sequence: u64,
        /// `head_sum` of the frame before, 0 for the first.
        previous: u64,
        /// The last frame that was known to be synced when this one was written.
        durable: u64,
        body_bytes: u32,
        record_count: u32,
        topic_count: u16,
        reserved: [u8; 6],
        /// xxh3 over the bytes of this header before it.
        head_sum: u64,
    }
}

layout! {
    /// How far a topic has come.
    struct PositionEntry: 24 {
        topic: u16,
        reserved: [u8; 6],
        /// Last offset in the shard, -1: none yet.
        offset: i64,
        /// Ingest time of the topic, ms.
        ingest_time_ms: i64,
    }
}

pub(crate) const MAGIC: [u8; 8] = *b"FBYFRAME";

/// How far a topic has come, as the writer keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// -1: none yet.
    pub offset: i64,
    pub ingest_time_ms: i64,
}

impl Position {
    /// Of a topic of which nothing has come.
    pub const NONE: Position = Position { offset: -1, ingest_time_ms: 0 };
}

/// A frame whose own checksums are right. Whether it follows the frame before is the caller's question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'m> {
    pub header: FrameHeader,
    /// Byte of the segment where it begins.
    pub at: u64,
    body: &'m [u8],
}

impl FrameHeader {
    /// Writes it with its checksum, which is returned.
    pub fn seal(self, out: &mut [u8]) -> u64 {
        self.encode(out);
        layout::seal(&mut out[..Self::SIZE])
    }
}

impl<'m> Frame<'m> {
    /// The frame that begins at a byte, or why there is none.
    pub fn at(segment: &'m Segment, at: u64) -> Result<Frame<'m>, &'static str> {
        let head = segment.map.get(at, FrameHeader::SIZE).ok_or("the file ends")?;
        if head[..8] != MAGIC {
            return Err(if head.iter().all(|byte| *byte == 0) { "zeros" } else { "no frame begins here" });
        }
        let header = FrameHeader::decode(head);
        if !layout::is_sealed(head) {
            return Err("the frame header's checksum does not fit");
        }
        if header.shard != segment.shard {
            return Err("a frame of another shard");
        }
        let body = segment.map.get(at + FrameHeader::SIZE as u64, header.body_bytes as usize);
        let body = body.ok_or("the file ends inside a frame")?;
        if header.body_sum != checksum(body) {
            return Err("the frame's checksum does not fit its content");
        }
        if body.len() < usize::from(header.topic_count) * PositionEntry::SIZE {
            return Err("the frame has no room for its positions");
        }
        Ok(Frame { header, at, body })
    }

    /// Byte after it.
    pub fn end(&self) -> u64 {
        self.at + (FrameHeader::SIZE + self.body.len()) as u64
    }

    /// The position of each topic, by topic number.
    pub fn positions(&self) -> impl Iterator<Item = Position> + 'm {
        let entries = &self.body[..self.positions_bytes()];
        entries.chunks_exact(PositionEntry::SIZE).map(|entry| {
            let entry = PositionEntry::decode(entry);
            Position { offset: entry.offset, ingest_time_ms: entry.ingest_time_ms }
        })
    }

    fn positions_bytes(&self) -> usize {
        usize::from(self.header.topic_count) * PositionEntry::SIZE
    }

    /// Its records: byte of the segment, header, entity id, stored payload. A record that is not whole in a frame
    /// that is was written so, and is an error.
    pub fn records(&self) -> Records<'m> {
        let skip = self.positions_bytes();
        Records {
            rest: &self.body[skip..],
            at: self.at + (FrameHeader::SIZE + skip) as u64,
            left: self.header.record_count,
        }
    }
}

/// One record of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameRecord<'m> {
    pub at: u64,
    pub header: RecordHeader,
    pub entity: &'m [u8],
    pub payload: &'m [u8],
}

/// The records of a frame.
#[derive(Debug)]
pub(crate) struct Records<'m> {
    rest: &'m [u8],
    at: u64,
    left: u32,
}

impl<'m> Iterator for Records<'m> {
    type Item = Result<FrameRecord<'m>, u64>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let Some(record) = take(self.rest, self.at) else {
            self.left = 0;
            return Some(Err(self.at));
        };
        let bytes = record.header.record_bytes();
        self.rest = &self.rest[bytes.min(self.rest.len())..];
        self.at += bytes as u64;
        Some(Ok(record))
    }
}

fn take(bytes: &[u8], at: u64) -> Option<FrameRecord<'_>> {
    if !record::head_is_whole(bytes) {
        return None;
    }
    let header = RecordHeader::decode(bytes);
    let entity_end = RecordHeader::SIZE + usize::from(header.entity_len);
    let payload = bytes.get(entity_end..entity_end + header.payload_len as usize)?;
    Some(FrameRecord { at, header, entity: &bytes[RecordHeader::SIZE..entity_end], payload })
}

/// The base time of a segment whose first frame has these positions: their highest ingest time, ms.
pub(crate) fn base_ms(positions: impl Iterator<Item = Position>) -> i64 {
    positions.map(|position| position.ingest_time_ms).max().unwrap_or_default()
}

/// Writes the positions of all topics.
pub(crate) fn encode_positions(positions: &[Position], out: &mut [u8]) {
    for (topic, (position, out)) in
        positions.iter().zip(out.chunks_exact_mut(PositionEntry::SIZE)).enumerate()
    {
        let Position { offset, ingest_time_ms } = *position;
        PositionEntry { topic: topic as u16, reserved: [0; 6], offset, ingest_time_ms }.encode(out);
    }
}
