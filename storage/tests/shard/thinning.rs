//! Thinning: what is current stays, whatever is copied, removed, expired or cut off by a crash; and how much is written
//! for it.

use std::path::Path;

use forebay_storage::{
    HistoryRange, Options, ShardIdentity, ShardReader, ShardWriter, ThinReport, ViewPolicy,
};
use proptest::prelude::*;

use crate::model::Model;
use crate::random::{spoil, used};
use crate::store::{
    Point, VIEWS, applied, copy, expire, history, identity, latest, no_sync, open_patiently, options, point,
    segments, temporary, write,
};

pub fn latest_identity() -> ShardIdentity {
    let view = |id: u16| (id, ViewPolicy::latest(&format!("view {id}"), 1_000_000));
    ShardIdentity { views: VIEWS.into_iter().map(view).collect(), ..identity() }
}

pub fn open_latest(dir: &Path, options: &Options) -> (ShardWriter, ShardReader) {
    open_patiently(dir, &latest_identity(), options, &no_sync()).unwrap_or_else(|error| panic!("{error}"))
}

/// Thins until there is nothing more to do.
pub fn thin(writer: &mut ShardWriter, now_ms: i64) -> ThinReport {
    let mut all = ThinReport::default();
    loop {
        let one = writer.thin(now_ms, u64::MAX).expect("a thinning");
        all.copied_bytes += one.copied_bytes;
        all.segments += one.segments;
        all.keys += one.keys;
        if !one.more {
            return all;
        }
        writer.sync_now().expect("a sync");
        std::thread::yield_now();
    }
}

/// A value of 400 bytes for a key at a time, which is its offset.
pub fn value(key: u64, at: i64) -> Point {
    let payload = format!("{key} at {at} ").into_bytes().into_iter().cycle().take(400).collect();
    Point { payload, ..point(format!("key {key}").as_bytes(), at, at) }
}

#[test]
fn thinning_gives_space_back_and_answers_stay_what_they_were() {
    let dir = temporary();
    let (mut writer, reader) = open_latest(dir.path(), &options());
    let mut model = Model::default();
    for at in 0..4000 {
        // A tenth of the keys is written once and never again.
        let key = if at % 10 == 0 { 1000 + at as u64 } else { at as u64 * 7 % 100 };
        let point = if at % 97 == 0 { value(key, at).tombstone() } else { value(key, at) };
        model.put(point.clone());
        write(&mut writer, &[point]);
    }
    writer.sync_now().expect("a sync");
    let (before, digest) = (reader.stats(), reader.digest());
    let held = reader.pin();
    let version = held.latest(b"key 1010", 1).expect("whole").expect("a version");
    let report = thin(&mut writer, 4000);
    assert!(report.segments > 10 && report.copied_bytes > 0 && report.keys == 0, "{report:?}");
    assert_eq!(version.payload().expect("held in place").len(), 400);
    drop(held);
    let after = reader.stats();
    assert_eq!((after.keys, after.segments), (before.keys, after.segments.min(before.segments / 2)));
    assert_current(&reader, &model, i64::MIN);
    assert_eq!(reader.digest(), digest);
    assert_eq!(thin(&mut writer, 4000), ThinReport::default(), "nothing is left to do");
    drop(writer);
    assert_eq!(segments(dir.path()).len() as u64, after.segments);
    let (mut writer, reader) = open_latest(dir.path(), &options());
    assert_eq!((reader.digest(), reader.stats().keys), (digest, before.keys));
    assert_current(&reader, &model, i64::MIN);
    // A copy is what comes before the next version.
    write(&mut writer, &[value(1010, 5000)]);
    assert_eq!(history(&reader, b"key 1010", 1, &HistoryRange::default()).expect("whole").len(), 2);
}

#[test]
fn a_view_that_keeps_all_its_versions_is_never_thinned() {
    let dir = temporary();
    let (mut writer, reader) = crate::store::open_at(dir.path());
    for at in 0..1000 {
        write(&mut writer, &[value(1, at)]);
    }
    writer.sync_now().expect("a sync");
    assert_eq!(thin(&mut writer, 1000), ThinReport::default());
    assert_eq!(history(&reader, b"key 1", 1, &HistoryRange::default()).expect("whole").len(), 1000);
}

