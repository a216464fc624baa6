//! zstd with a generation's dictionary: level 1, contexts reused per thread, frames without their magic number.

use std::cell::RefCell;
use std::sync::OnceLock;

use zstd::zstd_safe::{self, CCtx, CDict, DCtx, DDict};

/// Largest payload that is coded, in bytes.
pub(super) const MAX_RAW: usize = 64 << 20;
/// Least and most bytes of a dictionary.
const DICTIONARY_BYTES: std::ops::RangeInclusive<usize> = 256..=16 << 10;
const LEVEL: i32 = 1;
const MAGIC: [u8; 4] = zstd_safe::MAGICNUMBER.to_le_bytes();

thread_local! {
    static CONTEXTS: RefCell<Contexts> =
        RefCell::new(Contexts { compress: CCtx::create(), decompress: DCtx::create(), room: Vec::new() });
}

struct Contexts {
    compress: CCtx<'static>,
    decompress: DCtx<'static>,
    room: Vec<u8>,
}

/// A dictionary; empty is none. It is prepared when it is first used, which takes some hundred KiB: of most
/// generations only few payloads are read any more.
pub(super) struct Dictionary {
    bytes: Vec<u8>,
    compress: OnceLock<Option<CDict<'static>>>,
    decompress: OnceLock<Option<DDict<'static>>>,
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl Dictionary {
    /// From its bytes. With bytes that zstd refuses nothing is compressed or decompressed.
    pub(super) fn new(bytes: Vec<u8>) -> Dictionary {
        Dictionary { bytes, compress: OnceLock::new(), decompress: OnceLock::new() }
    }

    /// None.
    pub(super) fn empty() -> Dictionary {
        Dictionary::new(Vec::new())
    }

    fn to_compress(&self) -> Option<&CDict<'static>> {
        self.compress.get_or_init(|| CDict::try_create(&self.bytes, LEVEL)).as_ref()
    }

    fn to_decompress(&self) -> Option<&DDict<'static>> {
        self.decompress.get_or_init(|| DDict::try_create(&self.bytes)).as_ref()
    }

    /// Learned from `samples`; empty if there are too few.
    pub(super) fn train(samples: &[&[u8]], bytes: usize) -> Dictionary {
        let sizes: Vec<usize> = samples.iter().map(|sample| sample.len()).collect();
        let size = bytes.clamp(*DICTIONARY_BYTES.start(), *DICTIONARY_BYTES.end());
        let mut learned = Vec::with_capacity(size);
        if zstd_safe::train_from_buffer(&mut learned, &samples.concat(), &sizes).is_err() {
            learned.clear();
        }
        // The dictionary's id would be in every frame; the record says which dictionary it is.
        if let Some(id) = learned.get_mut(4..8) {
            id.fill(0);
        }
        Dictionary::new(learned)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends `raw` compressed to `out`; false if zstd fails.
    pub(super) fn compress(&self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(dictionary) = self.to_compress() else { return false };
        CONTEXTS.with_borrow_mut(|contexts| {
            let room = &mut contexts.room;
            room.clear();
            room.reserve(zstd_safe::compress_bound(raw.len()));
            let done = contexts.compress.compress_using_cdict(room, raw, dictionary).is_ok();
            match room.strip_prefix(&MAGIC) {
                Some(frame) if done => out.extend_from_slice(frame),
                _ => return false,
            }
            true
        })
    }

    /// Appends what was compressed to `out`.
    pub(super) fn decompress(&self, frame: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let dictionary = self.to_decompress()?;
        CONTEXTS.with_borrow_mut(|contexts| {
            let room = &mut contexts.room;
            room.clear();
            room.extend_from_slice(&MAGIC);
            room.extend_from_slice(frame);
            let size = usize::try_from(zstd_safe::get_frame_content_size(room).ok()??).ok()?;
            if size > MAX_RAW {
                return None;
            }
            let mut raw = std::mem::take(out);
            let start = raw.len();
            raw.resize(start + size, 0);
            let done = contexts.decompress.decompress_using_ddict(&mut raw[start..], room, dictionary);
            *out = raw;
            (done == Ok(size)).then_some(())
        })
    }
}
