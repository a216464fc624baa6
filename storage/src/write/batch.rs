//! The batch a writer collects: the frame as it will lie in the segment, and what each of its keys has come to.
//! Pointers between its own records count from the start of the frame until `settle` knows where that will be.
//! Nothing is allocated for a data point once the buffers have grown to the batches that come.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::coding::Stored;
use crate::index::{Dense, Key, Slot};
use crate::layout::checksum;
use crate::log::footer::Entry;
use crate::log::frame::{self, FrameHeader, Position, PositionEntry};
use crate::log::segment::{Record, Segment, Segments};
use crate::record::{self, FLAG_LATE, FLAG_MIXED, Location, RecordHeader};
use crate::shard::Rank;
use crate::types::Put;

/// Collected and not yet committed.
#[derive(Debug)]
pub(super) struct Batch {
    /// Room for the frame header and the positions, then records.
    pub buffer: Vec<u8>,
    records_at: usize,
    records: Vec<Written>,
    pub keys: Vec<KeyState>,
    /// The last added of the keys that share a hash.
    by_hash: HashMap<u64, u32, BuildHasherDefault<Identity>>,
    /// Positions moved, with or without records.
    pub advanced: bool,
}

/// A record of the batch.
#[derive(Debug, Clone, Copy)]
struct Written {
    at: u32,
    entity_hash: u128,
}

/// What a key has come to, the batch included.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyState {
    pub key: Key,
    pub entity_hash: u128,
    pub view: u16,
    /// The view's number in the index.
    pub dense: Dense,
    /// The current version; none for a new key, and for one that was not looked at.
    pub head: Option<Head>,
    /// The current version of a key that was not looked at: a new one is surely newer.
    pub unseen: Location,
    /// The newest late record, or where the way to it goes on.
    pub late: Location,
    /// Its newest record in this batch, which names the entity.
    newest: Location,
    newest_is_late: bool,
    newest_event_ms: i64,
    /// The key with the same hash that was added before it.
    next: Option<u32>,
}

/// The current version of a key, as far as the next one needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub at: Location,
    pub rank: Rank,
    pub header: RecordHeader,
}

impl KeyState {
    /// Of a key that has nothing.
    pub fn new(key: Key, entity_hash: u128, view: u16, dense: Dense) -> Self {
        KeyState {
            key,
            entity_hash,
            view,
            dense,
            head: None,
            unseen: Location::NONE,
            late: Location::NONE,
            newest: Location::NONE,
            newest_is_late: false,
            newest_event_ms: 0,
            next: None,
        }
    }

    /// Whether it has nothing but late records that came to a version which has left since: the key was forgotten with
    /// it, and an opening forgets them too.
    pub fn is_orphan(&self, segments: &Segments) -> bool {
        let gone = |head: &Head| !head.at.is_pending() && segments.at(head.at.segment()).is_none();
        self.newest_is_late && self.head.as_ref().is_some_and(gone)
    }

    /// What the index is to have once the frame is written at a byte of a segment.
    pub fn new_slot(&self, segment: &Segment, frame: u64) -> Slot {
        segment.slot(frame + self.newest.byte(), self.newest_event_ms, self.newest_is_late)
    }
}