/// Every current version is there, unless it has expired. Then nothing is, or another expired one, or one that came after
/// it was forgotten.
fn assert_current(reader: &ShardReader, model: &Model, gone_ms: i64) {
    for (entity, view) in model.versions.keys() {
        let expected = model.as_of(entity, *view, i64::MAX, None).map(|version| version.point.clone());
        let (got, expected) = (latest(reader, entity, *view).expect("whole"), expected.expect("a version"));
        let gone = expected.expiry_ms <= gone_ms;
        let says_nothing = |got: &Point| got.expiry_ms <= gone_ms || got.ingest_time_ms >= expected.expiry_ms;
        let right = got.as_ref() == Some(&expected) || (gone && got.as_ref().is_none_or(says_nothing));
        let brief = |point: &Point| (point.offset, point.event_time_ms, point.expiry_ms, point.payload.len());
        assert!(right, "{entity:?}: {:?} instead of {:?}", got.as_ref().map(brief), brief(&expected));
    }
}

/// Bytes written for each byte put, and the part of the disk that lives, once it goes its even way.
fn amplification(keys: u64, rounds: u64, mut next: impl FnMut(u64) -> u64) -> (f64, f64) {
    let dir = temporary();
    let (mut writer, reader) = open_latest(dir.path(), &options());
    let (mut put, mut copied, mut utilisation, mut samples) = (0, 0, 0.0, 0);
    for batch in 0..keys * rounds / 10 {
        for n in batch * 10..batch * 10 + 10 {
            let key = if n < keys { n } else { next(n) };
            writer.put(&value(key, n as i64).put()).expect("a put");
        }
        let bytes = writer.pending_bytes();
        writer.commit().expect("a commit");
        writer.sync_now().expect("a sync");
        let report = thin(&mut writer, batch as i64 * 10);
        if batch > keys * rounds / 20 {
            (put, copied) = (put + bytes, copied + report.copied_bytes);
            let live = keys * bytes / 10;
            (utilisation, samples) =
                (utilisation + live as f64 / reader.stats().disk_bytes as f64, samples + 1);
        }
    }
    ((put + copied) as f64 / put as f64, utilisation / f64::from(samples))
}

#[test]
fn thinning_writes_little() {
    let keys = 8000;
    let (periodic, used) = amplification(keys, 12, |n| n % keys);
    println!(
        "periodic updates: {periodic:.2} bytes written for each put, {:.0} % of the disk lives",
        used * 100.0
    );
    // Nine of ten keys come around; the others come rarely.
    let (mixed, mixed_used) =
        amplification(keys, 12, |n| if n % 100 == 0 { n * 7919 % keys } else { n % (keys * 9 / 10) });
    println!("periodic and rare updates: {mixed:.2}, {:.0} %", mixed_used * 100.0);
    let mut random = 9_u64;
    let (uniform, uniform_used) = amplification(keys, 12, |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % keys
    });
    println!("uniformly random updates: {uniform:.2}, {:.0} %", uniform_used * 100.0);
    assert!(periodic <= 1.1 && mixed <= 1.4 && uniform <= 1.7);
}

/// One step of a shard that is thinned.
#[derive(Debug, Clone)]
enum Step {
    Put {
        key: u64,
        tombstone: bool,
        age: i64,
        size: usize,
        /// How long it lives: it may expire before what it replaced.
        ttl: i64,
    },
    Commit,
    Sync,
    /// A part of a thinning.
    Thin {
        bytes: u64,
    },
    ThinAll,
    Expire,
    Close,
    Kill,
    /// The power goes; of what was not synced a part is there.
    PowerLoss {
        lost: u64,
        garbage: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let put = (0..14_u64, any::<u8>(), 0..300_000_i64, 0..9000_usize);
    prop_oneof![
        60 => put.prop_map(|(key, dice, age, size)| Step::Put {
            key, tombstone: dice % 8 == 0, age: if dice % 4 == 1 { age } else { 0 }, size, ttl: if dice % 7 == 3 { 90_000 } else { 1_000_000 },
        }),
        25 => Just(Step::Commit),
        8 => Just(Step::Sync),
        12 => (0..20_000_u64).prop_map(|bytes| Step::Thin { bytes }),
        2 => Just(Step::ThinAll),
        2 => Just(Step::Expire),
        1 => Just(Step::Close),
        2 => Just(Step::Kill),
        3 => (any::<u64>(), any::<bool>()).prop_map(|(lost, garbage)| Step::PowerLoss { lost, garbage }),
    ]
}

struct Run {
    root: tempfile::TempDir,
    generation: u32,
    store: Option<(ShardWriter, ShardReader)>,
    /// After each commit, by the position that it brought.
    committed: Vec<(i64, Model)>,
    pending: Model,
    offset: i64,
    synced: i64,
    synced_bytes: (usize, usize),
    clock: i64,
    gone: i64,
}

impl Run {
    fn new() -> Run {
        let mut run = Run {
            root: temporary(),
            generation: 0,
            store: None,
            committed: vec![(-1, Model::default())],
            pending: Model::default(),
            offset: -1,
            synced: -1,
            synced_bytes: (0, 0),
            clock: 1_000_000,
            gone: i64::MIN,
        };
        run.open();
        run
    }

