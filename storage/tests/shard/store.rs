//! A small shard to test with: three topics, a data point with an owner, and comparison with the model.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay_storage::{
    ExpireReport, HistoryRange, Kind, OpenError, Options, Outcome, Put, ReadError, ShardIdentity,
    ShardReader, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog, Version, ViewPolicy, open,
};

use crate::model::{self, Model};

/// Name and priority of the topics, in the order of their numbers. Two are equal but for their names.
pub const TOPICS: [(&str, u8); 3] = [("b.main", 1), ("a.backfill", 1), ("c.corrections", 7)];
pub const ENTITIES: u8 = 5;
/// The last one keeps the current version only; the others all.
pub const VIEWS: [u16; 3] = [1, 700, 31];

/// A data point that owns what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub view: u16,
    pub entity: Vec<u8>,
    pub kind: Kind,
    pub event_time_ms: i64,
    pub ingest_time_ms: i64,
    pub expiry_ms: i64,
    pub topic: u16,
    pub offset: i64,
    pub payload: Vec<u8>,
}

/// Values at event time = ingest time, by default.
pub fn point(entity: &[u8], event_time_ms: i64, offset: i64) -> Point {
    Point {
        view: 1,
        entity: entity.to_vec(),
        kind: Kind::Value,
        event_time_ms,
        ingest_time_ms: event_time_ms,
        expiry_ms: event_time_ms + 1_000_000,
        topic: 0,
        offset,
        payload: format!("{{\"at\":{event_time_ms},\"offset\":{offset}}}").into_bytes(),
    }
}

impl Point {
    pub fn put(&self) -> Put<'_> {
        Put {
            view: self.view,
            entity: &self.entity,
            kind: self.kind,
            event_time_ms: self.event_time_ms,
            ingest_time_ms: self.ingest_time_ms,
            expiry_ms: self.expiry_ms,
            topic: TopicIndex(self.topic),
            offset: self.offset,
            payload: &self.payload,
        }
    }

    pub fn tombstone(mut self) -> Point {
        (self.kind, self.payload) = (Kind::Tombstone, Vec::new());
        self
    }
}

/// A directory in memory where there is one: these tests are not about how fast a disk syncs.
pub fn temporary() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

pub fn identity() -> ShardIdentity {
    let topic = |(name, priority): (&str, u8)| TopicLog {
        name: name.to_owned(),
        topic_id: [name.len() as u8; 16],
        priority,
    };
    ShardIdentity {
        lane: "standard".to_owned(),
        partition: 3,
        partitions: 8,
        topics: TOPICS.into_iter().map(topic).collect(),
        views: VIEWS.into_iter().map(|id| (id, policy(id))).collect(),
    }
}

fn policy(view: u16) -> ViewPolicy {
    let description = format!("view {view}");
    let latest = view == VIEWS[2];
    if latest {
        ViewPolicy::latest(&description, 1_000_000)
    } else {
        ViewPolicy::full(&description, 1_000_000)
    }
}

/// Segments of 64 KiB, so that tests see many; the index is saved at a close only.
pub fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        allowed_lateness_ms: 1000,
        codec_samples: 0,
        checkpoint_bytes: u64::MAX,
        ..Options::default()
    }
}

/// A group that syncs only when asked.
pub fn no_sync() -> SyncGroup {
    let policy = SyncPolicy { interval_ms: u64::MAX >> 1, bytes: u64::MAX };
    SyncGroup::spawn("test sync", policy).expect("a thread")
}

pub fn try_open(dir: &Path) -> Result<(ShardWriter, ShardReader), OpenError> {
    open(dir, &identity(), &options(), &no_sync())
}

/// Opens a shard that nobody else has. A child that another test just forked has every lock of this process until its
/// exec, so a shard that was dropped a moment ago may still be locked: that is waited out.
pub fn open_patiently(
    dir: &Path,
    identity: &ShardIdentity,
    options: &Options,
    group: &SyncGroup,
) -> Result<(ShardWriter, ShardReader), OpenError> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match open(dir, identity, options, group) {
            Err(OpenError::Locked { .. }) if Instant::now() < until => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

pub fn open_at(dir: &Path) -> (ShardWriter, ShardReader) {
    open_patiently(dir, &identity(), &options(), &no_sync()).unwrap_or_else(|error| panic!("{error}"))
}

/// Puts and commits; all must be new.
pub fn write(writer: &mut ShardWriter, points: &[Point]) -> Vec<Outcome> {
    let outcomes = points.iter().map(|point| writer.put(&point.put()).expect("a put")).collect();
    writer.commit().expect("a commit");
    outcomes
}

/// A copy of a shard as a crash of the machine's power would leave it at best: all that was written.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for name in files(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).expect("a copy");
        }
    }
}

pub fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect();
    names.sort();
    names
}

/// Segment files that were begun; one may be there that is made ahead and has nothing.
/// Paths of all files, from the directory on.
pub fn files_below(dir: &Path) -> Vec<String> {
    let below = |name: String| match dir.join(&name).is_dir() {
        true => files_below(&dir.join(&name)).into_iter().map(|file| format!("{name}/{file}")).collect(),
        false => vec![name],
    };
    files(dir).into_iter().flat_map(below).collect()
}

pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let begun = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.get(48..56).is_some_and(|first_sequence| *first_sequence != [0; 8])
    };
    let names = files(dir).into_iter().filter(|name| name.ends_with(".seg"));
    names.map(|name| dir.join(name)).filter(begun).collect()
}

/// Expires until there is nothing more to do.
pub fn expire(writer: &mut ShardWriter, now_ms: i64) -> ExpireReport {
    let mut all = ExpireReport::default();
    loop {
        let one = writer.expire(now_ms).expect("an expiry");
        all.segments += one.segments;
        all.bytes += one.bytes;
        all.keys += one.keys;
        if !one.more {
            return all;
        }
        std::thread::yield_now();
    }
}

/// Last offset of a topic that reads see.
pub fn applied(reader: &ShardReader, topic: u16) -> Option<i64> {
    reader.applied(TopicIndex(topic)).map(|last| last.0)
}

/// Last offset of a topic that survives a power loss.
pub fn durable(reader: &ShardReader, topic: u16) -> Option<i64> {
    reader.durable(TopicIndex(topic)).map(|last| last.0)
}

/// What was stored, owned.
pub fn owned(entity: &[u8], view: u16, version: &Version<'_>) -> Result<Point, ReadError> {
    Ok(Point {
        view,
        entity: entity.to_vec(),
        kind: version.kind(),
        event_time_ms: version.event_time_ms(),
        ingest_time_ms: version.ingest_time_ms(),
        expiry_ms: version.expiry_ms(),
        topic: version.topic().0,
        offset: version.offset(),
        payload: version.payload()?.into_owned(),
    })
}

pub fn latest(reader: &ShardReader, entity: &[u8], view: u16) -> Result<Option<Point>, ReadError> {
    let pinned = reader.pin();
    let version = pinned.latest(entity, view)?;
    version.map(|version| owned(entity, view, &version)).transpose()
}

pub fn history(
    reader: &ShardReader,
    entity: &[u8],
    view: u16,
    range: &HistoryRange,
) -> Result<Vec<Point>, ReadError> {
    let pinned = reader.pin();
    let versions = pinned.history(entity, view, range);
    versions.map(|version| owned(entity, view, &version?)).collect()
}

fn points(versions: Vec<&model::Version>) -> Vec<Point> {
    versions.into_iter().map(|version| version.point.clone()).collect()
}

/// Compares everything a shard can be asked with the model, except what has expired before `gone_ms` in the model.
pub fn assert_agrees(reader: &ShardReader, model: &Model) {
    for topic in 0..TOPICS.len() as u16 {
        let position = model.positions.get(&topic).copied().filter(|position| *position >= 0);
        assert_eq!(applied(reader, topic), position, "position of {topic}");
    }
    assert_eq!(reader.stats().keys, model.versions.len() as u64);
    for ((entity, view), versions) in &model.versions {
        let all = points(model.history(entity, *view, &HistoryRange::default()));
        assert_eq!(latest(reader, entity, *view).expect("whole").as_ref(), all.first());
        assert_eq!(history(reader, entity, *view, &HistoryRange::default()).expect("whole"), all);
        for version in versions.iter().step_by(1 + versions.len() / 8) {
            assert_times_agree(reader, model, entity, *view, &version.point);
        }
    }
}

fn assert_times_agree(reader: &ShardReader, model: &Model, entity: &[u8], view: u16, at: &Point) {
    let knowns = [None, Some(at.ingest_time_ms), Some(at.ingest_time_ms - 1), Some(at.event_time_ms + 20)];
    for (known_at_ms, as_of_ms) in knowns
        .into_iter()
        .flat_map(|known| [(known, at.event_time_ms), (known, at.event_time_ms - 1), (known, i64::MAX)])
    {
        let expected = model.as_of(entity, view, as_of_ms, known_at_ms).map(|version| version.point.clone());
        let pinned = reader.pin();
        let got = pinned.as_of(entity, view, as_of_ms, known_at_ms).expect("whole");
        let got = got.map(|version| owned(entity, view, &version).expect("whole"));
        assert_eq!(got, expected, "as of {as_of_ms} known at {known_at_ms:?}");
    }
    let key = forebay_storage::VersionKey {
        event_time_ms: at.event_time_ms,
        tombstone: at.kind == Kind::Tombstone,
        topic: TopicIndex(at.topic),
        offset: at.offset,
    };
    let ranges = [
        HistoryRange { after: Some(key), ..HistoryRange::default() },
        HistoryRange {
            from_ms: Some(at.event_time_ms),
            known_at_ms: Some(at.ingest_time_ms),
            ..HistoryRange::default()
        },
        HistoryRange {
            from_ms: Some(at.event_time_ms - 30),
            to_ms: Some(at.event_time_ms + 1),
            after: None,
            known_at_ms: None,
        },
    ];
    for range in ranges {
        let expected = points(model.history(entity, view, &range));
        assert_eq!(history(reader, entity, view, &range).expect("whole"), expected, "{range:?}");
    }
}
