//! Payload coding in a stream: which generations it has, what a record's payload was before it was stored, and when a
//! view's coding is learned again. `codec` knows how one payload is coded; here is what joins it to records and files.
//! Called by the writer (`Coder`), the readers (`Codecs`, `FieldPlan`), opening and inspection.
//!
//! ```text
//!                          Library: what other shards learned ─┐
//!                                                              ▼
//!  encode, put ─► Coder ── samples ─► background: train, or take that ─► codec/NNNNNN, synced ─┐
//!                   ▲                                              at a commit: MANIFEST, Codecs │
//!                   └───────────────────── the view's new generation ◄──────────────────────────┘
//!  record (codec number, coding) ─► Codecs ─► payload, or single fields by FieldPlan
//! ```
//!
//! # Rules of generation files
//!
//! - A record's `codec` is the number of the generation its payload was coded with, 0 if the payload is as it came. Bits
//!   2 and 3 of its flags are the coding: 0 raw, 1 zstd, 2 shape. Any other combination is damage.
//! - A file is written, synced and renamed into place, its folder synced, and its number noted in the MANIFEST
//!   (`last_codec`), before the first record that uses it is written. So whatever power loss leaves, a whole record has
//!   its generation.
//! - A number is given once: the next is above every file's and above `last_codec`, whatever was removed. A number
//!   whose training failed is not used.
//! - Shards of one sync group hold parts of the same views: what one learned of a view the others take for theirs if it
//!   fits their samples, each in a file of its own, and equal contents are in memory once.
//! - Files are never changed, and never removed while the shard lives: which records still need one is not known.
//!   One is 8 to 23 KiB; a view makes a new one at most every 65,536 payloads, ever more rarely, and only when it drifts.
//! - Samples take at most 2 MiB of memory per view, while it learns. Training takes a fraction of a second, off the
//!   writer's thread.
//! - A file holds fragments of the payloads it was learned from: usual values and a dictionary.
//! - A missing or damaged file does not keep a stream from opening: reads of records that need it fail and name it, and
//!   the writer learns anew.

mod coder;
mod files;
mod keyed;
mod learning;
mod library;
mod plan;
mod training;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::codec::{self, Coding};
use crate::error::{OpenError, ReadError};
use crate::log::segment::Record;
use crate::record::RecordHeader;
pub(crate) use coder::Coder;
pub use coder::Fit;
pub(crate) use files::{Known, Owner, bytes, clear, decode as decode_file, number_of, numbers, path};
use keyed::Keyed;
pub(crate) use library::Library;
pub use plan::{FieldPlan, Fields};

/// The generations of a stream, shared by its readers and its writer.
#[derive(Debug)]
pub(crate) struct Codecs {
    dir: PathBuf,
    owner: Owner,
    known: Keyed<Known>,
}

/// What an opening found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub codecs: Codecs,
    /// The highest number of a file, 0 without one.
    pub last: u32,
    /// The newest generation of each view, and the samples it was learned from.
    pub newest: BTreeMap<u16, (u32, u32)>,
}

/// A payload as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    /// Number of the generation, 0 for raw.
    pub codec: u32,
    pub coding: Coding,
    pub bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    /// What a record's header says of its payload; nothing if no version of this program wrote that.
    pub fn of(header: &RecordHeader, bytes: &'a [u8]) -> Option<Stored<'a>> {
        Some(Stored { codec: header.codec, coding: header.coding()?, bytes })
    }
}

impl Codecs {
    /// Loads all that are there and whole.
    pub fn load(dir: &Path, owner: Owner, library: &Library) -> Result<Loaded, OpenError> {
        let numbers = files::numbers(dir).map_err(OpenError::io(dir))?;
        let codecs = Codecs { dir: dir.to_path_buf(), owner, known: Keyed::new() };
        let mut newest = BTreeMap::new();
        for number in &numbers {
            // Who needs one that cannot be loaded will say so.
            let Ok(mut known) = codecs.read(*number) else { continue };
            known.generation = library.copy_of(known.generation);
            newest.insert(known.view, (*number, known.samples));
            codecs.add(known);
        }
        Ok(Loaded { codecs, last: numbers.last().copied().unwrap_or(0), newest })
    }

    fn read(&self, number: u32) -> Result<Known, String> {
        let bytes = std::fs::read(files::path(&self.dir, number)).map_err(|error| error.to_string())?;
        files::decode(&bytes, number, Some(self.owner))
    }

    /// Takes up a generation whose file is in place.
    fn add(&self, known: Known) {
        self.known.add(known.generation.number().into(), known);
    }

    fn get(&self, number: u32) -> Option<&Known> {
        self.known.get(number.into())
    }

    /// The payload of a record as it came.
    pub fn payload<'g>(&self, record: &Record<'g>) -> Result<Cow<'g, [u8]>, ReadError> {
        let stored = stored(record)?;
        if stored.coding == Coding::Raw {
            return Ok(Cow::Borrowed(stored.bytes));
        }
        let mut payload = Vec::new();
        self.decode(record, stored, &mut payload)?;
        Ok(Cow::Owned(payload))
    }

    /// Appends the payload of a record as it came to `out`.
    pub fn append(&self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), ReadError> {
        self.decode(record, stored(record)?, out)
    }

    fn decode(&self, record: &Record<'_>, stored: Stored<'_>, out: &mut Vec<u8>) -> Result<(), ReadError> {
        if stored.coding == Coding::Raw {
            out.extend_from_slice(stored.bytes);
            return Ok(());
        }
        let generation = self.generation(stored.codec)?;
        codec::decode(&generation.generation, stored.coding, stored.bytes, out)
            .map_err(|_| record.segment.damaged(record.at, "its payload is not of its codec generation"))
    }

    /// Whether a stored payload is the one that came now as `payload` and would be stored as `new`.
    pub fn are_same(&self, old: Stored<'_>, new: Stored<'_>, payload: &[u8]) -> bool {
        let alike = (old.codec, old.coding) == (new.codec, new.coding);
        if alike && (old.bytes == new.bytes || old.coding != Coding::Zstd) {
            // Decoding undoes encoding, and bits of a shape are the same for the same payload.
            return old.bytes == new.bytes;
        }
        // One that cannot be decoded any more is no reason to stop writing.
        self.decoded(old).is_some_and(|old| old == payload)
    }

    /// A stored payload as it came; nothing if its generation is not there or it is damaged.
    pub fn decoded(&self, stored: Stored<'_>) -> Option<Vec<u8>> {
        if stored.coding == Coding::Raw {
            return Some(stored.bytes.to_vec());
        }
        let (known, mut decoded) = (self.get(stored.codec)?, Vec::new());
        codec::decode(&known.generation, stored.coding, stored.bytes, &mut decoded).ok()?;
        Some(decoded)
    }

    /// The generation that a record needs.
    pub fn generation(&self, number: u32) -> Result<&Known, ReadError> {
        self.get(number).ok_or_else(|| self.missing(number))
    }

    #[cold]
    fn missing(&self, number: u32) -> ReadError {
        let detail = "the codec generation that a record's payload needs is missing or damaged";
        ReadError::Damaged { file: files::path(&self.dir, number), at: 0, detail }
    }
}

/// The payload of a record as it is stored, verified.
pub(crate) fn stored<'g>(record: &Record<'g>) -> Result<Stored<'g>, ReadError> {
    let bytes = record.payload()?;
    Stored::of(&record.header, bytes)
        .ok_or_else(|| record.segment.damaged(record.at, "a payload coding this version does not know"))
}
