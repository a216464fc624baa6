//! What a child writes, from a seed: data points of several views and lives, late ones, tombstones, commits, syncs,
//! expiry with clocks that jump, reopenings. And what a shard must hold after each of its commits.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use forebay_storage::{
    Keep, Kind, OpenError, Options, ShardIdentity, ShardReader, ShardWriter, TopicIndex, ViewPolicy,
    WriteError,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::fate::Fate;
use crate::model::Model;
use crate::store::{self, Point, TOPICS};

const DAY_MS: i64 = 86_400_000;
/// Id, whether all versions are kept, and how many days.
const VIEWS: [(u16, Keep, i64); 4] =
    [(1, Keep::Full, 40), (2, Keep::Latest, 40), (700, Keep::Full, 2), (701, Keep::Latest, 2)];
const ENTITIES: usize = 6;
/// Bytes of a payload that leaves little of a segment.
pub const FILLING: usize = 62_000;

/// One thing the child does.
#[derive(Debug, Clone)]
pub enum Step {
    Put(Point),
    Skip {
        topic: u16,
        offset: i64,
        at_ms: i64,
    },
    Commit,
    Sync,
    Expire {
        now_ms: i64,
    },
    /// Only where no view keeps all versions does it do something.
    Thin {
        now_ms: i64,
    },
    /// Opened again, after a close or after nothing.
    Reopen {
        close: bool,
    },
}

/// A story and its right states.
#[derive(Debug)]
pub struct Story {
    pub seed: u64,
    pub steps: Vec<Step>,
    /// After so many commits.
    pub states: Vec<Model>,
    /// For each step: commits begun once it has.
    pub commits: Vec<usize>,
    /// For each step: versions that need not be kept at or after this are free to go once it has begun.
    pub gone_ms: Vec<i64>,
    /// Digest of a fresh shard with each state, once somebody asked.
    digests: Vec<OnceLock<u128>>,
}

impl Story {
    /// The story of a seed. Odd ones are synced by the group's thread, even ones by the writer.
    pub fn new(seed: u64, puts: usize) -> Story {
        Story::of(seed, Teller::new(seed).tell(puts))
    }

    /// A short one whose data points are small but for one that fills a segment. Nothing of it expires.
    pub fn small(seed: u64, puts: usize) -> Story {
        let mut steps = Teller::new(seed).tell(puts);
        let mut large = true;
        for point in
            steps.iter_mut().filter_map(|step| if let Step::Put(point) = step { Some(point) } else { None })
        {
            point.payload.truncate(90);
            if std::mem::take(&mut large) && point.kind == Kind::Value {
                point.payload = noise(&mut SmallRng::seed_from_u64(seed), FILLING);
            }
        }
        steps.retain(|step| !matches!(step, Step::Expire { .. } | Step::Thin { .. }));
        Story::of(seed, steps)
    }

    fn of(seed: u64, steps: Vec<Step>) -> Story {
        let (mut states, mut commits, mut gone_ms) = (vec![Model::default()], Vec::new(), Vec::new());
        let (mut pending, mut ingested_ms, mut gone) = (Model::default(), 0, i64::MIN);
        for step in &steps {
            match step {
                Step::Put(point) => {
                    ingested_ms = ingested_ms.max(point.ingest_time_ms);
                    pending.put(point.clone());
                }
                Step::Skip { topic, offset, at_ms } => {
                    ingested_ms = ingested_ms.max(*at_ms);
                    pending.skip(*topic, *offset);
                }
                Step::Commit => states.push(pending.clone()),
                Step::Expire { now_ms } | Step::Thin { now_ms } => {
                    let now_ms = ingested_ms.min(*now_ms);
                    gone = gone.max(now_ms.saturating_sub(store::options().allowed_lateness_ms));
                }
                Step::Sync | Step::Reopen { .. } => {}
            }
            commits.push(states.len() - 1);
            gone_ms.push(gone);
        }
        let digests = states.iter().map(|_| OnceLock::new()).collect();
        Story { seed, steps, states, commits, gone_ms, digests }
    }

    /// Every third story has no view that keeps all versions, and is thinned.
    pub fn thinned(&self) -> bool {
        self.seed.is_multiple_of(3)
    }

