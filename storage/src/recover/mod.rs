//! Reads the log of a shard: finds where it ends, rebuilds the index, and tells an end that a crash leaves from
//! damage. `read` looks and decides without changing a file; `repair` then makes the files fit the decision.
//!
//! A commit that was not synced may be missing after a power loss, wholly or in part, and a later one may be there all
//! the same: that ends the log, and the topics are read again from there. What was synced must be there. Which frames
//! were synced is known from the MANIFEST and from every frame, which names the last one synced before it.
//!
//! The index comes from the newest checkpoint of it that is of use, and from the records of segments that are not wholly
//! covered by that; see `index_file` for why this gives what the writer had.

mod files;
mod scan;
mod unsure;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::OpenError;
use crate::index::{Index, Logged};
use crate::index_file::{self, Loaded};
use crate::log::footer::{self, Entry, Footer};
use crate::log::frame::{self, Position};
use crate::log::segment::{self, FRAMES_AT, Segment, Segments};
use crate::manifest::Manifest;
use crate::planted;
use crate::shard::{Last, entity_hash};
use crate::types::OpenReport;
use crate::write::Active;
use unsure::Unsure;

/// What the log says.
#[derive(Debug)]
pub(crate) struct Recovered {
    index: Index,
    /// The index has the records of frames up to this one.
    covered: u64,
    report: OpenReport,
    /// Index checkpoints that are of no use.
    useless: Vec<u32>,
    segments: Vec<Arc<Segment>>,
    last: Last,
    /// The last segment of the log.
    active: Option<Active>,
    /// Its footer was believed, and its entries are not in `active`.
    by_footer: bool,
    /// Footers that are missing: segment and content.
    footers: Vec<(Arc<Segment>, Vec<u8>)>,
    /// Segment files that are no part of the log: expired, or begun and never used.
    remove: Vec<u32>,
    /// The active segment has other bytes than zeros after its last frame, or is too short.
    unclean: bool,
    unsure: Unsure,
    stored_topics: usize,
}

/// What the log says, now that the files agree.
#[derive(Debug)]
pub(crate) struct Repaired {
    pub index: Index,
    pub segments: Segments,
    pub active: Option<Active>,
    pub last: Last,
    pub report: OpenReport,
}

/// Reads the log; changes nothing. `stored_topics` is how many topics the MANIFEST had before this opening.
pub(crate) fn read(dir: &Path, manifest: &Manifest, stored_topics: usize) -> Result<Recovered, OpenError> {
    let remove = files::unnamed(dir, manifest)?;
    let named = manifest.segments();
    let list = named.map(|number| files::open(dir, manifest, number)).collect::<Result<Vec<_>, _>>()?;
    files::check_lengths(&list)?;
    let (segments, mut ignored, mut useless) = (Segments::new(list), Vec::new(), Vec::new());
    let mut checkpoints = index_file::numbers(dir);
    let mut recovered = loop {
        let number = checkpoints.pop();
        let shard = manifest.shard.into_bytes();
        let loaded = match number.map(|number| index_file::load(dir, number, shard, &segments)) {
            Some(Err(why)) => {
                ignored.push(why);
                useless.extend(number);
                continue;
            }
            loaded => loaded.and_then(Result::ok),
        };
        let ends_at = loaded.as_ref().map_or(0, |loaded| loaded.ends_at);
        let recovered = Recovered::read(manifest, &segments.list, loaded, stored_topics)?;
        if ends_at <= recovered.last.sequence {
            break recovered;
        }
        let (path, last) = (index_file::path(dir, number.unwrap_or_default()), recovered.last.sequence);
        ignored.push(format!("{}: it has frames up to {ends_at}, the log up to {last}", path.display()));
        useless.extend(number);
    };
    (recovered.report.ignored, recovered.useless) = (ignored, useless);
    recovered.remove.extend(remove);
    // Zeros in the place of what cannot be read must not pass for the end of the log.
    if let Some(segment) = segments.unreadable() {
        return Err(OpenError::corrupt(&segment.path, 0, segment::UNREADABLE));
    }
    Ok(recovered)
}

