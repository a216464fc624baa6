//! What a record is: a data point to store, one that came too late, or a dead letter and why. Pure: the same record, the
//! same definitions and the same partition clock always give the same answer, which is what makes replicas agree.
//! Called by the ingest threads; knows no consumer and no shard.

use std::fmt;
use std::sync::Arc;

use forebay_storage::{Kind, WriteError};

use crate::definitions::{EventTimeSource, LaneDefinition, View};
use crate::json::typed::{self, check_event_time};
use crate::json::{JsonError, Slots};

/// Names the view of a record; needed only where a topic feeds several.
pub const VIEW_HEADER: &[u8] = b"forebay-view";
/// Event time of a tombstone, decimal ms.
pub const EVENT_TIME_HEADER: &[u8] = b"forebay-event-time";
/// A record's own time to live, decimal ms.
pub const TTL_HEADER: &[u8] = b"forebay-ttl-ms";
/// Longest entity id.
pub const MAX_ENTITY_BYTES: usize = 255;

/// One record, as far as its meaning depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'r> {
    /// Entity id.
    pub key: Option<&'r [u8]>,
    /// Value, or none: a tombstone.
    pub payload: Option<&'r [u8]>,
    /// Name and value, in order.
    pub headers: &'r [(&'r [u8], Option<&'r [u8]>)],
    /// Kafka's timestamp, ms since the epoch.
    pub timestamp_ms: i64,
    /// Where it is.
    pub partition: u32,
}

/// What a record is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'d> {
    /// The lane.
    pub lane: &'d LaneDefinition,
    /// The views its topic feeds.
    pub views: &'d [Arc<View>],
    /// Partitions of each topic of the lane.
    pub partitions: u32,
    /// The partition's clock, this record included: ms since the epoch.
    pub ingest_time_ms: i64,
}

/// What a record is.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'r> {
    /// To be stored.
    Put(DataPoint<'r>),
    /// Past its TTL on arrival: counted, and no more.
    Expired,
    /// To be put aside.
    Dead(Reason, String),
}

/// A record that is to be stored.
#[derive(Debug, PartialEq, Eq)]
pub struct DataPoint<'r> {
    /// View id.
    pub view: u16,
    /// Entity id.
    pub entity: &'r [u8],
    /// Value or tombstone.
    pub kind: Kind,
    /// ms since the epoch.
    pub event_time_ms: i64,
    /// First ms at which it no longer shows.
    pub expiry_ms: i64,
    /// The bytes to keep.
    pub payload: &'r [u8],
    /// Only the first value of its key counts.
    pub write_once: bool,
}

/// Why a record is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No key.
    NullKey,
    /// A key without bytes.
    EmptyKey,
    /// A key over 255 bytes.
    KeyTooLong,
    /// No view named where it must be, or one its topic does not feed.
    UnknownView,
    /// A payload over the lane's limit.
    TooLarge,
    /// Not JSON by RFC 8259.
    NotJson,
    /// Nested over 128 levels.
    TooDeep,
    /// JSON, but a scalar or an array.
    NotObject,
    /// Its event time is absent or null.
    NoEventTime,
    /// Its event time is no integer, or not of this century.
    BadEventTime,
    /// Its event time is too far ahead of the partition's clock.
    Future,
    /// A header of ours that does not hold what it should.
    BadHeader,
    /// On a partition the lane's partitioner would not choose.
    WrongPartition,
    /// The index of its shard cannot tell its entity from another.
    EntityCollision,
}

impl Reason {
    /// Why a data point that storage refuses is a dead letter, if the refusal is about it alone and comes again each time.
    pub fn of(refused: &WriteError) -> Option<Reason> {
        matches!(refused, WriteError::Collision { .. }).then_some(Reason::EntityCollision)
    }