    pub fn identity(&self) -> ShardIdentity {
        let policy = |(id, keep, days): (u16, Keep, i64)| {
            let keep = if self.thinned() { Keep::Latest } else { keep };
            (
                id,
                ViewPolicy {
                    description: format!("view {id}"),
                    retention_ms: days * DAY_MS,
                    keep,
                    beside: None,
                },
            )
        };
        ShardIdentity { views: VIEWS.into_iter().map(policy).collect(), ..store::identity() }
    }

    /// Codings are learned soon, and the index is saved often.
    pub fn options(&self) -> Options {
        Options { codec_samples: 12, checkpoint_bytes: 100_000, ..store::options() }
    }

    pub fn grouped(&self) -> bool {
        self.seed % 2 == 1
    }

    /// What a shard may lack while a step is done.
    pub fn fate_at(&self, step: usize) -> Fate {
        Fate { gone_ms: self.gone_ms[step], most: self.commits[step], ..Fate::default() }
    }

    /// What a shard that took just these commits, and was never closed or expired, says of itself.
    pub fn digest(&self, commits: usize) -> u128 {
        *self.digests[commits].get_or_init(|| {
            let dir = store::temporary();
            let (mut writer, reader) = open(dir.path(), self).expect("a fresh shard");
            let last =
                self.commits.iter().position(|so_far| *so_far == commits).expect("a commit of the story");
            let fed = if commits == 0 { &[] } else { &self.steps[..=last] };
            for step in fed.iter().filter(|step| !matches!(step, Step::Expire { .. } | Step::Thin { .. })) {
                feed(&mut writer, step).expect("a fresh shard takes it");
            }
            reader.digest()
        })
    }
}

/// Opens what is to be judged. A child that is being made elsewhere in this program may have its locks for a moment.
pub fn open(dir: &std::path::Path, story: &Story) -> Result<(ShardWriter, ShardReader), OpenError> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match forebay_storage::open(dir, &story.identity(), &story.options(), never_syncs()) {
            Err(OpenError::Locked { .. }) if Instant::now() < until => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

/// One group for all that is judged: its thread has nothing to do.
fn never_syncs() -> &'static forebay_storage::SyncGroup {
    static GROUP: OnceLock<forebay_storage::SyncGroup> = OnceLock::new();
    GROUP.get_or_init(store::no_sync)
}

/// Does a step, except for reopenings, which are the caller's.
pub fn feed(writer: &mut ShardWriter, step: &Step) -> Result<(), WriteError> {
    match step {
        Step::Put(point) => writer.put(&point.put()).map(drop),
        Step::Skip { topic, offset, at_ms } => writer.skip(TopicIndex(*topic), *offset, *at_ms),
        Step::Commit => writer.commit(),
        Step::Sync => writer.sync_now(),
        Step::Expire { now_ms } => writer.expire(*now_ms).map(drop),
        Step::Thin { now_ms } => writer.thin(*now_ms, 1 << 20).map(drop),
        Step::Reopen { .. } => Ok(()),
    }
}

fn noise(random: &mut SmallRng, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| random.random()).collect()
}

/// Makes up a story.
struct Teller {
    random: SmallRng,
    clock_ms: i64,
    /// Longest time between two data points.
    pace_ms: i64,
    offsets: BTreeMap<u16, i64>,
    steps: Vec<Step>,
    dirty: bool,
}

impl Teller {
    fn new(seed: u64) -> Teller {
        let mut random = SmallRng::seed_from_u64(seed);
        let pace_ms = [1000, 600_000, 6 * 3_600_000][random.random_range(0..3)];
        Teller {
            random,
            clock_ms: 1_700_000_000_000,
            pace_ms,
            offsets: BTreeMap::new(),
            steps: Vec::new(),
            dirty: false,
        }
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.random_ratio(1, many)
    }

