//! Readers of a shard.
use crate::*;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::marker::PhantomData;

/// Reads a shard.
#[derive(Debug, Clone)]
pub struct ShardReader;

impl ShardReader {
    /// Holds what is read in place.
    pub fn pin(&self) -> Pinned<'_> {
        unimplemented!()
    }
    /// Last offset reads see.
    pub fn applied(&self, _topic: TopicIndex) -> Option<i64> {
        unimplemented!()
    }
    /// Last offset that survives a power loss.
    pub fn durable(&self, _topic: TopicIndex) -> Option<i64> {
        unimplemented!()
    }
    /// Topics by number.
    pub fn topics(&self) -> &[TopicLog] {
        unimplemented!()
    }
    /// A topic's number.
    pub fn topic(&self, _name: &str) -> Option<TopicIndex> {
        unimplemented!()
    }
    /// Sizes.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// Why the shard stopped, if it did.
    pub fn poisoned(&self) -> Option<String> {
        unimplemented!()
    }
    /// Order-independent hash over current versions.
    pub fn digest(&self) -> u128 {
        unimplemented!()
    }
    /// Orders two versions of a key.
    pub fn compare(&self, _a: &VersionKey, _b: &VersionKey) -> Ordering {
        unimplemented!()
    }
}

/// A reader that holds what it read in place.
#[derive(Debug)]
pub struct Pinned<'r>(PhantomData<&'r ()>);

impl Pinned<'_> {
    /// The current version.
    pub fn latest(&self, _entity: &[u8], _view: u16) -> Result<Option<Version<'_>>, ReadError> {
        unimplemented!()
    }
    /// The current versions of several views of one entity.
    pub fn latest_many<'g>(
        &'g self,
        _entity: &[u8],
        _views: &[u16],
        _each: &mut impl FnMut(usize, Result<Option<Version<'g>>, ReadError>),
    ) {
        unimplemented!()
    }
    /// The version that was current at an event time.
    pub fn as_of(
        &self,
        _entity: &[u8],
        _view: u16,
        _as_of_ms: i64,
        _known_at_ms: Option<i64>,
    ) -> Result<Option<Version<'_>>, ReadError> {
        unimplemented!()
    }
    /// Versions, newest first.
    pub fn history(&self, _entity: &[u8], _view: u16, _range: &HistoryRange) -> History<'_> {
        unimplemented!()
    }
}

/// Versions of a key, newest first.
#[derive(Debug)]
pub struct History<'g>(PhantomData<&'g ()>);

impl<'g> Iterator for History<'g> {
    type Item = Result<Version<'g>, ReadError>;
    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}

/// One stored version.
#[derive(Debug, Clone, Copy)]
pub struct Version<'g>(PhantomData<&'g ()>);

impl<'g> Version<'g> {
    /// Value or tombstone.
    pub fn kind(&self) -> Kind {
        unimplemented!()
    }
    /// ms since the epoch.
    pub fn event_time_ms(&self) -> i64 {
        unimplemented!()
    }
    /// ms since the epoch.
    pub fn ingest_time_ms(&self) -> i64 {
        unimplemented!()
    }
    /// ms since the epoch.
    pub fn expiry_ms(&self) -> i64 {
        unimplemented!()
    }
    /// Topic it came from.
    pub fn topic(&self) -> TopicIndex {
        unimplemented!()
    }
    /// Its offset there.
    pub fn offset(&self) -> i64 {
        unimplemented!()
    }
    /// Its name.
    pub fn key(&self) -> VersionKey {
        unimplemented!()
    }
    /// The bytes put.
    pub fn payload(&self) -> Result<Cow<'g, [u8]>, ReadError> {
        unimplemented!()
    }
}
