//! Generation files: `codec/NNNNNN` in a stream's directory, one per generation. A file is written whole before the first
//! record that needs it, never changed and never replaced; a header ties it to its stream, so that another's file is
//! not taken for it. Called when a stream is opened, by training and by inspection.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::Generation;
use crate::disk;
use crate::layout::{self, checksum, layout};
use crate::manifest::FORMAT;

layout! {
    /// What stands before a generation in its file.
    struct FileHeader: 64 {
        magic: [u8; 8],
        format: u32,
        /// That of its name.
        number: u32,
        shard: [u8; 16],
        stream: u32,
        /// Payloads shown to training, of which large ones may not all have been used.
        samples: u32,
        /// The view it was learned for.
        view: u16,
        reserved: [u8; 14],
        /// xxh3 over the bytes before it.
        sum: u64,
    }
}

const MAGIC: [u8; 8] = *b"FBYCODEC";
const DIR: &str = "codec";

/// What a generation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub shard: [u8; 16],
    pub stream: u32,
}

/// A generation as its file has it.
#[derive(Debug)]
pub(crate) struct Known {
    pub generation: Generation,
    pub view: u16,
    pub samples: u32,
    /// Checksum of the file: names this generation among those of all streams.
    pub identity: u64,
}

/// Path of a generation's file.
pub(crate) fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(DIR).join(disk::numbered(number, ""))
}

/// The number a file name stands for, if it is a generation's.
pub(crate) fn number_of(name: &str) -> Option<u32> {
    disk::number_of(name, "")
}

/// Numbers of the generation files of a directory, ascending, whole or not.
pub(crate) fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    match disk::numbers(&dir.join(DIR), "") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        numbers => numbers,
    }
}

/// Bytes of the generation files of a directory.
pub(crate) fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join(DIR)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Removes what trainings that were cut off left.
pub(crate) fn clear(dir: &Path) {
    let entries = std::fs::read_dir(dir.join(DIR)).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(disk::TEMPORARY)) {
        // One that stays does no harm.
        let _ = std::fs::remove_file(entry.path());
    }
}

/// The bytes of a file.
pub(crate) fn encode(owner: Owner, view: u16, samples: u32, generation: &Generation) -> Vec<u8> {
    let header = FileHeader {
        magic: MAGIC,
        format: FORMAT,
        number: generation.number(),
        shard: owner.shard,
        stream: owner.stream,
        samples,
        view,
        reserved: [0; 14],
        sum: 0,
    };
    let mut bytes = vec![0; FileHeader::SIZE];
    header.encode(&mut bytes);
    layout::seal(&mut bytes);
    bytes.extend_from_slice(&generation.to_bytes());
    bytes
}

/// Checks and decodes the bytes of the file of a number; with an owner, only its own.
pub(crate) fn decode(bytes: &[u8], number: u32, owner: Option<Owner>) -> Result<Known, String> {
    let (head, content) = bytes.split_at_checked(FileHeader::SIZE).ok_or("shorter than its header")?;
    let header = FileHeader::decode(head);
    if header.magic != MAGIC || !layout::is_sealed(head) {
        return Err("its header is not a codec generation's".to_owned());
    }
    if header.format > FORMAT {
        return Err(format!(
            "format {} is newer than {FORMAT}, the newest this version reads",
            header.format
        ));
    }
    let from = Owner { shard: header.shard, stream: header.stream };
    if header.number != number || owner.is_some_and(|owner| owner != from) {
        return Err("it is another file's copy: its header has another number, shard or stream".to_owned());
    }
    let generation = Generation::from_bytes(content).map_err(|error| error.to_string())?;
    if generation.number() != number {
        return Err("its content has another number".to_owned());
    }
    Ok(Known { generation, view: header.view, samples: header.samples, identity: checksum(bytes) })
}

/// Puts a new file in its place for good; refuses to replace one.
pub(crate) fn store(dir: &Path, number: u32, bytes: &[u8]) -> io::Result<()> {
    let folder = dir.join(DIR);
    match std::fs::create_dir(&folder) {
        Ok(()) => disk::sync_dir(dir)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    disk::create_whole(&folder, &disk::numbered(number, ""), bytes)
}