impl Recovered {
    /// Reads the segments as far as the log goes, on top of an index that was loaded.
    fn read(
        manifest: &Manifest,
        segments: &[Arc<Segment>],
        loaded: Option<Loaded>,
        stored_topics: usize,
    ) -> Result<Recovered, OpenError> {
        let covered = loaded.as_ref().map_or(0, |loaded| loaded.sequence);
        let positions = vec![Position::NONE; manifest.topics.len()];
        let mut recovered = Recovered {
            index: loaded.map_or_else(Index::new, |loaded| loaded.index),
            covered,
            report: OpenReport { checkpoint_sequence: covered, ..OpenReport::default() },
            useless: Vec::new(),
            segments: Vec::new(),
            last: Last { sequence: 0, sum: 0, segment: 0, positions },
            active: None,
            by_footer: false,
            footers: Vec::new(),
            remove: Vec::new(),
            unclean: false,
            unsure: Unsure::new(manifest.durable_sequence),
            stored_topics,
        };
        let mut taken = 0;
        while taken < segments.len() && recovered.take(segments[taken].clone(), manifest)? {
            taken += 1;
        }
        let rest = &segments[taken..];
        recovered.end(manifest, rest)?;
        recovered.remove.extend(rest.iter().map(|segment| segment.number));
        Ok(recovered)
    }

    /// Takes a segment's frames; whether the log goes on after it.
    fn take(&mut self, segment: Arc<Segment>, manifest: &Manifest) -> Result<bool, OpenError> {
        let first = self.segments.is_empty();
        if first {
            (self.last.sequence, self.last.sum) =
                (segment.header.first_sequence.saturating_sub(1), segment.header.previous);
        }
        if let Some(hole) = manifest.hole_before(segment.number).filter(|hole| hole.first_sequence > 0) {
            if (hole.previous, hole.first_sequence) != (self.last.sum, self.last.sequence + 1) {
                return Ok(false);
            }
            // What is gone was synced as a whole, and so was a frame after it: here the log goes on.
            (self.last.sequence, self.last.sum) =
                (segment.header.first_sequence.saturating_sub(1), segment.header.previous);
        }
        let follows = segment.header.previous == self.last.sum
            && segment.header.first_sequence == self.last.sequence + 1;
        if !follows {
            return Ok(false);
        }
        let sealed = segment.number < manifest.last_segment;
        if let Some(active) = self.active.take().filter(|_| !self.by_footer) {
            self.seal(active);
        }
        self.segments.push(segment.clone());
        let trusted = Footer::of(&segment)
            .filter(|footer| sealed && footer.summary.last_sequence <= manifest.durable_sequence);
        self.by_footer = match trusted {
            Some(footer) => self.take_footer(&segment, &footer)?,
            None => false,
        };
        if !self.by_footer {
            self.take_frames(segment.clone(), manifest)?;
        }
        // What was looked at once is not kept in memory for it.
        segment.map.forget(0, segment.map.len());
        Ok(true)
    }

    /// Takes what a footer says: all of the segment was synced, so the footer speaks for the frames. Its entries are not
    /// read if the index has them. Does nothing if they do not verify.
    fn take_footer(&mut self, segment: &Arc<Segment>, footer: &Footer<'_>) -> Result<bool, OpenError> {
        let is_covered = footer.summary.last_sequence <= self.covered;
        let entries = if is_covered { None } else { footer.entries() };
        if entries.is_none() && !is_covered {
            return Ok(false);
        }
        self.check_topics(segment, footer.summary.frames_end, footer.positions().len())?;
        segment.records.store(footer.len() as u32, Ordering::Relaxed);
        segment.note_expiry(footer.summary.max_expiry_ms);
        segment.note_base(footer.summary.base_ms);
        segment.map.advise_random();
        self.replay(segment, entries.into_iter().flatten())?;
        copy_positions(footer.positions(), &mut self.last.positions);
        (self.last.sequence, self.last.sum) = (footer.summary.last_sequence, footer.summary.last_sum);
        self.last.segment = segment.number;
        let positions = self.last.positions.clone();
        let (segment, tail) = (segment.clone(), footer.summary.frames_end);
        self.active = Some(Active { segment, tail, entries: Vec::new(), positions });
        Ok(true)
    }