impl Batch {
    pub fn new(topics: usize) -> Batch {
        let records_at = FrameHeader::SIZE + topics * PositionEntry::SIZE;
        Batch {
            buffer: vec![0; records_at],
            records_at,
            records: Vec::new(),
            keys: Vec::new(),
            by_hash: HashMap::default(),
            advanced: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        !self.advanced
    }

    pub fn clear(&mut self) {
        self.buffer.truncate(self.records_at);
        self.records.clear();
        self.keys.clear();
        self.by_hash.clear();
        self.advanced = false;
    }

    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The key's place in `keys`, if it is in the batch.
    #[inline]
    pub fn find(&self, key: Key, entity: &[u8], view: u16) -> Option<usize> {
        let mut next = self.by_hash.get(&key.mixed(view)).copied();
        while let Some(at) = next {
            let state = &self.keys[at as usize];
            if state.key == key && state.view == view && self.entity(state.newest) == entity {
                return Some(at as usize);
            }
            next = state.next;
        }
        None
    }

    /// Adds a record to the key at `at` in `keys`, or to a key that is new to the batch.
    pub fn append(
        &mut self,
        known: Option<usize>,
        state: KeyState,
        put: &Put<'_>,
        header: RecordHeader,
        rank: Rank,
        stored: &Stored<'_>,
    ) {
        self.add(known, state, header, rank, put.entity, stored.bytes);
    }

    /// Adds a copy of a current version, which points at nothing. The key is new to the batch. Returns its bytes.
    pub fn carry(&mut self, state: KeyState, rank: Rank, record: &Record<'_>, payload: &[u8]) -> u64 {
        let flags = record.header.flags & !(FLAG_LATE | FLAG_MIXED);
        let header = RecordHeader { prev: 0, jump: 0, late: 0, depth: 1, flags, ..record.header };
        self.add(None, state, header, rank, record.entity, payload);
        header.record_bytes() as u64
    }

    fn add(
        &mut self,
        known: Option<usize>,
        mut state: KeyState,
        header: RecordHeader,
        rank: Rank,
        entity: &[u8],
        payload: &[u8],
    ) {
        let at = Location::pending(self.buffer.len());
        self.records.push(Written { at: self.buffer.len() as u32, entity_hash: state.entity_hash });
        record::append(&mut self.buffer, &header, entity, payload);
        (state.newest, state.newest_is_late, state.newest_event_ms) =
            (at, header.is_late(), header.event_time_ms);
        if header.is_late() {
            state.late = at;
        } else {
            state.head = Some(Head { at, rank, header });
        }
        match known {
            Some(known) => self.keys[known] = state,
            None => {
                state.next = self.by_hash.insert(state.key.mixed(state.view), self.keys.len() as u32);
                self.keys.push(state);
            }
        }
    }

    /// Header of the record added last.
    pub fn last(&self) -> Option<RecordHeader> {
        self.records.last().map(|written| self.header(Location::pending(written.at as usize)))
    }

    /// Header of a record of this batch.
    pub fn header(&self, at: Location) -> RecordHeader {
        RecordHeader::decode(&self.buffer[at.byte() as usize..])
    }

    fn entity(&self, at: Location) -> &[u8] {
        let at = at.byte() as usize;
        let len = usize::from(self.buffer[at + record::ENTITY_LEN_AT]);
        &self.buffer[at + RecordHeader::SIZE..][..len]
    }

    /// Stored payload of a record of this batch, whose header is given.
    pub fn payload(&self, at: Location, header: &RecordHeader) -> &[u8] {
        let at = at.byte() as usize + RecordHeader::SIZE + usize::from(header.entity_len);
        &self.buffer[at..][..header.payload_len as usize]
    }

    /// Takes the records out again; positions stay.
    pub fn drop_records(&mut self) {
        self.clear();
        self.advanced = true;
    }

    /// Gives pointers and checksums their final values for a frame at `frame`, and lists its records in `entries`.
    /// Returns the frame's own checksum.
    pub fn settle(
        &mut self,
        frame: Location,
        header: FrameHeader,
        positions: &[Position],
        entries: &mut Vec<Entry>,
    ) -> u64 {
        for written in &self.records {
            let record = &mut self.buffer[written.at as usize..];
            record::settle(record, frame);
            let at = frame.byte() + u64::from(written.at);
            entries.push(Entry::new(written.entity_hash, &RecordHeader::decode(record), at));
        }
        frame::encode_positions(positions, &mut self.buffer[FrameHeader::SIZE..self.records_at]);
        let (head, body) = self.buffer.split_at_mut(FrameHeader::SIZE);
        let header = FrameHeader {
            body_sum: checksum(body),
            body_bytes: body.len() as u32,
            record_count: self.records.len() as u32,
            topic_count: positions.len() as u16,
            ..header
        };
        header.seal(head)
    }

    /// Highest expiry of its records.
    pub fn max_expiry_ms(&self) -> i64 {
        let expiries =
            self.records.iter().map(|written| self.header(Location::pending(written.at as usize)).expiry_ms);
        expiries.max().unwrap_or(i64::MIN)
    }
}

/// The header of a data point that follows what its key has come to.
pub(super) fn header(
    put: &Put<'_>,
    stored: &Stored<'_>,
    state: &KeyState,
    late: bool,
    jump: Location,
) -> RecordHeader {
    let head = state.head.as_ref();
    let unseen = !state.unseen.is_none() && head.is_none();
    let mixed = unseen
        || head.is_some_and(|head| head.header.is_mixed() || put.ingest_time_ms < head.header.ingest_time_ms);
    RecordHeader {
        head_sum: 0,
        payload_sum: record::short_sum(stored.bytes),
        entity_hash: state.entity_hash as u64,
        event_time_ms: put.event_time_ms,
        ingest_time_ms: put.ingest_time_ms,
        expiry_ms: put.expiry_ms,
        offset: put.offset,
        prev: head.map_or(state.unseen.0, |head| head.at.0),
        jump: jump.0,
        late: state.late.0,
        depth: if late || unseen { 0 } else { head.map_or(1, |head| head.header.depth.saturating_add(1)) },
        payload_len: stored.bytes.len() as u32,
        codec: stored.codec,
        view: put.view,
        topic: put.topic.0,
        entity_len: put.entity.len() as u8,
        kind: u8::from(put.kind == crate::types::Kind::Tombstone),
        flags: if late { FLAG_LATE } else { 0 }
            | if mixed && !late { FLAG_MIXED } else { 0 }
            | record::coding_flags(stored.coding),
        reserved: [0; 5],
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 are hashed");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
