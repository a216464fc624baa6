//! Random operations on a shard and on the model, side by side: puts of every kind, commits, reopenings, crashes that
//! leave what was written up to any byte, expiry that must not be noticed.

use std::path::PathBuf;

use forebay_storage::{Kind, Options, ShardReader, ShardWriter, TopicIndex};
use proptest::prelude::*;

use crate::model::Model;
use crate::store::{
    ENTITIES, Point, TOPICS, VIEWS, applied, assert_agrees, copy, identity, no_sync, options, segments,
};

/// One step.
#[derive(Debug, Clone)]
enum Step {
    Put {
        entity: u8,
        view: usize,
        topic: u16,
        tombstone: bool,
        age: i64,
        gap: i64,
        same: bool,
        size: usize,
    },
    /// A data point that was put before, or one of its offset.
    Replay {
        topic: u16,
        back: i64,
    },
    Skip {
        topic: u16,
        gap: i64,
    },
    Commit,
    Sync,
    Close,
    /// The process ends at once.
    Kill,
    /// The power goes: of what was not synced, a part is there, the last bytes are other ones.
    PowerLoss {
        lost: u64,
        garbage: bool,
    },
    /// Nothing has expired, whatever the clock says.
    Expire,
    Compare,
}

fn step() -> impl Strategy<Value = Step> {
    let put = (
        0..ENTITIES,
        0..VIEWS.len(),
        0..TOPICS.len() as u16,
        any::<u8>(),
        0..200_i64,
        1..4_i64,
        0..3000_usize,
    );
    prop_oneof![
        60 => put.prop_map(|(entity, view, topic, dice, age, gap, size)| Step::Put {
            entity, view, topic, tombstone: dice % 8 == 0, age: if dice % 3 == 0 { age } else { 0 }, gap,
            same: dice % 5 == 0, size: if dice % 16 == 1 { size } else { size % 40 },
        }),
        4 => (0..TOPICS.len() as u16, 0..10_i64).prop_map(|(topic, back)| Step::Replay { topic, back }),
        3 => (0..TOPICS.len() as u16, 0..4_i64).prop_map(|(topic, gap)| Step::Skip { topic, gap }),
        20 => Just(Step::Commit),
        3 => Just(Step::Sync),
        2 => Just(Step::Close),
        2 => Just(Step::Kill),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(lost, garbage)| Step::PowerLoss { lost, garbage }),
        1 => Just(Step::Expire),
        2 => Just(Step::Compare),
    ]
}

/// The shard, the model of what is committed, and what is in the batch.
struct Run {
    root: tempfile::TempDir,
    generation: u32,
    store: Option<(ShardWriter, ShardReader)>,
    /// After each commit; the first is of nothing.
    committed: Vec<Model>,
    pending: Model,
    /// How many of `committed` a power loss must leave.
    synced: usize,
    /// Segments, and written bytes of the newest, at each of `committed`.
    ends: Vec<(usize, usize)>,
    clock: i64,
}

impl Run {
    fn new() -> Run {
        let root = crate::store::temporary();
        let mut run = Run {
            root,
            generation: 0,
            store: None,
            committed: vec![Model::default()],
            pending: Model::default(),
            synced: 0,
            ends: vec![(0, 0)],
            clock: 1000,
        };
        run.open();
        run
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join(self.generation.to_string())
    }

    fn open(&mut self) {
        // The index is saved now and then, on another thread, which syncs what it needs.
        let options = Options { codec_samples: 4, checkpoint_bytes: 5000, ..options() };
        let opened = crate::store::open_patiently(&self.dir(), &identity(), &options, &no_sync());
        self.store = Some(opened.unwrap_or_else(|error| panic!("{error}")));
    }

