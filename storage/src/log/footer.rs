//! What a sealed segment says of itself at its end: a list of its records, enough to rebuild the index without
//! touching payloads, and its last positions. Written when the next segment begins, or by recovery if that was cut
//! off. A footer that does not verify is no loss: the frames say the same.

use crate::layout::{self, checksum, layout};
use crate::log::frame::{self, Position, PositionEntry};
use crate::log::segment::Segment;
use crate::planted;
use crate::record::{FLAG_LATE, RecordHeader};

layout! {
    /// A record in the footer.
    struct Entry: 32 {
        /// xxh3-128 of the entity id.
        entity_hash_low: u64,
        entity_hash_high: u64,
        event_time_ms: i64,
        /// Byte of the record, divided by 8.
        place: u32,
        view: u16,
        flags: u8,
        reserved: u8,
    }
}

layout! {
    /// The last bytes of a sealed segment; positions and then entries stand before it.
    struct Trailer: 128 {
        magic: [u8; 8],
        shard: [u8; 16],
        number: u32,
        entry_count: u32,
        topic_count: u32,
        reserved: [u8; 4],
        first_sequence: u64,
        last_sequence: u64,
        /// `head_sum` of the last frame.
        last_sum: u64,
        /// Byte after the last frame.
        frames_end: u64,
        /// Highest expiry of a record, ms; the lowest i64 without records.
        max_expiry_ms: i64,
        /// Highest ingest time of the first frame, ms.
        base_ms: i64,
        reserved_too: [u8; 24],
        /// xxh3 over the entries.
        entries_sum: u64,
        /// xxh3 over the positions and the trailer before it, so that these are believed without reading the entries.
        sum: u64,
    }
}

const MAGIC: [u8; 8] = *b"FBYFOOT2";

impl Entry {
    /// The entry of a record at a byte of its segment.
    pub fn new(entity_hash: u128, header: &RecordHeader, at: u64) -> Entry {
        Entry {
            entity_hash_low: entity_hash as u64,
            entity_hash_high: (entity_hash >> 64) as u64,
            event_time_ms: header.event_time_ms,
            place: (at / 8) as u32,
            view: header.view,
            flags: header.flags,
            reserved: 0,
        }
    }

    pub fn entity_hash(&self) -> u128 {
        u128::from(self.entity_hash_high) << 64 | u128::from(self.entity_hash_low)
    }

    pub fn at(&self) -> u64 {
        u64::from(self.place) * 8
    }

    pub fn is_late(&self) -> bool {
        self.flags & FLAG_LATE != 0
    }
}

/// Bytes a footer takes.
pub(crate) fn bytes(entries: usize, topics: usize) -> u64 {
    (entries * Entry::SIZE + topics * PositionEntry::SIZE + Trailer::SIZE) as u64
}

/// What a footer says besides its entries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub last_sum: u64,
    pub frames_end: u64,
    pub max_expiry_ms: i64,
    pub base_ms: i64,
}

/// A footer whose trailer and positions verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footer<'m> {
    pub summary: Summary,
    entries: &'m [u8],
    entries_sum: u64,
    positions: &'m [u8],
}

/// The bytes to put at the end of a segment.
pub(crate) fn encode(
    segment: &Segment,
    summary: &Summary,
    entries: &[Entry],
    positions: &[Position],
) -> Vec<u8> {
    let entries = &entries[..entries.len() - usize::from(planted::short_footers() && !entries.is_empty())];
    let mut out = vec![0; bytes(entries.len(), positions.len()) as usize];
    let (entry_bytes, rest) = out.split_at_mut(entries.len() * Entry::SIZE);
    for (entry, out) in entries.iter().zip(entry_bytes.chunks_exact_mut(Entry::SIZE)) {
        entry.encode(out);
    }
    let (position_bytes, rest) = rest.split_at_mut(positions.len() * PositionEntry::SIZE);
    frame::encode_positions(positions, position_bytes);
    let entries_sum = checksum(entry_bytes);
    trailer(segment, summary, entries.len(), positions.len(), entries_sum).encode(rest);
    layout::seal(&mut out[entries.len() * Entry::SIZE..]);
    out
}

fn trailer(segment: &Segment, summary: &Summary, entries: usize, topics: usize, entries_sum: u64) -> Trailer {
    Trailer {
        magic: MAGIC,
        shard: segment.shard,
        number: segment.number,
        entry_count: entries as u32,
        topic_count: topics as u32,
        reserved: [0; 4],
        first_sequence: summary.first_sequence,
        last_sequence: summary.last_sequence,
        last_sum: summary.last_sum,
        frames_end: summary.frames_end,
        max_expiry_ms: summary.max_expiry_ms,
        base_ms: summary.base_ms,
        reserved_too: [0; 24],
        entries_sum,
        sum: 0,
    }
}

impl<'m> Footer<'m> {
    /// The footer of a segment, if it has one whose trailer and positions verify. Does not touch its entries.
    pub fn of(segment: &'m Segment) -> Option<Footer<'m>> {
        let end = segment.capacity();
        let at = end.checked_sub(Trailer::SIZE as u64)?;
        let trailer = Trailer::decode(segment.map.get(at, Trailer::SIZE)?);
        if trailer.magic != MAGIC || trailer.shard != segment.shard || trailer.number != segment.number {
            return None;
        }
        let total = bytes(trailer.entry_count as usize, trailer.topic_count as usize);
        let all = segment.map.get(end.checked_sub(total)?, total as usize)?;
        let (entries, rest) = all.split_at(trailer.entry_count as usize * Entry::SIZE);
        if !layout::is_sealed(rest) {
            return None;
        }
        let positions = &rest[..trailer.topic_count as usize * PositionEntry::SIZE];
        let (summary, entries_sum) = (trailer.summary(), trailer.entries_sum);
        Some(Footer { summary, entries, entries_sum, positions })
    }

    /// How many records its segment has.
    pub fn len(&self) -> usize {
        self.entries.len() / Entry::SIZE
    }

    /// Its segment's records, in the order they were written, if they verify.
    pub fn entries(&self) -> Option<impl ExactSizeIterator<Item = Entry> + use<'m>> {
        let (entries, sum) = (self.entries, self.entries_sum);
        (checksum(entries) == sum).then(|| entries.chunks_exact(Entry::SIZE).map(Entry::decode))
    }

    /// Positions after its segment's last frame, by topic number.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = Position> + 'm {
        self.positions.chunks_exact(PositionEntry::SIZE).map(|entry| {
            let entry = PositionEntry::decode(entry);
            Position { offset: entry.offset, ingest_time_ms: entry.ingest_time_ms }
        })
    }
}

impl Trailer {
    fn summary(&self) -> Summary {
        Summary {
            first_sequence: self.first_sequence,
            last_sequence: self.last_sequence,
            last_sum: self.last_sum,
            frames_end: self.frames_end,
            max_expiry_ms: self.max_expiry_ms,
            base_ms: self.base_ms,
        }
    }
}