    fn open(&mut self) {
        self.store = None;
        self.store = Some(open_latest(&self.root.path().join(self.generation.to_string()), &options()));
    }

    fn writer(&mut self) -> &mut ShardWriter {
        &mut self.store.as_mut().expect("open").0
    }

    fn take(&mut self, step: Step) {
        let clock = self.clock;
        match step {
            Step::Put { key, tombstone, age, size, ttl } => {
                self.clock += 9000;
                self.offset += 1;
                let payload = vec![b'a' + (self.offset % 26) as u8; size];
                let (entity, view) = (format!("key {}", key / 2), VIEWS[key as usize % 2]);
                let value = point(entity.as_bytes(), self.clock - age, self.offset);
                let expiry_ms = self.clock - age + ttl;
                let value = Point { view, ingest_time_ms: self.clock, expiry_ms, payload, ..value };
                let value = if tombstone { value.tombstone() } else { value };
                self.writer().put(&value.put()).expect("a put");
                self.pending.put(value);
            }
            Step::Commit => self.commit(),
            Step::Sync => {
                self.writer().sync_now().expect("a sync");
                self.all_is_synced();
            }
            Step::Thin { bytes } => {
                self.writer().thin(clock, bytes).expect("a thinning");
                self.removed();
            }
            Step::ThinAll => {
                thin(self.writer(), clock);
                self.removed();
                self.all_is_synced();
            }
            Step::Expire => {
                expire(self.writer(), clock);
                self.removed();
            }
            Step::Close => {
                self.commit();
                self.store.take().expect("open").0.close().expect("a close");
                self.open();
                self.all_is_synced();
            }
            Step::Kill => {
                self.open();
                self.back_to_committed();
            }
            Step::PowerLoss { lost, garbage } => self.power_loss(lost, garbage),
        }
        self.compare();
    }

    fn commit(&mut self) {
        self.writer().commit().expect("a commit");
        self.committed_now();
    }

    /// What is thinned and expired is committed first, where there was something.
    fn removed(&mut self) {
        if applied(&self.store.as_ref().expect("open").1, 0).unwrap_or(-1) == self.offset {
            self.committed_now();
        }
        self.gone = self.clock - options().allowed_lateness_ms;
    }

    fn committed_now(&mut self) {
        if self.committed.last().is_some_and(|(offset, _)| *offset < self.offset) {
            self.committed.push((self.offset, self.pending.clone()));
        }
    }

    fn back_to_committed(&mut self) {
        (self.offset, self.pending) = self.committed.last().expect("one").clone();
        self.all_is_synced();
    }

    fn all_is_synced(&mut self) {
        self.synced = self.committed.last().expect("one").0;
        let segments = segments(&self.root.path().join(self.generation.to_string()));
        let used = segments.last().map_or(0, |newest| used(&std::fs::read(newest).expect("a segment")));
        self.synced_bytes = (number(segments.last().map_or(Path::new("0.seg"), |path| path)), used);
    }

    fn power_loss(&mut self, lost: u64, garbage: bool) {
        let from = self.root.path().join(self.generation.to_string());
        self.generation += 1;
        self.store = None;
        let to = self.root.path().join(self.generation.to_string());
        copy(&from, &to);
        let (newest, used) = self.synced_bytes;
        let mut unsynced = segments(&to);
        unsynced.retain(|path| number(path) >= newest);
        if !unsynced.is_empty() {
            let path = &unsynced[lost as usize % unsynced.len()];
            spoil(path, lost / 7, if number(path) == newest { used.max(128) } else { 128 }, garbage);
        }
        self.open();
        let position = applied(&self.store.as_ref().expect("open").1, 0).unwrap_or(-1);
        assert!(position >= self.synced, "{} was synced, the log ends at {position}", self.synced);
        self.committed.retain(|(offset, _)| *offset <= position);
        assert_eq!(self.committed.last().expect("one").0, position, "whole commits");
        self.back_to_committed();
    }

    fn compare(&self) {
        let reader = &self.store.as_ref().expect("open").1;
        assert_current(reader, &self.committed.last().expect("one").1, self.gone);
        assert_eq!(applied(reader, 0).unwrap_or(-1), self.committed.last().expect("one").0);
    }
}

fn number(path: &Path) -> usize {
    path.file_stem().and_then(|name| name.to_str()?.parse().ok()).expect("a segment")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn current_versions_survive_thinning_expiry_and_crashes(steps in prop::collection::vec(step(), 1..400)) {
        let mut run = Run::new();
        for step in steps {
            run.take(step);
        }
        run.take(Step::Commit);
        run.take(Step::ThinAll);
        run.take(Step::Close);
    }
}