    fn writer(&mut self) -> &mut ShardWriter {
        &mut self.store.as_mut().expect("open").0
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Put { entity, view, topic, tombstone, age, gap, same, size } => {
                // Several within a tick of the index, and now and then days that are beyond its ticks.
                self.clock += if same { 0 } else { 7000 };
                self.clock += if age == 199 { 10 * 86_400_000 } else { 0 };
                let next = self.pending.positions.get(&topic).copied().unwrap_or(-1) + gap;
                let time = self.clock - age * 1000;
                let payload = if same { b"same".to_vec() } else { payload(self.clock, next, size) };
                let (kind, payload) =
                    if tombstone { (Kind::Tombstone, Vec::new()) } else { (Kind::Value, payload) };
                // Topics lag behind each other by different times.
                let ingest_time_ms = self.clock - i64::from(topic) * 50_000;
                let expiry_ms = time + (1 << 50);
                let (view, entity) = (VIEWS[view], vec![entity; usize::from(entity) + 1]);
                self.put(Point {
                    view,
                    entity,
                    kind,
                    event_time_ms: time,
                    ingest_time_ms,
                    expiry_ms,
                    topic,
                    offset: next,
                    payload,
                });
            }
            Step::Replay { topic, back } => {
                let position = self.pending.positions.get(&topic).copied().unwrap_or(-1);
                if position >= back {
                    self.put(Point { topic, ..crate::store::point(b"replayed", 1_000_000, position - back) });
                }
            }
            Step::Skip { topic, gap } => {
                let next = self.pending.positions.get(&topic).copied().unwrap_or(-1) + gap;
                if next >= 0 {
                    let clock = self.clock;
                    self.writer().skip(TopicIndex(topic), next, clock).expect("a skip");
                    self.pending.skip(topic, next);
                }
            }
            Step::Commit => self.commit(),
            Step::Sync => {
                self.writer().sync_now().expect("a sync");
                self.all_is_synced();
            }
            Step::Close => {
                self.commit();
                self.store.take().expect("open").0.close().expect("a close");
                self.open();
                self.all_is_synced();
            }
            Step::Kill => {
                self.store = None;
                self.open();
                self.pending = self.committed.last().expect("one").clone();
                self.all_is_synced();
            }
            Step::PowerLoss { lost, garbage } => self.power_loss(lost, garbage),
            Step::Expire => {
                let report = self.writer().expire(i64::MAX).expect("an expiry");
                assert_eq!(report.segments, 0);
                self.committed_now();
            }
            Step::Compare => self.compare(),
        }
    }

    fn put(&mut self, point: Point) {
        let outcome = self.writer().put(&point.put()).expect("a put");
        assert_eq!(outcome, self.pending.put(point.clone()), "{point:?}");
    }

    fn commit(&mut self) {
        self.writer().commit().expect("a commit");
        self.committed_now();
        self.learn();
    }

    /// Waits until what is being learned can be used by the next put, so that a failing case fails again.
    fn learn(&mut self) {
        while self.writer().is_learning() {
            std::thread::yield_now();
            self.writer().commit().expect("a commit");
        }
    }

    fn committed_now(&mut self) {
        if self.committed.last() != Some(&self.pending) {
            self.committed.push(self.pending.clone());
            self.ends.push(self.end());
        }
    }

    fn end(&self) -> (usize, usize) {
        let used = |path: &PathBuf| used(&std::fs::read(path).expect("a segment"));
        // The next segment may have been made ahead: it has a header.
        let written =
            segments(&self.dir()).iter().map(used).take_while(|used| *used > 168).collect::<Vec<_>>();
        (written.len(), written.last().copied().unwrap_or(0))
    }

    fn all_is_synced(&mut self) {
        self.synced = self.committed.len() - 1;
    }

    /// The last of `committed` whose positions are these.
    fn last_with(&self, position: impl Fn(u16) -> Option<i64>) -> Option<usize> {
        let known = |model: &Model, topic| model.positions.get(&topic).copied().unwrap_or(-1);
        let same = |topic, model| known(model, topic) == position(topic).unwrap_or(-1);
        self.committed.iter().rposition(|model| (0..TOPICS.len() as u16).all(|topic| same(topic, model)))
    }

    /// Copies the files and spoils a segment from some byte on that was not synced. What comes back must be a whole
    /// number of commits, with all that were synced.
    fn power_loss(&mut self, lost: u64, garbage: bool) {
        let from = self.dir();
        self.generation += 1;
        // Other threads may still be making or unlinking files, and syncing.
        let (writer, reader) = self.store.take().expect("open");
        drop(writer);
        copy(&from, &self.dir());
        let durable =
            self.last_with(|topic| crate::store::durable(&reader, topic)).expect("one of the commits");
        self.synced = self.synced.max(durable);
        let segments = segments(&self.dir());
        let (first, synced) = (self.ends[self.synced].0.max(1), self.ends[self.synced].1.max(128));
        if segments.len() >= first {
            let at = first - 1 + lost as usize % (segments.len() - first + 1);
            spoil(&segments[at], lost / 7, if at == first - 1 { synced } else { 128 }, garbage);
        }
        self.open();
        let reader = &self.store.as_ref().expect("open").1;
        let at = self.last_with(|topic| applied(reader, topic)).expect("a prefix of the commits");
        assert!(at >= self.synced, "commit {} was synced, the log ends at {at}", self.synced);
        self.committed.truncate(at + 1);
        self.ends.truncate(at + 1);
        self.pending = self.committed[at].clone();
        self.all_is_synced();
        self.compare();
    }

    fn compare(&self) {
        let reader = &self.store.as_ref().expect("open").1;
        assert_agrees(reader, self.committed.last().expect("one"));
    }
}

/// Objects of two shapes, free text, and bytes that are neither.
fn payload(clock: i64, next: i64, size: usize) -> Vec<u8> {
    let text = || String::from_utf8(vec![b'a' + (next % 26) as u8; size]).expect("letters");
    match next % 5 {
        0 => {
            format!(r#"{{"ts":{clock},"value":{}.{},"on":{}}}"#, size, next % 10, next % 3 == 0).into_bytes()
        }
        1 => format!(r#"{{"note":"{}","list":[{next},{size}],"id":"{clock:08x}"}}"#, text()).into_bytes(),
        2 => vec![(next % 251) as u8; size % 50],
        _ => text().into_bytes(),
    }
}

/// Written bytes, with a few more, since a frame may end in zeros.
pub fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 40).min(bytes.len())
}

/// Overwrites a part of a file's written bytes with zeros or with something else.
pub fn spoil(path: &std::path::Path, lost: u64, from: usize, garbage: bool) {
    let mut bytes = std::fs::read(path).expect("a segment");
    let written = used(&bytes).saturating_sub(from);
    if written > 0 {
        let from = from + lost as usize % written;
        let until = if garbage { (from + 40).min(bytes.len()) } else { bytes.len() };
        bytes[from..until].fill(if garbage { 0xA5 } else { 0 });
        std::fs::write(path, bytes).expect("a segment");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_agree_with_the_model(steps in prop::collection::vec(step(), 1..250)) {
        let mut run = Run::new();
        for step in steps {
            run.take(step);
        }
        run.commit();
        run.compare();
        run.take(Step::Close);
        run.compare();
    }
}