    /// Takes frame after frame, as long as each is whole and follows the one before.
    fn take_frames(&mut self, segment: Arc<Segment>, manifest: &Manifest) -> Result<(), OpenError> {
        let mut active = Active::new(segment.clone(), manifest.topics.len());
        while let Ok(frame) = scan::next(&segment, active.tail, &self.last) {
            self.check_topics(&segment, frame.at, usize::from(frame.header.topic_count))?;
            segment.note_base(frame::base_ms(frame.positions()));
            self.unsure.note(&segment, &frame);
            for record in frame.records() {
                let record = record.map_err(|at| {
                    OpenError::corrupt(&segment.path, at, "a record that is not whole in a frame that is")
                })?;
                segment.note_expiry(record.header.expiry_ms);
                let hash = entity_hash(&segment.shard, record.entity);
                active.entries.push(Entry::new(hash, &record.header, record.at));
            }
            copy_positions(frame.positions(), &mut self.last.positions);
            (self.last.sequence, self.last.sum) = (frame.header.sequence, frame.header.head_sum);
            self.last.segment = segment.number;
            active.tail = frame.end();
        }
        segment.records.store(active.entries.len() as u32, Ordering::Relaxed);
        if self.last.sequence > self.covered {
            self.replay(&segment, active.entries.iter().copied())?;
        }
        active.positions.clone_from(&self.last.positions);
        self.active = Some(active);
        Ok(())
    }

    /// Applies a segment's records to the index, as the writer did.
    fn replay(&mut self, segment: &Segment, entries: impl Iterator<Item = Entry>) -> Result<(), OpenError> {
        let (index, guard) = (&self.index, &crossbeam_epoch::pin());
        let (mut too_many, replayed) = (false, &mut self.report.replayed);
        let logged = entries.map_while(|entry| {
            *replayed += 1;
            let view = index.view(entry.view, guard).or_else(|| index.add_view(entry.view, guard));
            too_many = view.is_none();
            let slot = segment.slot(entry.at(), entry.event_time_ms, entry.is_late());
            Some(Logged { entity_hash: entry.entity_hash(), view: view?, slot })
        });
        index.replay(logged);
        match too_many {
            true => Err(OpenError::corrupt(&segment.path, 0, "more views than a shard may have")),
            false => Ok(()),
        }
    }

    /// A topic's number is its place in the MANIFEST: one with fewer topics would give records to other topics.
    fn check_topics(&self, segment: &Segment, at: u64, topics: usize) -> Result<(), OpenError> {
        if topics <= self.stored_topics {
            return Ok(());
        }
        let detail = format!(
            "it knows {topics} topics, the MANIFEST {}: the MANIFEST is an old copy",
            self.stored_topics
        );
        Err(OpenError::corrupt(&segment.path, at, detail))
    }

    /// Prepares the footer of a segment that is followed by another, if it has none.
    fn seal(&mut self, sealed: Active) {
        let segment = sealed.segment.clone();
        if Footer::of(&segment).and_then(|footer| footer.entries()).is_none() {
            let summary = sealed.summary(self.last.sequence, self.last.sum);
            let footer = footer::encode(&segment, &summary, &sealed.entries, &sealed.positions);
            self.footers.push((segment, footer));
        }
    }

    /// Judges the end of the log: what is behind it must never have been synced. `rest` are the segments after the one
    /// it ends in.
    fn end(&mut self, manifest: &Manifest, rest: &[Arc<Segment>]) -> Result<(), OpenError> {
        if let Some(active) = self.active.as_mut().filter(|_| self.by_footer) {
            // Frames will be written where its footer is.
            active.entries = scan::entries(&active.segment, active.tail);
        }
        let Some(active) = &self.active else { return Ok(()) };
        let mut hidden = scan::later(&active.segment, active.tail, self.last.sequence);
        for segment in rest {
            let later = scan::later(segment, FRAMES_AT, self.last.sequence);
            let durable = later.as_ref().map_or(0, |later| later.durable);
            hidden = hidden.or(later);
            if let Some(hidden) = &mut hidden {
                hidden.durable = hidden.durable.max(durable);
            }
        }
        let durable = hidden.as_ref().map_or(0, |hidden| hidden.durable).max(manifest.durable_sequence);
        if durable > self.last.sequence {
            let why = scan::next(&active.segment, active.tail, &self.last).err().unwrap_or("no frame");
            let range = self.hidden_range(manifest, durable, hidden.as_ref());
            return Err(OpenError::corrupt(&active.segment.path, active.tail, format!("{why}; {range}")));
        }
        self.unclean =
            active.segment.map.len() < active.segment.capacity() || active.segment.has_written(active.tail);
        Ok(())
    }

