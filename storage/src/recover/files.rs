//! Which segment files of a directory are the log's, and whether they are the ones the MANIFEST names.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::error::OpenError;
use crate::log::segment::{self, FRAMES_AT, Segment};
use crate::manifest::Manifest;

/// Opens a segment the MANIFEST names, and checks that it is that one.
pub(super) fn open(dir: &Path, manifest: &Manifest, number: u32) -> Result<Arc<Segment>, OpenError> {
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
pub(super) fn check_lengths(segments: &[Arc<Segment>]) -> Result<(), OpenError> {
    let begun = segments.iter().rposition(|segment| !segment.header.is_unused()).unwrap_or(0);
    let short = segments[..begun].iter().find(|segment| segment.map.len() < segment.capacity());
    let Some(segment) = short else { return Ok(()) };
    let (bytes, capacity) = (segment.map.len(), segment.capacity());
    let detail = format!("the file ends here instead of at byte {capacity}: it was truncated");
    Err(OpenError::corrupt(&segment.path, bytes, detail))
}

/// Segment files the MANIFEST does not name. Older ones have left. Newer ones were begun when a crash came, and
/// have no frame; one that has says that the MANIFEST is not the newest.
pub(super) fn unnamed(dir: &Path, manifest: &Manifest) -> Result<Vec<u32>, OpenError> {
    let mut numbers = segment::numbers(dir).map_err(OpenError::io(dir))?;
    let named: HashSet<u32> = manifest.segments().collect();
    numbers.retain(|number| !named.contains(number));
    let newest = manifest.last_segment.max(manifest.discarded_segment);
    for number in numbers.iter().filter(|number| **number > newest) {
        let path = segment::path(dir, *number);
        if super::scan::has_frame(&path) {
            let detail = format!("the MANIFEST ends at segment {}: it is an old copy", manifest.last_segment);
            return Err(OpenError::corrupt(&path, FRAMES_AT, detail));
        }
    }
    Ok(numbers)
}
