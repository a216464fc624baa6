//! What changes a shard's directory besides frames, kept away from its writer: the next segment is made ahead, footers
//! are written, the MANIFEST is replaced, files are unlinked. Jobs for the keeper thread of a sync group, one after the
//! other; the writer asks for them and waits for nothing but a next segment that is not there yet.
//!
//! Every order of these jobs and the writer's frames is harmless in a crash:
//! - A next segment is complete and synced before the MANIFEST names it, and named before a frame goes there. Until then
//!   its header says that it is unused, and an opening takes it for a file that was never made. The writer completes the
//!   header just before the first frame, without a sync of its own: both are in one file, so whatever makes a frame
//!   there last makes the header last. The header is smaller than a disk's sector and cannot be torn.
//! - A footer may be missing or incomplete at any time: the frames say the same.
//! - A segment leaves the index and the readers first, then the MANIFEST, then the directory. A crash before the
//!   MANIFEST brings it back with nothing in it that still shows, and it leaves again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::disk::{self, Operation};
use crate::error::WriteError;
use crate::log::footer;
use crate::log::segment::{self, Segment, SegmentHeader};
use crate::manifest::Manifest;
use crate::record::Location;
use crate::shard::Shard;
use crate::sync::SyncGroup;
use crate::write::Active;

/// The segment after the active one.
#[derive(Debug, Default)]
pub(crate) struct NextSegment {
    state: Mutex<Next>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Next {
    under_way: bool,
    ready: Option<Segment>,
    /// Why the last one could not be made.
    refused: Option<WriteError>,
}

/// Asks for the next segment, unless it is there or under way.
pub(crate) fn prepare(shard: &Arc<Shard>, group: &SyncGroup, capacity: u64, thins: bool) {
    let mut next = shard.next.state.lock();
    if !next.under_way && next.ready.is_none() {
        ask(shard, group, capacity, thins, &mut next);
    }
}

/// The next segment, with room for `least` bytes. Waits if it is not ready: after a burst that filled half a segment
/// faster than a file is made, for a frame larger than a segment, and at the first commit of a shard. One that `thins`
/// may go past the limit of the disk budget.
pub(crate) fn next_segment(
    shard: &Arc<Shard>,
    group: &SyncGroup,
    wished: u64,
    least: u64,
    thins: bool,
) -> Result<Segment, WriteError> {
    prepare(shard, group, wished.max(least), thins);
    let mut next = shard.next.state.lock();
    loop {
        shard.next.changed.wait_while(&mut next, |next| next.under_way);
        if let Some(refused) = next.refused.take() {
            return Err(refused);
        }
        match next.ready.take_if(|segment| segment.capacity() >= least) {
            Some(segment) => return Ok(segment),
            None => ask(shard, group, least, thins, &mut next),
        }
    }
}

fn ask(shard: &Arc<Shard>, group: &SyncGroup, capacity: u64, thins: bool, next: &mut Next) {
    (next.under_way, next.refused) = (true, None);
    group.keep(shard, move |shard| {
        let answer = Answer(shard);
        let made = make(shard, capacity, thins);
        answer.give(made);
    });
}

/// Ends the writer's waiting, even if the making of a segment panics.
struct Answer<'s>(&'s Shard);

impl Answer<'_> {
    fn give(&self, made: Result<Segment, WriteError>) {
        let mut next = self.0.next.state.lock();
        let replaced = match made {
            Ok(segment) => next.ready.replace(segment),
            Err(error) => {
                next.refused = Some(error);
                None
            }
        };
        drop(next);
        replaced.iter().for_each(|replaced| unlink(self.0, replaced));
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let mut next = self.0.next.state.lock();
        if std::thread::panicking() {
            next.refused = Some(self.0.poison.set("making a segment panicked".to_owned()));
        }
        next.under_way = false;
        self.0.next.changed.notify_all();
    }
}

/// Makes a segment after the newest and names it in the MANIFEST. It replaces one that is ready but too small.
fn make(shard: &Shard, capacity: u64, thins: bool) -> Result<Segment, WriteError> {
    shard.check()?;
    shard.check_place()?;
    shard.disk.take(capacity, thins)?;
    let made = name_new(shard, capacity);
    if made.is_err() {
        shard.disk.give(capacity);
    }
    made
}