    /// Says what the damage hides, in frames and in positions.
    fn hidden_range(&self, manifest: &Manifest, durable: u64, hidden: Option<&scan::Later<'_>>) -> String {
        let mut text = format!("frames {} to {durable} were synced and are hidden", self.last.sequence + 1);
        let Some(hidden) = hidden else {
            text.push_str("; positions after");
            for (topic, position) in manifest.topics.iter().zip(&self.last.positions) {
                text.push_str(&format!(" {} {}", topic.name, position.offset));
            }
            return text;
        };
        text.push_str(&format!("; frame {} is whole again; positions hidden:", hidden.first.header.sequence));
        let positions = manifest.topics.iter().zip(&self.last.positions).zip(hidden.first.positions());
        for ((topic, last), next) in positions.filter(|((_, last), next)| next.offset > last.offset) {
            text.push_str(&format!(" {} {}..={}", topic.name, last.offset + 1, next.offset));
        }
        text
    }

    /// Makes the files fit the log. A crash in between leaves files that are read the same way again.
    pub fn repair(mut self, dir: &Path, manifest: &mut Manifest) -> Result<Repaired, OpenError> {
        for (segment, footer) in &self.footers {
            let at = segment.capacity() - footer.len() as u64;
            segment.write(footer, at).map_err(OpenError::io(&segment.path))?;
        }
        if self.unclean {
            self.clear_tail()?;
        }
        // What was read may be in the page cache only; it is called durable from here on.
        self.unsure.write_again()?;
        for segment in &self.segments {
            segment.sync().map_err(OpenError::io(&segment.path))?;
        }
        manifest.durable_sequence = self.last.sequence;
        let end = self.active.as_ref().map_or(manifest.first_segment - 1, |active| active.segment.number);
        if end < manifest.last_segment {
            manifest.discarded_segment = manifest.last_segment;
            manifest.last_segment = end;
            // Their numbers are used again.
            manifest.removed.retain(|hole| hole.to <= end || planted::keeps_holes());
            manifest.store(dir).map_err(OpenError::io(dir))?;
        }
        let segments = self.remove.into_iter().map(|number| segment::path(dir, number));
        // A checkpoint that is ahead of the log must be gone before the log gets there.
        let checkpoints = self.useless.into_iter().map(|number| index_file::path(dir, number));
        for path in segments.chain(checkpoints) {
            std::fs::remove_file(&path).map_err(OpenError::io(&path))?;
        }
        let segments = Segments::new(self.segments);
        self.index.trim();
        segments.count_live(&self.index);
        let (index, report) = (self.index, self.report);
        Ok(Repaired { index, segments, active: self.active, last: self.last, report })
    }

    /// Zeros after the last frame, so that nothing old is ever taken for a part of what is written there next.
    fn clear_tail(&mut self) -> Result<(), OpenError> {
        let active = self.active.as_mut().expect("only an active segment is unclean");
        let path = active.segment.path.clone();
        active.segment.clear_from(active.tail).map_err(OpenError::io(&path))?;
        let whole = Segment::open(&path, true)?;
        whole.note_expiry(active.segment.max_expiry_ms.load(Ordering::Relaxed));
        whole.records.store(active.segment.records.load(Ordering::Relaxed), Ordering::Relaxed);
        active.segment.base_ms().inspect(|base_ms| whole.note_base(*base_ms));
        active.segment = Arc::new(whole);
        *self.segments.last_mut().expect("it is the last one") = active.segment.clone();
        Ok(())
    }
}

/// Topics that came later have no position in older frames.
fn copy_positions(from: impl Iterator<Item = Position>, to: &mut [Position]) {
    for (from, to) in from.zip(to) {
        *to = from;
    }
}
