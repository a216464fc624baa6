//! Entries of the indexes, read from a shard: which diagnoses an entity has, or a model made. Called by `list`, `create`,
//! `predict` and `erase`.

use std::collections::HashSet;

use bytes::Bytes;
use forebay_storage::{HistoryRange, Kind, Pinned, Version, VersionKey};
use tonic::Status;

use super::super::Context;
use super::super::cold::{self, Unread};
use super::super::deadline::Deadline;
use super::super::read::reader_of;
use super::home::{Home, parsed};
use crate::diagnosis::entry::OfEntity;

/// Most versions looked at for one page, listed or not: bounds what one call costs.
const MAX_VISITED: usize = 100_000;

/// An entry of a page.
#[derive(Debug)]
pub(super) struct Listed {
    pub entry: OfEntity,
    /// Its event time.
    pub moment_ms: i64,
    /// Its version, for the token of the page after it.
    pub key: VersionKey,
}

/// Some entries, newest first.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub listed: Vec<Listed>,
    /// The last version looked at, if there may be more.
    pub last: Option<VersionKey>,
}

impl Home {
    /// Whether a diagnosis is in an index at this moment, as far as is known here.
    pub async fn is_indexed(
        &self,
        view: &str,
        key: &[u8],
        moment_ms: i64,
        id: &str,
        deadline: Deadline,
    ) -> Result<bool, Status> {
        // Without its shard it is not known here, and a second entry does no harm.
        let Ok(shard) = self.shard(key, &self.terms(None)?, deadline).await else { return Ok(false) };
        let (view, key, id) = (self.view(view).id, Bytes::copy_from_slice(key), id.to_owned());
        let find = move |context: &Context, reach: cold::Reach| {
            let pin = reach.pin(reader_of(&shard).of(view));
            let range = moment(moment_ms);
            let found = entries(&pin, &key, view, &range, context.clock.now_ms());
            for entry in found {
                if entry?.1.diagnosis_id == id {
                    return Ok(true);
                }
            }
            pin.check()?;
            Ok(false)
        };
        cold::read(&self.context, deadline, find).await
    }
}

/// A page of a key's entries: each diagnosis once, none that was erased.
pub(super) fn page(
    pin: &Pinned<'_>,
    key: &[u8],
    view: u16,
    range: &HistoryRange,
    limit: usize,
    now_ms: i64,
) -> Result<Page, Unread> {
    let mut seen = Seen::before(pin, key, view, range, now_ms)?;
    let mut page = Page::default();
    for (visited, found) in entries(pin, key, view, range, now_ms).enumerate() {
        let (version, entry) = found?;
        if page.listed.len() == limit || visited == MAX_VISITED {
            return Ok(page);
        }
        page.last = Some(version.key());
        let moment_ms = version.event_time_ms();
        if seen.is_new(moment_ms, &entry.diagnosis_id) && !entry.erased {
            page.listed.push(Listed { entry, moment_ms, key: version.key() });
        }
    }
    Ok(Page { last: None, ..page })
}

/// The diagnoses of one moment that came already. An entry may be there twice, after a retry; one that says the diagnosis
/// was erased is newer than those it takes away.
#[derive(Default)]
struct Seen {
    moment_ms: i64,
    ids: HashSet<String>,
}

impl Seen {
    /// What the page before showed of the moment it ended in.
    fn before(
        pin: &Pinned<'_>,
        key: &[u8],
        view: u16,
        range: &HistoryRange,
        now_ms: i64,
    ) -> Result<Seen, Unread> {
        let mut seen = Seen::default();
        let Some(after) = range.after else { return Ok(seen) };
        for found in entries(pin, key, view, &moment(after.event_time_ms), now_ms) {
            let (version, entry) = found?;
            seen.is_new(after.event_time_ms, &entry.diagnosis_id);
            if version.key() == after {
                break;
            }
        }
        Ok(seen)
    }

    fn is_new(&mut self, moment_ms: i64, id: &str) -> bool {
        if self.moment_ms != moment_ms {
            self.ids.clear();
            self.moment_ms = moment_ms;
        }
        self.ids.insert(id.to_owned())
    }
}

fn moment(moment_ms: i64) -> HistoryRange {
    HistoryRange { from_ms: Some(moment_ms), to_ms: Some(moment_ms + 1), ..HistoryRange::default() }
}

/// The entries in a range that have not expired, newest first.
fn entries<'p>(
    pin: &'p Pinned<'_>,
    key: &'p [u8],
    view: u16,
    range: &HistoryRange,
    now_ms: i64,
) -> impl Iterator<Item = Result<(Version<'p>, OfEntity), Unread>> {
    let shown = move |version: &Version<'_>| version.kind() == Kind::Value && version.expiry_ms() > now_ms;
    let entry = |version: Version<'p>| -> Result<_, Unread> {
        let entry = OfEntity::parse(&version.payload()?);
        Ok((version, parsed("", entry)?))
    };
    let versions = pin.history(key, view, range);
    versions
        .filter(move |found| found.as_ref().is_ok_and(shown) || found.is_err())
        .map(move |found| entry(found?))
}