    fn tell(mut self, puts: usize) -> Vec<Step> {
        for _ in 0..puts {
            self.put();
            if self.one_in(4) {
                self.commit();
            }
            if self.one_in(12) {
                self.steps.push(Step::Sync);
            }
            if self.one_in(25) {
                self.skip();
            }
            if self.one_in(20) {
                self.expire();
            }
            if self.one_in(6) {
                self.commit();
                self.steps.push(Step::Thin { now_ms: self.clock_ms });
            }
            if self.one_in(40) {
                self.reopen();
            }
            if self.one_in(60) {
                self.clock_ms += self.random.random_range(0..5 * DAY_MS);
            }
        }
        self.commit();
        self.steps.push(Step::Sync);
        self.steps
    }

    fn commit(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.steps.push(Step::Commit);
        }
    }

    fn next_offset(&mut self, topic: u16) -> i64 {
        let gap = self.random.random_range(1..4);
        let offset = self.offsets.entry(topic).or_insert(-1);
        *offset += gap;
        *offset
    }

    fn put(&mut self) {
        self.clock_ms += self.random.random_range(0..self.pace_ms);
        let topic = self.random.random_range(0..TOPICS.len() as u16);
        let (view, _, days) = VIEWS[self.random.random_range(0..VIEWS.len())];
        let entity = self.random.random_range(0..ENTITIES);
        let age_ms = if self.one_in(3) { self.random.random_range(0..DAY_MS) } else { 0 };
        let event_time_ms = self.clock_ms - age_ms;
        let life_ms = if self.one_in(6) { DAY_MS / 2 } else { days * DAY_MS };
        let kind = if self.one_in(8) { Kind::Tombstone } else { Kind::Value };
        let payload = if kind == Kind::Value { self.payload(event_time_ms) } else { Vec::new() };
        let offset = self.next_offset(topic);
        let mut point = Point {
            view,
            entity: format!("entity {entity}").repeat(entity + 1).into_bytes(),
            kind,
            event_time_ms,
            ingest_time_ms: self.clock_ms - i64::from(topic) * 50,
            expiry_ms: event_time_ms + life_ms,
            topic,
            offset,
            payload,
        };
        if self.one_in(8) {
            self.repeat(&mut point);
        }
        self.steps.push(Step::Put(point));
        self.dirty = true;
    }

    /// Says what the last data point said.
    fn repeat(&mut self, point: &mut Point) {
        let last = self.steps.iter().rev().find_map(|step| match step {
            Step::Put(last) => Some(last.clone()),
            _ => None,
        });
        if let Some(last) = last {
            *point = Point {
                offset: point.offset,
                topic: point.topic,
                ingest_time_ms: point.ingest_time_ms,
                ..last
            };
        }
    }

    /// Mostly telemetry, sometimes noise; some of a few kilobytes, so that segments fill.
    fn payload(&mut self, event_time_ms: i64) -> Vec<u8> {
        if self.one_in(6) {
            // Some do not fit into a segment of the usual size.
            let most = if self.one_in(10) { 90_000 } else { 9000 };
            let bytes = self.random.random_range(0..most);
            return noise(&mut self.random, bytes);
        }
        let (signal, noise, up) =
            (self.random.random_range(-90..-40), self.random.random::<u16>(), self.one_in(2));
        let mut text =
            format!("{{\"at\":{event_time_ms},\"signal_dbm\":{signal},\"noise\":{noise},\"up\":{up}");
        for cell in 0..self.random.random_range(0..40) {
            text.push_str(&format!(
                ",\"cell_{cell}\":{{\"load\":0.{:03}}}",
                self.random.random_range(0..1000)
            ));
        }
        text.push('}');
        text.into_bytes()
    }

    fn skip(&mut self) {
        let topic = self.random.random_range(0..TOPICS.len() as u16);
        let (offset, at_ms) = (self.next_offset(topic), self.clock_ms);
        self.steps.push(Step::Skip { topic, offset, at_ms });
        self.dirty = true;
    }

    /// By a clock that is right, or far ahead, or far behind.
    fn expire(&mut self) {
        self.commit();
        let now_ms = match self.random.random_range(0..4) {
            0 => i64::MAX,
            1 => self.clock_ms - 100 * DAY_MS,
            _ => self.clock_ms,
        };
        self.steps.push(Step::Expire { now_ms });
    }

    fn reopen(&mut self) {
        self.commit();
        let close = self.one_in(2);
        self.steps.push(Step::Reopen { close });
    }
}
