//! Index checkpoints: `index/NNNNNN` in a stream's directory, the index as it was about one moment. An opening loads the
//! newest one that is whole and goes on from its sequence; without one it reads the footers of all segments. So they
//! may be deleted at any time, and one that is damaged is no loss. Written while the writer goes on, see [`job`].
//!
//! Why it need not be of one moment: it has every slot of the frames up to `sequence`, and may have some of later ones, up
//! to `ends_at`. All records of segments that are not wholly at or below `sequence` are applied to it again in
//! the order of the log, and for each key the last one takes the slot, whatever was there. A late record is dropped if
//! its key is not there, but only keys whose current version has expired are ever taken out, and such a key
//! either comes again later in the log or stays out. It is not used if the log ends before `ends_at`: then it would
//! have slots of records that are not there.
//!
//! ```text
//!  header 128 │ chunk │ chunk │ ... │ trailer 64        chunk: bytes u32 │ 0 u32 │ content │ sum u64
//! ```
//! The last chunk's content is the view ids by their numbers, u16 each; the others' are page images, whole ones, of all
//! regions in order, as `index/image.rs` has them.

mod job;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(crate) use job::Checkpoints;

use crate::disk;
use crate::index::{Builder, Index};
use crate::layout::{self, layout};
use crate::log::segment::Segments;
use crate::manifest::FORMAT;
use crate::map::Map;

layout! {
    /// The first bytes of an index checkpoint.
    struct FileHeader: 128 {
        magic: [u8; 8],
        format: u32,
        /// That of its name.
        number: u32,
        shard: [u8; 16],
        stream: u32,
        /// The oldest segment there was.
        first_segment: u32,
        /// All slots of frames up to this one are in it.
        sequence: u64,
        reserved: [u8; 72],
        /// xxh3 over the bytes before it.
        sum: u64,
    }
}

layout! {
    /// The last bytes.
    struct FileTrailer: 64 {
        magic: [u8; 8],
        /// No slots of frames after this one are in it.
        ends_at: u64,
        /// Chunks, and bytes before the trailer.
        chunks: u64,
        bytes: u64,
        reserved: [u8; 24],
        /// xxh3 over the bytes of the trailer before it.
        sum: u64,
    }
}

const MAGIC: [u8; 8] = *b"FBYINDEX";
const TRAILER_MAGIC: [u8; 8] = *b"FBYINDXE";
pub(crate) const DIR: &str = "index";
/// What stands before the content of a chunk, and after it.
const CHUNK_HEAD: usize = 8;
const CHUNK_SUM: usize = 8;

/// What a checkpoint is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub shard: [u8; 16],
    pub stream: u32,
    pub number: u32,
    pub first_segment: u32,
    pub sequence: u64,
}

/// A checkpoint that is whole.
pub(crate) struct Loaded {
    pub index: Index,
    pub sequence: u64,
    pub ends_at: u64,
}

/// Path of a checkpoint.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(DIR).join(disk::numbered(number, ""))
}

/// Numbers of the checkpoints of a stream, ascending.
pub(crate) fn numbers(dir: &Path) -> Vec<u32> {
    // Those that cannot be listed are of no use; the footers say the same.
    disk::numbers(&dir.join(DIR), "").unwrap_or_default()
}

/// Writes a checkpoint's content as it comes.
struct Output {
    file: File,
    chunk: Vec<u8>,
    chunks: u64,
    bytes: u64,
}

/// A chunk is written when it has so many bytes.
const CHUNK: usize = 1 << 20;

impl Output {
    fn begin(path: &Path, origin: Origin) -> io::Result<Output> {
        let Origin { shard, stream, number, first_segment, sequence } = origin;
        let (magic, format, reserved, sum) = (MAGIC, FORMAT, [0; 72], 0);
        let header =
            FileHeader { magic, format, number, shard, stream, first_segment, sequence, reserved, sum };
        let mut bytes = [0; FileHeader::SIZE];
        header.encode(&mut bytes);
        layout::seal(&mut bytes);
        let mut file = File::create(path)?;
        file.write_all(&bytes)?;
        Ok(Output { file, chunk: vec![0; CHUNK_HEAD], chunks: 0, bytes: FileHeader::SIZE as u64 })
    }

    /// Adds bytes that are to be in one chunk.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK { self.end_chunk() } else { Ok(()) }
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let bytes = (self.chunk.len() - CHUNK_HEAD) as u32;
        self.chunk[..4].copy_from_slice(&bytes.to_le_bytes());
        self.chunk.extend_from_slice(&[0; CHUNK_SUM]);
        layout::seal(&mut self.chunk);
        self.file.write_all(&self.chunk)?;
        self.chunks += 1;
        self.bytes += self.chunk.len() as u64;
        self.chunk.truncate(CHUNK_HEAD);
        Ok(())
    }

    fn finish(mut self, ends_at: u64) -> io::Result<()> {
        let (chunks, bytes_before) = (self.chunks, self.bytes);
        let (magic, reserved) = (TRAILER_MAGIC, [0; 24]);
        let trailer = FileTrailer { magic, ends_at, chunks, bytes: bytes_before, reserved, sum: 0 };
        let mut bytes = [0; FileTrailer::SIZE];
        trailer.encode(&mut bytes);
        layout::seal(&mut bytes);
        self.file.write_all(&bytes)?;
        self.file.sync_all()
    }
}

