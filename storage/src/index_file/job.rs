//! Writing index checkpoints: when one is due, on a thread that is not the writer's, page by page. It becomes visible only
//! when all it leads to is synced. The writer never waits, except at its end.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{DIR, Origin, Output, numbers, path};
use crate::disk;
use crate::shard::Shard;
use crate::sync;

/// When the next checkpoint of a shard is due.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Number of the next one.
    number: u32,
    /// Bytes written to the log since the last one was begun.
    bytes: u64,
    running: Arc<AtomicBool>,
}

/// So many whole checkpoints stay.
const KEPT: usize = 2;

impl Checkpoints {
    /// Of a directory, after opening it.
    pub fn of(dir: &Path) -> Checkpoints {
        let number = numbers(dir).last().map_or(1, |last| last + 1);
        Checkpoints { number, bytes: 0, running: Arc::default() }
    }

    /// Notes what a commit wrote; returns the job if a checkpoint is due.
    pub fn committed(
        &mut self,
        shard: &Arc<Shard>,
        bytes: u64,
        every: u64,
    ) -> Option<impl FnOnce() + Send + use<>> {
        self.bytes += bytes;
        if self.bytes < every || self.running.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.bytes = 0;
        let (number, shard, running) = (self.number, shard.clone(), Ended(self.running.clone()));
        self.number += 1;
        Some(move || {
            let _running = running;
            if let Some(errand) = shard.errands.begin() {
                // One that could not be written is missed by nobody; the next will come.
                let _ = write(&shard, number, || errand.is_hurried());
            }
        })
    }

    /// Writes one now, if anything was committed since the last.
    pub fn finish(&mut self, shard: &Shard) {
        if self.bytes > 0 {
            // As above: an opening reads the footers then.
            let _ = write(shard, self.number, || false);
        }
    }
}

/// Says that a job has ended, however it did.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Writes a checkpoint and removes old ones.
fn write(shard: &Shard, number: u32, is_hurried: impl Fn() -> bool) -> io::Result<()> {
    let dir = shard.dir.join(DIR);
    fs::create_dir_all(&dir)?;
    let target = path(&shard.dir, number);
    let temporary = target.with_extension(&disk::TEMPORARY[1..]);
    let written = write_all(shard, number, &temporary, &is_hurried);
    let named = written.and_then(|()| fs::rename(&temporary, &target)).and_then(|()| disk::sync_dir(&dir));
    if named.is_err() {
        let _ = fs::remove_file(&temporary);
        return named;
    }
    let numbers = numbers(&shard.dir);
    for old in &numbers[..numbers.len().saturating_sub(KEPT)] {
        fs::remove_file(path(&shard.dir, *old))?;
    }
    Ok(())
}

fn write_all(shard: &Shard, number: u32, to: &Path, is_hurried: &impl Fn() -> bool) -> io::Result<()> {
    let guard = crossbeam_epoch::pin();
    let first_segment = shard.segments.load(&guard).first();
    // What the frames up to this one made of the index is seen from here on.
    let sequence = shard.applied_sequence.load(Ordering::Acquire);
    drop(guard);
    let origin = Origin { shard: shard.id, stream: 0, number, first_segment, sequence };
    let mut output = Output::begin(to, origin)?;
    shard.index.images(|image| match is_hurried() {
        true => Err(hurried()),
        false => output.add(image),
    })?;
    output.end_chunk()?;
    // After the pages, so that it has every view they have.
    let view_ids = shard.index.view_ids(&crossbeam_epoch::pin());
    view_ids.iter().try_for_each(|id| output.add(&id.to_le_bytes()))?;
    output.end_chunk()?;
    // A frame says that it begins before its first slot can be seen.
    let ends_at = shard.begun_sequence.load(Ordering::Acquire);
    output.finish(ends_at)?;
    make_last(shard, ends_at, is_hurried)
}

/// Syncs until a frame is known to be durable. It may be just being committed.
fn make_last(shard: &Shard, sequence: u64, is_hurried: &impl Fn() -> bool) -> io::Result<()> {
    while shard.durable_sequence.load(Ordering::Acquire) < sequence {
        if is_hurried() {
            return Err(hurried());
        }
        sync::sync(shard).map_err(io::Error::other)?;
        std::thread::yield_now();
    }
    Ok(())
}

fn hurried() -> io::Error {
    io::Error::other("the writer leaves")
}
