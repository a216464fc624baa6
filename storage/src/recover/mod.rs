//! Reads the log of a shard: finds where it ends, rebuilds the index, and tells an end that a crash leaves from
//! damage. `read` looks and decides without changing a file; `repair` then makes the files fit the decision.
//!
//! A commit that was not synced may be missing after a power loss, wholly or in part, and a later one may be there all
//! the same: that ends the log, and the topics are read again from there. What was synced must be there. Which frames
//! were synced is known from the MANIFEST and from every frame, which names the last one synced before it.

mod scan;
mod unsure;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::error::OpenError;
use crate::index::{Index, Logged};
use crate::log::footer::{self, Entry, Footer};
use crate::log::frame::{self, Position};
use crate::log::segment::{self, FRAMES_AT, Segment, Segments};
use crate::manifest::Manifest;
use crate::planted;
use crate::shard::{Last, entity_hash};
use crate::write::Active;
use unsure::Unsure;

/// What the log says.
#[derive(Debug)]
pub(crate) struct Recovered {
    index: Index,
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
}

/// Reads the log; changes nothing. `stored_topics` is how many topics the MANIFEST had before this opening.
pub(crate) fn read(dir: &Path, manifest: &Manifest, stored_topics: usize) -> Result<Recovered, OpenError> {
    let last =
        Last { sequence: 0, sum: 0, segment: 0, positions: vec![Position::NONE; manifest.topics.len()] };
    let mut recovered = Recovered {
        index: Index::new(),
        segments: Vec::new(),
        last,
        active: None,
        by_footer: false,
        footers: Vec::new(),
        remove: unnamed(dir, manifest)?,
        unclean: false,
        unsure: Unsure::new(manifest.durable_sequence),
        stored_topics,
    };
    let named = manifest.segments();
    let segments = named.map(|number| open(dir, manifest, number)).collect::<Result<Vec<_>, _>>()?;
    check_lengths(&segments)?;
    let mut taken = 0;
    while taken < segments.len() && recovered.take(segments[taken].clone(), manifest)? {
        taken += 1;
    }
    let rest = &segments[taken..];
    recovered.end(manifest, rest)?;
    // Zeros in the place of what cannot be read must not pass for the end of the log.
    if let Some(segment) = segments.iter().find(|segment| segment.map.is_damaged()) {
        return Err(OpenError::corrupt(&segment.path, 0, segment::UNREADABLE));
    }
    recovered.remove.extend(rest.iter().map(|segment| segment.number));
    Ok(recovered)
}

/// Opens a segment the MANIFEST names, and checks that it is that one.
fn open(dir: &Path, manifest: &Manifest, number: u32) -> Result<Arc<Segment>, OpenError> {
    let path = segment::path(dir, number);
    if !path.exists() {
        let (first, last) = (manifest.first_segment, manifest.last_segment);
        let detail = format!("the file is missing; the MANIFEST names segments {first} to {last}");
        return Err(OpenError::corrupt(&path, 0, detail));
    }
    let segment = Segment::open(&path, true)?;
    if segment.shard != manifest.shard.into_bytes() {
        let id = uuid::Uuid::from_bytes(segment.shard);
        let detail = format!("it belongs to shard {}, not to {}", id.simple(), manifest.shard.simple());
        return Err(OpenError::corrupt(&path, 0, detail));
    }
    if segment.number != number {
        let detail = format!("it is segment {} under another name: files were swapped", segment.number);
        return Err(OpenError::corrupt(&path, 0, detail));
    }
    if segment.map.len() > segment.capacity() {
        let detail = format!("the file goes on after its {} bytes: it was extended", segment.capacity());
        return Err(OpenError::corrupt(&path, segment.capacity(), detail));
    }
    Ok(Arc::new(segment))
}

/// Only the last segment that was begun, and one made ahead after it, may be short: they were not synced as a whole.
fn check_lengths(segments: &[Arc<Segment>]) -> Result<(), OpenError> {
    let begun = segments.iter().rposition(|segment| !segment.header.is_unused()).unwrap_or(0);
    let short = segments[..begun].iter().find(|segment| segment.map.len() < segment.capacity());
    let Some(segment) = short else { return Ok(()) };
    let (bytes, capacity) = (segment.map.len(), segment.capacity());
    let detail = format!("the file ends here instead of at byte {capacity}: it was truncated");
    Err(OpenError::corrupt(&segment.path, bytes, detail))
}

/// Segment files the MANIFEST does not name. Older ones have left. Newer ones were begun when a crash came, and
/// have no frame; one that has says that the MANIFEST is not the newest.
fn unnamed(dir: &Path, manifest: &Manifest) -> Result<Vec<u32>, OpenError> {
    let mut numbers = segment::numbers(dir).map_err(OpenError::io(dir))?;
    let named: HashSet<u32> = manifest.segments().collect();
    numbers.retain(|number| !named.contains(number));
    let newest = manifest.last_segment.max(manifest.discarded_segment);
    for number in numbers.iter().filter(|number| **number > newest) {
        let path = segment::path(dir, *number);
        if scan::has_frame(&path) {
            let detail = format!("the MANIFEST ends at segment {}: it is an old copy", manifest.last_segment);
            return Err(OpenError::corrupt(&path, FRAMES_AT, detail));
        }
    }
    Ok(numbers)
}

impl Recovered {
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

    /// Takes what a footer says: all of the segment was synced, so the footer speaks for the frames. Does nothing if its
    /// entries do not verify.
    fn take_footer(&mut self, segment: &Arc<Segment>, footer: &Footer<'_>) -> Result<bool, OpenError> {
        let Some(entries) = footer.entries() else { return Ok(false) };
        self.check_topics(segment, footer.summary.frames_end, footer.positions().len())?;
        segment.note_expiry(footer.summary.max_expiry_ms);
        segment.note_base(footer.summary.base_ms);
        segment.map.advise_random();
        self.replay(segment, entries)?;
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
        self.replay(&segment, active.entries.iter().copied())?;
        active.positions.clone_from(&self.last.positions);
        self.active = Some(active);
        Ok(())
    }

    /// Applies a segment's records to the index, as the writer did.
    fn replay(&self, segment: &Segment, entries: impl Iterator<Item = Entry>) -> Result<(), OpenError> {
        let (index, guard) = (&self.index, &crossbeam_epoch::pin());
        let mut too_many = false;
        let logged = entries.map_while(|entry| {
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
            let footer = Footer::of(&active.segment);
            active.entries = footer.and_then(|footer| footer.entries()).into_iter().flatten().collect();
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
        for number in self.remove {
            let path = segment::path(dir, number);
            std::fs::remove_file(&path).map_err(OpenError::io(&path))?;
        }
        let segments = Segments::new(self.segments);
        segments.count_live(&self.index);
        Ok(Repaired { index: self.index, segments, active: self.active, last: self.last })
    }

    /// Zeros after the last frame, so that nothing old is ever taken for a part of what is written there next.
    fn clear_tail(&mut self) -> Result<(), OpenError> {
        let active = self.active.as_mut().expect("only an active segment is unclean");
        let path = active.segment.path.clone();
        active.segment.clear_from(active.tail).map_err(OpenError::io(&path))?;
        let whole = Segment::open(&path, true)?;
        whole.note_expiry(active.segment.max_expiry_ms.load(std::sync::atomic::Ordering::Relaxed));
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
