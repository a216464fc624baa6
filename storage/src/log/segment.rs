//! One segment file: a header, frames from byte 128, free space, and a footer once it is sealed. Opened by recovery
//! and by the writer; readers take records from its mapping, each verified before it is believed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use crate::disk;
use crate::error::{OpenError, ReadError};
use crate::index::{Coarse, Slot};
use crate::layout::{self, layout};
pub(crate) use crate::log::segments::Segments;
use crate::manifest::FORMAT;
use crate::map::Map;
use crate::planted;
use crate::record::{self, ENTITY_LEN_AT, Location, RecordHeader};

layout! {
    /// The first bytes of a segment file.
    struct SegmentHeader: 128 {
        magic: [u8; 8],
        format: u32,
        /// That of its name.
        number: u32,
        shard: [u8; 16],
        /// Bytes of the file.
        capacity: u64,
        /// `head_sum` of the last frame before this segment.
        previous: u64,
        /// Sequence of its first frame.
        first_sequence: u64,
        /// Stream of segments it belongs to; always 0 so far.
        stream: u32,
        reserved: [u8; 60],
        /// xxh3 over the bytes before it.
        sum: u64,
    }
}

pub(crate) const MAGIC: [u8; 8] = *b"FBYSEGMT";
const SUFFIX: &str = ".seg";
/// Byte of the first frame.
pub(crate) const FRAMES_AT: u64 = SegmentHeader::SIZE as u64;

/// What is wrong with a file of which a page is not there, or not to be had.
pub(crate) const UNREADABLE: &str = "the file cannot be read: it was cut short, or its disk fails";

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub number: u32,
    pub path: PathBuf,
    pub shard: [u8; 16],
    pub header: SegmentHeader,
    pub map: Map,
    file: File,
    /// Highest expiry of its records, for expiry; `i64::MIN` without records.
    pub max_expiry_ms: AtomicI64,
    /// Its records.
    pub records: AtomicU32,
    /// It is full and has no footer yet.
    pub sealing: AtomicBool,
    /// Slots that lead here: its records that are the newest of their keys. Changed by the writer, at a commit.
    pub live: AtomicU32,
    /// Highest ingest time of its first frame, ms: what coarse event times of its slots count from.
    base_ms: OnceLock<i64>,
}

/// Path of a segment.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(disk::numbered(number, SUFFIX))
}

/// The number a file name stands for, if it is a segment's.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    disk::number_of(name, SUFFIX)
}

/// Numbers of the segment files of a directory, ascending.
pub(crate) fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    disk::numbers(dir, SUFFIX)
}

impl SegmentHeader {
    /// Of a new segment that has no frame. No frame has the sequence 0, which says so.
    pub fn unused(shard: [u8; 16], number: u32, capacity: u64) -> Self {
        let (magic, format, stream, reserved, sum) = (MAGIC, FORMAT, 0, [0; 60], 0);
        let (previous, first_sequence) = (0, 0);
        SegmentHeader {
            magic,
            format,
            number,
            shard,
            capacity,
            previous,
            first_sequence,
            stream,
            reserved,
            sum,
        }
    }

    pub fn is_unused(&self) -> bool {
        self.first_sequence == 0
    }

    fn sealed(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        self.encode(&mut bytes);
        layout::seal(&mut bytes);
        bytes
    }

    /// Reads and checks it.
    pub fn check(path: &Path, bytes: &[u8]) -> Result<SegmentHeader, OpenError> {
        if bytes.len() < Self::SIZE {
            return Err(OpenError::corrupt(
                path,
                0,
                "shorter than a segment's header: the file was truncated",
            ));
        }
        let header = Self::decode(bytes);
        if header.magic != MAGIC || !layout::is_sealed(&bytes[..Self::SIZE]) {
            let zeroed = bytes.iter().all(|byte| *byte == 0);
            let detail =
                if zeroed { "zeros instead of a segment's header" } else { "its header is not a segment's" };
            return Err(OpenError::corrupt(path, 0, detail));
        }
        if header.format > FORMAT {
            let (file, found, known) = (path.to_path_buf(), header.format, FORMAT);
            return Err(OpenError::NewerFormat { file, found, known });
        }
        Ok(header)
    }
}