fn name_new(shard: &Shard, capacity: u64) -> Result<Segment, WriteError> {
    let too_small = shard.next.state.lock().ready.as_ref().map(|segment| segment.header);
    let number = shard.manifest.lock().last_segment + 1;
    if number > Location::MAX_SEGMENT {
        return Err(WriteError::Invalid("the shard has used up its segment numbers; rebuild it"));
    }
    let header = SegmentHeader::unused(shard.id, number, capacity);
    let made = shard.faults.check(Operation::Allocate);
    let made = made.and_then(|()| Segment::create(&shard.dir, header));
    let path = segment::path(&shard.dir, number);
    let segment = made.map_err(|error| {
        // It may not have come to be; if it stays, the next opening removes it.
        let _ = std::fs::remove_file(&path);
        refusal(shard, "making a segment", &path, error)
    })?;
    // If this fails the file stays: the MANIFEST on the disk may name it all the same.
    store_manifest(shard, |manifest| {
        (manifest.last_segment, manifest.discarded_segment) = (number, 0);
        too_small.iter().for_each(|header| manifest.remove(header));
    })?;
    Ok(segment)
}

/// Writes the footer of a full segment. Readers do not need it, so it need not be synced before the next frame; it is
/// with the next sync of the shard.
pub(crate) fn seal(shard: &Shard, sealed: &Active, last_sequence: u64, last_sum: u64) {
    if shard.poisoned().is_some() {
        return;
    }
    let segment = &sealed.segment;
    let summary = sealed.summary(last_sequence, last_sum);
    let footer = footer::encode(segment, &summary, &sealed.entries, &sealed.positions);
    match segment.write(&footer, segment.capacity() - footer.len() as u64) {
        Ok(()) => {
            shard.unsynced.lock().touch(segment);
            segment.map.advise_random();
            segment.sealing.store(false, Ordering::Release);
        }
        Err(error) => {
            let path = segment.path.display();
            shard.poison.set(format!("{path}: write of a footer failed: {error}"));
        }
    }
}

/// Takes segments that nobody looks for any more out of the MANIFEST and then out of the directory. Without room for a
/// new MANIFEST they stay in `leaving` for the next time.
pub(crate) fn remove_leaving(shard: &Shard) {
    let leaving = std::mem::take(&mut *shard.leaving.lock());
    let stored = shard.check().and_then(|()| {
        store_manifest(shard, |manifest| {
            leaving.iter().for_each(|segment| manifest.remove(&segment.header));
        })
    });
    match stored {
        Ok(()) => leaving.iter().for_each(|segment| unlink(shard, segment)),
        Err(_) => shard.leaving.lock().extend(leaving),
    }
}

/// Waits a while until nobody else has a segment that left, so that its mapping and its disk space, which take
/// milliseconds to give back, are not given back by a thread that reads or writes.
pub(crate) fn give_back(segment: Arc<Segment>) {
    for _ in 0..200 {
        if Arc::strong_count(&segment) == 1 {
            return;
        }
        crossbeam_epoch::pin().flush();
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn unlink(shard: &Shard, segment: &Segment) {
    // Already gone, or removed at the next opening: either is fine.
    let _ = std::fs::remove_file(&segment.path);
    shard.disk.give(segment.capacity());
}

/// Notes in the MANIFEST that all is synced, and gives back the segment made ahead.
pub(crate) fn close(shard: &Shard) -> Result<(), WriteError> {
    let unused = shard.next.state.lock().ready.take();
    store_manifest(shard, |manifest| {
        if let Some(unused) = &unused {
            manifest.last_segment = unused.number - 1;
        }
    })?;
    unused.iter().for_each(|unused| unlink(shard, unused));
    Ok(())
}

/// Changes the MANIFEST, which also says how far the shard is synced. On failure nothing has changed.
pub(crate) fn store_manifest(shard: &Shard, change: impl FnOnce(&mut Manifest)) -> Result<(), WriteError> {
    let mut stored = shard.manifest.lock();
    let mut manifest = stored.clone();
    manifest.durable_sequence = shard.durable_sequence.load(Ordering::Acquire);
    change(&mut manifest);
    if manifest != *stored {
        shard.check_place()?;
        let path = shard.dir.join(crate::manifest::NAME);
        let done = manifest.store(&shard.dir);
        done.map_err(|error| refusal(shard, "replacing the MANIFEST", &path, error))?;
        *stored = manifest;
    }
    Ok(())
}

/// A full disk or process can be waited out; after anything else nobody knows what is on it.
fn refusal(shard: &Shard, doing: &str, path: &Path, error: io::Error) -> WriteError {
    if disk::is_used_up(&error) {
        return WriteError::NoSpace { path: path.to_path_buf() };
    }
    shard.poison.set(format!("{}: {doing} failed: {error}", path.display()))
}
