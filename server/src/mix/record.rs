//! One record of the mix, as it will be produced. Made by `generate`, spoiled by `spoil`, produced by `produce`, the demo
//! and the benchmarks.

use std::ops::Range;

/// Why a record is in the mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The newest of its key.
    OnTime,
    /// Older than what was sent for its key, by seconds to hours.
    Late,
    /// A recent record again, byte for byte.
    Duplicate,
    /// Ahead of its time by more than ten minutes.
    Future,
    /// Deletes a key that was sent.
    Tombstone,
    /// Not a data point.
    Bad(Defect),
}

/// What is wrong with a bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Defect {
    /// No key.
    NullKey,
    /// A key of no bytes.
    EmptyKey,
    /// A key of 300 bytes.
    LongKey,
    /// A value of no bytes.
    EmptyValue,
    /// JSON that stops in the middle.
    Truncated,
    /// An array around the object.
    NotObject,
    /// A byte that UTF-8 never has.
    BadUtf8,
    /// The event time is null, or its header is missing.
    NoEventTime,
    /// The event time is a word.
    BadEventTime,
    /// Says it is of a view that is not defined.
    UnknownView,
    /// Wants to live for "soon".
    BadTtl,
}

impl Kind {
    /// As in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OnTime => "on_time",
            Kind::Late => "late",
            Kind::Duplicate => "duplicate",
            Kind::Future => "future",
            Kind::Tombstone => "tombstone",
            Kind::Bad(_) => "bad",
        }
    }
}

/// Record headers in buffers that are used again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MixHeaders {
    places: Vec<(&'static str, Range<usize>)>,
    bytes: Vec<u8>,
}

impl MixHeaders {
    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.places.iter().map(|(name, place)| (*name, &self.bytes[place.clone()]))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.bytes.clear();
    }

    pub(super) fn push(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        write(&mut self.bytes);
        self.places.push((name, from..self.bytes.len()));
    }

    /// Takes every header of this name away.
    pub(super) fn remove(&mut self, name: &str) {
        self.places.retain(|(other, _)| *other != name);
    }
}

/// One record; borrowed from the mix that made it, or cloned to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MixRecord {
    /// Why it is in the mix.
    pub kind: Kind,
    /// Lane as defined.
    pub lane: &'static str,
    /// Topic without the prefix.
    pub topic: &'static str,
    /// View as defined.
    pub view: &'static str,
    /// Entity id.
    pub key: Option<Vec<u8>>,
    /// Payload; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Record headers.
    pub headers: MixHeaders,
    /// What the record says of when it happened, in ms; of no meaning in a bad record.
    pub event_time_ms: i64,
}