impl Segment {
    /// Makes a new segment file that has all its disk space.
    pub fn create(dir: &Path, header: SegmentHeader) -> io::Result<Segment> {
        let path = path(dir, header.number);
        let file = disk::create(&path, header.capacity)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &header.sealed(), 0)?;
        if !planted::skips_segment_sync() {
            file.sync_all()?;
        }
        let map = Map::new(&file, header.capacity)?;
        Ok(Segment::of(path, header, map, file))
    }

    /// Completes the header of an unused segment, now that the frame before its first is known.
    pub fn begin(&mut self, previous: u64, first_sequence: u64) -> io::Result<()> {
        (self.header.previous, self.header.first_sequence) = (previous, first_sequence);
        self.write(&self.header.sealed(), 0)
    }

    /// Opens an existing one; its length may be wrong, which the caller judges.
    pub fn open(path: &Path, write: bool) -> Result<Segment, OpenError> {
        let file = OpenOptions::new().read(true).write(write).open(path).map_err(OpenError::io(path))?;
        let bytes = file.metadata().map_err(OpenError::io(path))?.len();
        if bytes < FRAMES_AT {
            SegmentHeader::check(path, &[])?;
        }
        let map = Map::new(&file, bytes).map_err(OpenError::io(path))?;
        let header = SegmentHeader::check(path, map.get(0, SegmentHeader::SIZE).unwrap_or_default())?;
        Ok(Segment::of(path.to_path_buf(), header, map, file))
    }

    fn of(path: PathBuf, header: SegmentHeader, map: Map, file: File) -> Segment {
        Segment {
            number: header.number,
            path,
            shard: header.shard,
            header,
            map,
            file,
            max_expiry_ms: AtomicI64::new(i64::MIN),
            records: AtomicU32::new(0),
            sealing: AtomicBool::new(false),
            live: AtomicU32::new(0),
            base_ms: OnceLock::new(),
        }
    }

    /// Writes bytes of a frame or footer. By `pwrite`: on ext4, 150 KiB at a time while another thread syncs, it takes
    /// 30 µs and at the 99.9th percentile 0.15 ms. A store into a shared mapping of the same file takes as long at the
    /// median but faults page by page, and a fault waits for the journal: 2 ms at the 99th, 19 ms at the 99.9th percentile,
    /// 1.1 and 2.5 ms with MADV_POPULATE_WRITE. In memory (tmpfs) they are equal.
    pub fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, at)
    }

    /// Makes what was written last.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Gives it its full length again, with zeros from a byte on, and makes that last.
    pub fn clear_from(&self, at: u64) -> io::Result<()> {
        let file = &self.file;
        for (start, end) in self.written_ranges(at) {
            disk::zero(file, start, end)?;
        }
        disk::allocate(file, self.header.capacity)?;
        file.sync_all()
    }

    /// Ranges from a byte on that were written to since the file was made; other bytes are zeros.
    pub fn written_ranges(&self, from: u64) -> Vec<(u64, u64)> {
        disk::written_ranges(&self.file, from, self.map.len())
    }

    /// Whether there are other bytes than zeros from a byte on.
    pub fn has_written(&self, from: u64) -> bool {
        let ranges = self.written_ranges(from).into_iter();
        let mut bytes = ranges.filter_map(|(start, end)| self.map.get(start, (end - start) as usize));
        bytes.any(|bytes| bytes.iter().any(|byte| *byte != 0))
    }

    /// Bytes of the file.
    pub fn capacity(&self) -> u64 {
        self.header.capacity
    }

    /// Notes the expiry of a record it has now.
    pub fn note_expiry(&self, expiry_ms: i64) {
        self.max_expiry_ms.fetch_max(expiry_ms, Ordering::Relaxed);
    }

    /// Reads a range of bytes, so that they are in memory when they are looked at.
    pub fn read_ahead(&self, from: u64, to: u64) {
        let mut buffer = vec![0; 1 << 20];
        let to = to.min(self.capacity());
        let mut at = from;
        while at < to {
            let bytes = buffer.len().min((to - at) as usize);
            // Whoever looks at them finds out what is wrong.
            let _ = std::os::unix::fs::FileExt::read_at(&self.file, &mut buffer[..bytes], at);
            at += bytes as u64;
        }
    }

    /// Records, and how many of them are the newest of their keys.
    pub fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU32| u64::from(counter.load(Ordering::Relaxed));
        (count(&self.records), count(&self.live))
    }

    /// Counts slots that lead here.
    pub fn count_live(&self, more: i32) {
        self.live.fetch_add(more as u32, Ordering::Relaxed);
    }

    /// Sets the base time of its slots: that of its first frame. What the first call gives counts.
    pub fn note_base(&self, base_ms: i64) {
        self.base_ms.get_or_init(|| base_ms);
    }

    /// Its base time, once it has a frame.
    pub fn base_ms(&self) -> Option<i64> {
        self.base_ms.get().copied()
    }

    /// An event time as its slots have it.
    pub fn coarse(&self, event_time_ms: i64) -> Coarse {
        Coarse::new(event_time_ms, self.base_ms().unwrap_or_default())
    }

    /// The slot that leads to a record here.
    pub fn slot(&self, at: u64, event_time_ms: i64, late: bool) -> Slot {
        Slot::new(self.number, at, self.coarse(event_time_ms), late)
    }

    /// The record at a byte, its header and entity id verified.
    #[inline]
    pub fn record(&self, at: u64) -> Result<Record<'_>, ReadError> {
        let damaged = |detail| self.damaged(at, detail);
        let head = self.map.get(at, RecordHeader::SIZE).ok_or_else(|| damaged("outside of the file"))?;
        let entity_end = RecordHeader::SIZE + usize::from(head[ENTITY_LEN_AT]);
        let head = self.map.get(at, entity_end).ok_or_else(|| damaged("outside of the file"))?;
        if !record::head_is_whole(head) && !planted::skips_verify() {
            return Err(damaged("the record header's checksum does not fit"));
        }
        let header = RecordHeader::decode(head);
        Ok(Record { segment: self, at, header, entity: &head[RecordHeader::SIZE..] })
    }

    /// The error for a record that is not what was written.
    #[cold]
    pub fn damaged(&self, at: u64, detail: &'static str) -> ReadError {
        let detail = if self.map.is_damaged() { UNREADABLE } else { detail };
        ReadError::Damaged { file: self.path.clone(), at, detail }
    }
}

/// A record in a segment, its header and entity id verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'g> {
    pub segment: &'g Segment,
    pub at: u64,
    pub header: RecordHeader,
    pub entity: &'g [u8],
}

impl<'g> Record<'g> {
    pub fn location(&self) -> Location {
        Location::new(self.segment.number, self.at)
    }

    pub fn is(&self, entity: &[u8], view: u16) -> bool {
        self.header.view == view && self.entity == entity
    }

    /// The stored payload, verified.
    pub fn payload(&self) -> Result<&'g [u8], ReadError> {
        let at = self.at + (RecordHeader::SIZE + self.entity.len()) as u64;
        let bytes = self.segment.map.get(at, self.header.payload_len as usize);
        let bytes =
            bytes.ok_or_else(|| self.segment.damaged(self.at, "its payload is outside of the file"))?;
        if record::short_sum(bytes) != self.header.payload_sum && !planted::skips_verify() {
            return Err(self.segment.damaged(self.at, "the payload's checksum does not fit"));
        }
        Ok(bytes)
    }
}