/// Loads a checkpoint, without slots that lead nowhere, or says why it is of no use.
pub(crate) fn load(dir: &Path, number: u32, shard: [u8; 16], segments: &Segments) -> Result<Loaded, String> {
    let path = path(dir, number);
    let in_file = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = File::open(&path).map_err(|error| in_file(&error))?;
    let bytes = file.metadata().map_err(|error| in_file(&error))?.len();
    if bytes < (FileHeader::SIZE + FileTrailer::SIZE) as u64 {
        return Err(in_file(&"shorter than a checkpoint's header and trailer"));
    }
    let map = Map::new(&file, bytes).map_err(|error| in_file(&error))?;
    let all = map.get(0, bytes as usize).unwrap_or_default();
    let parsed = parse(all, number, shard, segments).map_err(|why| in_file(&why))?;
    if map.is_damaged() { Err(in_file(&"it cannot be read")) } else { Ok(parsed) }
}

fn parse(all: &[u8], number: u32, shard: [u8; 16], segments: &Segments) -> Result<Loaded, &'static str> {
    let (head, rest) = all.split_at_checked(FileHeader::SIZE).ok_or("it has no header")?;
    let header = FileHeader::decode(head);
    if header.magic != MAGIC || !layout::is_sealed(head) {
        return Err("its header is not a checkpoint's");
    }
    if (header.format, header.number, header.shard) != (FORMAT, number, shard) {
        return Err("it is of another format, another shard or under another name");
    }
    let newest = segments.list.last().map_or(0, |segment| segment.number);
    if newest.saturating_sub(header.first_segment) >= crate::index::Slot::SEGMENTS {
        return Err("it is too old: its segment numbers have come again");
    }
    let at = rest.len().checked_sub(FileTrailer::SIZE).ok_or("it has no trailer")?;
    let (mut chunks, tail) = rest.split_at(at);
    let trailer = FileTrailer::decode(tail);
    let whole = trailer.magic == TRAILER_MAGIC && layout::is_sealed(tail);
    if !whole || trailer.bytes != (FileHeader::SIZE + chunks.len()) as u64 {
        return Err("its trailer is not a checkpoint's");
    }
    let index = pages(&mut chunks, trailer.chunks, segments)?;
    Ok(Loaded { index, sequence: header.sequence, ends_at: trailer.ends_at })
}

fn pages(rest: &mut &[u8], chunks: u64, segments: &Segments) -> Result<Index, &'static str> {
    let (mut builder, damaged) = (Builder::new(), "a checksum does not fit: it is damaged");
    let is_alive = |slot| segments.of_slot(slot).is_some();
    for _ in 1..chunks {
        let mut images = take_chunk(rest).ok_or(damaged)?;
        while !images.is_empty() {
            builder.add(&mut images, is_alive).ok_or("its pages are not an index's")?;
        }
    }
    let ids = take_chunk(rest).ok_or(damaged)?;
    let ids: Vec<u16> = ids.chunks_exact(2).map(|id| u16::from_le_bytes([id[0], id[1]])).collect();
    match builder.finish(&ids) {
        Some(index) if rest.is_empty() => Ok(index),
        _ => Err("pages are missing, or it has too many views"),
    }
}

/// What a checkpoint says of itself, for people; or why it is not whole.
pub(crate) fn describe(file: &Path) -> Result<serde_json::Value, String> {
    let all = fs::read(file).map_err(|error| error.to_string())?;
    let header = all.get(..FileHeader::SIZE).map(FileHeader::decode).ok_or("it has no header")?;
    let trailer = all.last_chunk().map(|last: &[u8; FileTrailer::SIZE]| FileTrailer::decode(last));
    let trailer = trailer.ok_or("it has no trailer")?;
    // With no segments every slot leads nowhere: what is checked are sums and pages.
    parse(&all, header.number, header.shard, &Segments::default())?;
    Ok(serde_json::json!({
        "what": "index", "number": header.number, "format": header.format, "stream": header.stream,
        "first_segment": header.first_segment, "sequence": header.sequence, "ends_at": trailer.ends_at,
        "chunks": trailer.chunks, "bytes": all.len(),
    }))
}

/// Takes the content of a chunk that is whole off the front.
fn take_chunk<'m>(rest: &mut &'m [u8]) -> Option<&'m [u8]> {
    let bytes = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let (chunk, after) = rest.split_at_checked(CHUNK_HEAD + bytes + CHUNK_SUM)?;
    if !layout::is_sealed(chunk) {
        return None;
    }
    *rest = after;
    Some(&chunk[CHUNK_HEAD..CHUNK_HEAD + bytes])
}