    /// As the dead-letter header has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NullKey => "null_key",
            Reason::EmptyKey => "empty_key",
            Reason::KeyTooLong => "key_too_long",
            Reason::UnknownView => "unknown_view",
            Reason::TooLarge => "too_large",
            Reason::NotJson => "not_json",
            Reason::TooDeep => "too_deep",
            Reason::NotObject => "not_object",
            Reason::NoEventTime => "no_event_time",
            Reason::BadEventTime => "bad_event_time",
            Reason::Future => "future",
            Reason::BadHeader => "bad_header",
            Reason::WrongPartition => "wrong_partition",
            Reason::EntityCollision => "entity_collision",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is known of a payload that was not scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'r> {
    /// Nothing.
    Nothing,
    /// It is a valid JSON object, not too deep, with this raw text in slot 0 of its view's plan.
    Object {
        /// Nothing if the payload has none.
        first: Option<&'r [u8]>,
    },
}

type Dead = (Reason, String);

/// Decides what `record` is. `know` is asked about its payload once, and only if the payload matters; what it does not
/// know is scanned. `slots` is only for its memory.
pub fn decode<'r>(
    record: &Record<'r>,
    rules: &Rules<'_>,
    slots: &mut Slots,
    know: impl FnOnce(&Arc<View>, &'r [u8]) -> Known<'r>,
) -> Decision<'r> {
    match data_point(record, rules, slots, know) {
        Ok(point) if point.expiry_ms <= rules.ingest_time_ms => Decision::Expired,
        Ok(point) => Decision::Put(point),
        Err((reason, detail)) => Decision::Dead(reason, detail),
    }
}

/// Whether the lane's partitioner would have put the record where it is.
pub fn is_at_home(record: &Record<'_>, rules: &Rules<'_>) -> bool {
    let home = |key| rules.lane.partitioner.partition(key, rules.partitions);
    record.key.is_none_or(|key| key.is_empty() || home(key) == record.partition)
}

fn data_point<'r>(
    record: &Record<'r>,
    rules: &Rules<'_>,
    slots: &mut Slots,
    know: impl FnOnce(&Arc<View>, &'r [u8]) -> Known<'r>,
) -> Result<DataPoint<'r>, Dead> {
    let entity = entity(record)?;
    check_size(record, rules)?;
    let view = view(record, rules)?;
    let event_time_ms = match record.payload {
        None => tombstone_time(record)?,
        Some(payload) => {
            let first = match know(view, payload) {
                Known::Object { first } => first,
                Known::Nothing => {
                    view.plan.scan(payload, slots).map_err(not_json)?;
                    slots.get(0, payload)
                }
            };
            value_time(record, first, view)?
        }
    };
    check_event_time(event_time_ms).map_err(|detail| (Reason::BadEventTime, detail))?;
    let own_ttl = own_ttl(record)?;
    check_future(event_time_ms, rules)?;
    check_partition(record, rules)?;
    let (kind, ttl_ms) = match record.payload {
        None => (Kind::Tombstone, view.max_ttl_ms),
        Some(_) => (Kind::Value, own_ttl.map_or(view.ttl_ms, |own| own.min(view.max_ttl_ms))),
    };
    let expiry_ms = event_time_ms.saturating_add(ttl_ms);
    let payload = record.payload.unwrap_or_default();
    Ok(DataPoint {
        view: view.id,
        entity,
        kind,
        event_time_ms,
        expiry_ms,
        payload,
        write_once: view.write_once,
    })
}

fn entity<'r>(record: &Record<'r>) -> Result<&'r [u8], Dead> {
    match record.key {
        None => Err((Reason::NullKey, "the record has no key: the key is the entity id".into())),
        Some([]) => Err((Reason::EmptyKey, "the key is empty: the key is the entity id".into())),
        Some(key) if key.len() > MAX_ENTITY_BYTES => Err((
            Reason::KeyTooLong,
            format!("the key has {} bytes, at most {MAX_ENTITY_BYTES} may be", key.len()),
        )),
        Some(key) => Ok(key),
    }
}

fn check_size(record: &Record<'_>, rules: &Rules<'_>) -> Result<(), Dead> {
    let (size, limit) = (record.payload.map_or(0, <[u8]>::len), rules.lane.max_value_bytes);
    if size <= limit {
        return Ok(());
    }
    Err((Reason::TooLarge, format!("the payload has {size} bytes, the lane allows {limit}")))
}

