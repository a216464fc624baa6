//! A copy of a shard as it is durable at one moment, made while its writer writes. Called by readers of the shard, on a
//! thread that may wait. What never changes again is linked: sealed segments with their footer, generations of codecs.
//! What still may is copied as far as it counts. The copy is a shard of its own from then on: it shares files with the
//! original that neither of them ever writes to, holds none of its locks, and has its uuid, since it has its history.
//!
//! The MANIFEST comes last: a copy that was cut off has none, and is no shard. Files that leave the original meanwhile
//! make it begin again with those that are there then.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::coding;
use crate::disk;
use crate::error::CheckpointError;
use crate::log::frame::Frame;
use crate::log::segment::{self, FRAMES_AT};
use crate::manifest::Manifest;
use crate::shard::Shard;
use crate::types::{CheckpointReport, DurableOffset};

/// Where the log of a copy ends.
struct End {
    segment: u32,
    /// Byte after the last frame.
    byte: u64,
    sequence: u64,
    positions: Vec<Option<DurableOffset>>,
}

/// Makes the copy in a directory that is empty or not there.
pub(crate) fn checkpoint(shard: &Shard, to: &Path) -> Result<CheckpointReport, CheckpointError> {
    fs::create_dir_all(to).map_err(failed(to))?;
    if fs::read_dir(to).map_err(failed(to))?.next().is_some() {
        return Err(CheckpointError::NotEmpty { dir: to.to_path_buf() });
    }
    loop {
        match attempt(shard, to) {
            // Expired or thinned away while it was to be copied.
            Err(CheckpointError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                clear(to).map_err(failed(to))?;
            }
            done => return done,
        }
    }
}

fn attempt(shard: &Shard, to: &Path) -> Result<CheckpointReport, CheckpointError> {
    // First the files, then the frames: what let a file go (a later frame, a copy of its records) is durable by then.
    let manifest = shard.manifest.lock().clone();
    let end = end(shard)?;
    let mut report = CheckpointReport { positions: end.positions.clone(), ..CheckpointReport::default() };
    if end.sequence > 0 && manifest.segments().all(|number| number != end.segment) {
        return Err(gone(shard, end.segment));
    }
    for number in manifest.segments().filter(|number| *number <= end.segment) {
        copy_segment(shard, number, &end, to, &mut report)?;
    }
    copy_codecs(shard, to)?;
    disk::sync_dir(to).map_err(failed(to))?;
    manifest.up_to(end.segment, end.sequence).store(to).map_err(failed(to))?;
    Ok(report)
}

/// The last durable frame, and where it is.
fn end(shard: &Shard) -> Result<End, CheckpointError> {
    let (sequence, number, positions) = shard.durable_at();
    let mut end = End { segment: number, byte: FRAMES_AT, sequence, positions };
    if sequence == 0 {
        return Ok(End { segment: 0, ..end });
    }
    let guard = &crossbeam_epoch::pin();
    let segments = shard.segments.load(guard);
    let segment = segments.at(number).ok_or_else(|| gone(shard, number))?;
    loop {
        let frame = Frame::at(segment, end.byte).map_err(|why| segment.damaged(end.byte, why))?;
        end.byte = frame.end();
        if frame.header.sequence >= sequence {
            break;
        }
    }
    shard.residency.forget_cold(segment);
    Ok(end)
}

/// Links a segment that never changes again; copies any other, and the last one, which the copy's writer goes on in.
fn copy_segment(
    shard: &Shard,
    number: u32,
    end: &End,
    to: &Path,
    report: &mut CheckpointReport,
) -> Result<(), CheckpointError> {
    let (from, copy) = (segment::path(&shard.dir, number), segment::path(to, number));
    if number == end.segment {
        // A shorter file is as good as zeros to the end.
        return copy_bytes(&from, &copy, end.byte, report);
    }
    let sealing = {
        let guard = &crossbeam_epoch::pin();
        let segment = shard.segments.load(guard).at(number);
        segment.is_some_and(|segment| segment.sealing.load(std::sync::atomic::Ordering::Acquire))
    };
    if !sealing && link(&from, &copy)? {
        report.linked += 1;
        return Ok(());
    }
    // A footer that is being written is half there or not: then the frames say the same.
    copy_bytes(&from, &copy, u64::MAX, report)
}

fn copy_codecs(shard: &Shard, to: &Path) -> Result<(), CheckpointError> {
    let numbers = coding::numbers(&shard.dir).map_err(failed(&shard.dir))?;
    let Some(dir) = numbers.first().and_then(|first| Some(coding::path(to, *first).parent()?.to_path_buf()))
    else {
        return Ok(());
    };
    fs::create_dir_all(&dir).map_err(failed(&dir))?;
    for number in numbers {
        let (from, copy) = (coding::path(&shard.dir, number), coding::path(to, number));
        if !link(&from, &copy)? {
            copy_bytes(&from, &copy, u64::MAX, &mut CheckpointReport::default())?;
        }
    }
    disk::sync_dir(&dir).map_err(failed(&dir))
}

/// Gives a file a second name; `false` if the directories are on different file systems, or ones without links.
fn link(from: &Path, to: &Path) -> Result<bool, CheckpointError> {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported) =>
        {
            Ok(false)
        }
        Err(error) => Err(failed(from)(error)),
    }
}

/// Copies the first bytes of a file for good.
fn copy_bytes(
    from: &Path,
    to: &Path,
    bytes: u64,
    report: &mut CheckpointReport,
) -> Result<(), CheckpointError> {
    let source = File::open(from).map_err(failed(from))?;
    let mut copy = File::create_new(to).map_err(failed(to))?;
    report.copied_bytes += io::copy(&mut source.take(bytes), &mut copy).map_err(failed(to))?;
    report.copied += 1;
    copy.sync_all().map_err(failed(to))
}

/// Empties a directory that was empty when this began.
fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?
        } else {
            fs::remove_file(entry.path())?
        }
    }
    Ok(())
}

/// A segment that was there a moment ago.
fn gone(shard: &Shard, number: u32) -> CheckpointError {
    failed(&segment::path(&shard.dir, number))(io::ErrorKind::NotFound.into())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path: PathBuf = path.to_path_buf();
    move |source| CheckpointError::Io { path, source }
}

impl Manifest {
    /// Of a log that ends in a segment, with a frame that is synced.
    fn up_to(mut self, segment: u32, sequence: u64) -> Manifest {
        (self.last_segment, self.discarded_segment, self.durable_sequence) = (segment, 0, sequence);
        self.removed.retain(|hole| hole.to < segment);
        self
    }
}