fn view<'d>(record: &Record<'_>, rules: &Rules<'d>) -> Result<&'d Arc<View>, Dead> {
    let unknown = |detail| Err((Reason::UnknownView, detail));
    match (header(record, VIEW_HEADER), rules.views) {
        (Some(name), views) => match views.iter().find(|view| view.name.as_bytes() == name) {
            Some(view) => Ok(view),
            None => unknown(format!("header forebay-view names {}, no view of this topic", shown(name))),
        },
        (None, [view]) => Ok(view),
        (None, views) => {
            unknown(format!("the topic feeds {} views: header forebay-view must name one", views.len()))
        }
    }
}

/// Of headers of one name the last counts.
fn header<'r>(record: &Record<'r>, name: &[u8]) -> Option<&'r [u8]> {
    record.headers.iter().rev().find(|header| header.0 == name).and_then(|header| header.1)
}

fn number(record: &Record<'_>, name: &[u8]) -> Result<Option<i64>, Dead> {
    let Some(text) = header(record, name) else { return Ok(None) };
    match std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            Err((Reason::BadHeader, format!("header {} is {}, not a whole number", shown(name), shown(text))))
        }
    }
}

fn own_ttl(record: &Record<'_>) -> Result<Option<i64>, Dead> {
    match number(record, TTL_HEADER)? {
        Some(ttl) if ttl <= 0 => {
            Err((Reason::BadHeader, format!("header forebay-ttl-ms is {ttl}, it must be positive")))
        }
        ttl => Ok(ttl),
    }
}

fn tombstone_time(record: &Record<'_>) -> Result<i64, Dead> {
    Ok(number(record, EVENT_TIME_HEADER)?.unwrap_or(record.timestamp_ms))
}

/// `first` is what slot 0 of the view's plan has.
fn value_time(record: &Record<'_>, first: Option<&[u8]>, view: &View) -> Result<i64, Dead> {
    match &view.event_time {
        EventTimeSource::Kafka => Ok(record.timestamp_ms),
        EventTimeSource::Header(name) => number(record, name.as_bytes())?
            .ok_or_else(|| (Reason::NoEventTime, format!("header {name} is missing"))),
        EventTimeSource::Path { path, unit } => {
            let raw = first.filter(|raw| !typed::is_null(raw));
            let missing = || (Reason::NoEventTime, format!("{} is absent or null", path.join(".")));
            typed::event_time(raw.ok_or_else(missing)?, *unit, view.avro_json)
                .map_err(|detail| (Reason::BadEventTime, detail))
        }
    }
}

fn not_json(error: JsonError) -> Dead {
    let reason = match error {
        JsonError::NotJson { .. } => Reason::NotJson,
        JsonError::NotObject => Reason::NotObject,
        JsonError::TooDeep => Reason::TooDeep,
    };
    (reason, error.to_string())
}

fn check_future(event_time_ms: i64, rules: &Rules<'_>) -> Result<(), Dead> {
    let ahead = event_time_ms.saturating_sub(rules.ingest_time_ms);
    if ahead <= rules.lane.future_bound_ms {
        return Ok(());
    }
    let bound = rules.lane.future_bound_ms;
    Err((
        Reason::Future,
        format!("the event time is {ahead} ms ahead of its partition, {bound} ms are allowed"),
    ))
}

fn check_partition(record: &Record<'_>, rules: &Rules<'_>) -> Result<(), Dead> {
    if !rules.lane.strict_partition || is_at_home(record, rules) {
        return Ok(());
    }
    let home = rules.lane.partitioner.partition(record.key.unwrap_or_default(), rules.partitions);
    Err((
        Reason::WrongPartition,
        format!("the lane's partitioner chooses partition {home}, the record is on {}", record.partition),
    ))
}

/// Bytes for people, shortened.
fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(64)]))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "fit_tests.rs"]
mod fit_tests;
