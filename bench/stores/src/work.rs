//! The steps of a side's work on its store, each a stretch that is measured and printed. The names of the figures are
//! what the scenario makes its rows of.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::beside::beside;
use crate::data::{Data, Order, Random, START_MS, TTL_MS, split};
use crate::meter::{Figure, Latencies, Meter, anonymous_bytes, drop_from_cache, file_bytes};
use crate::plan::{BATCH, Plan, Step, VIEWS};
use crate::space::{expiry, space};
use crate::store::{Background, Purpose, Reads, Setup, Store};

/// Views of an entity, in order.
const ALL_VIEWS: [u16; VIEWS as usize] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/// Does the plan's step and prints its figures.
///
/// # Errors
/// If the store fails or gives what was not put.
pub fn run<S: Store>(plan: &Plan) -> anyhow::Result<()> {
    let data = Data::read(&plan.data)?;
    match plan.step {
        Step::Work => work::<S>(plan, &data),
        Step::Reopen => reopen::<S>(plan, &data),
        Step::History => history::<S>(plan, &data),
        Step::Expiry => expiry::<S>(plan, &data),
        Step::Space => space::<S>(plan, &data),
        Step::Coding | Step::Rebuild => Ok(()),
    }
}

/// Keys that a store is told ahead of their data points.
const AHEAD: usize = 32;

/// Points in order, put in commits of a thousand.
pub(crate) struct Feed<'d> {
    data: &'d Data,
    keys: u64,
    /// Data points put so far.
    put: u64,
    /// Bytes of entities and payloads among them.
    pub(crate) raw: u64,
}

impl<'d> Feed<'d> {
    pub(crate) fn new(data: &'d Data, keys: u64) -> Feed<'d> {
        Feed { data, keys, put: 0, raw: 0 }
    }

    /// Puts one data point about a key; commits after every thousandth.
    pub(crate) fn put<S: Store>(&mut self, store: &mut S, key: u64) -> anyhow::Result<()> {
        let point = self.data.point(self.put, key, self.keys);
        store.put(&point)?;
        self.put += 1;
        self.raw += (point.entity.len() + point.payload.len()) as u64;
        if self.put.is_multiple_of(BATCH) { store.commit() } else { Ok(()) }
    }

    /// Puts a data point about each key; the store is told a few of them ahead.
    fn put_all<S: Store>(
        &mut self,
        store: &mut S,
        mut keys: impl Iterator<Item = u64>,
    ) -> anyhow::Result<()> {
        let (data, mut ahead) = (self.data, Vec::with_capacity(AHEAD));
        loop {
            ahead.clear();
            ahead.extend(keys.by_ref().take(AHEAD));
            let Some(first) = ahead.first() else { return store.commit() };
            store.expect(split(*first).1, ahead.iter().map(|key| data.entity(split(*key).0)));
            ahead.iter().try_for_each(|key| self.put(store, *key))?;
        }
    }

    /// Puts `count` of them in the order of a pass.
    pub(crate) fn pass<S: Store>(&mut self, store: &mut S, pass: u64, count: u64) -> anyhow::Result<()> {
        let mut order = Order::new(self.keys, pass);
        self.put_all(store, (0..count).map(|_| order.next_number()))
    }

    /// Puts every key, and thins after each commit until the store takes no more than `limit` bytes of disk.
    pub(crate) fn pass_thinning<S: Store>(
        &mut self,
        store: &mut S,
        pass: u64,
        limit: u64,
    ) -> anyhow::Result<()> {
        let mut order = Order::new(self.keys, pass);
        for _ in 0..self.keys {
            self.put(store, order.next_number())?;
            if self.put.is_multiple_of(BATCH) {
                store.background(Background::Thin(limit))?;
            }
        }
        store.commit()
    }

    /// Every key for the first time, one view after the other, entities scattered.
    pub(crate) fn load<S: Store>(&mut self, store: &mut S) -> anyhow::Result<()> {
        let entities = self.keys / VIEWS;
        for view in 0..VIEWS {
            let mut order = Order::new(entities, view);
            self.put_all(store, (0..entities).map(|_| order.next_number() * VIEWS + view))?;
        }
        Ok(())
    }

    /// Entities that nothing is measured of, a quarter of the others, so that what a store learns from samples is learned.
    pub(crate) fn warm_up<S: Store>(&mut self, store: &mut S) -> anyhow::Result<()> {
        let count = self.keys / 4 / VIEWS * VIEWS;
        for pass in 0..S::WARM_UPS {
            let mut order = Order::new(count, pass);
            let keys = self.keys;
            self.put_all(store, (0..count).map(|_| keys + order.next_number()))?;
            store.settle()?;
        }
        self.raw = 0;
        Ok(())
    }
}

pub(crate) fn setup(plan: &Plan, purpose: Purpose) -> Setup {
    Setup { dir: plan.dir.clone(), purpose, cache_bytes: plan.cache_bytes, keys: plan.keys }
}

fn work<S: Store>(plan: &Plan, data: &Data) -> anyhow::Result<()> {
    let memory = anonymous_bytes();
    let mut store = S::open(&setup(plan, Purpose::Latest))?;
    let mut feed = Feed::new(data, plan.keys);
    feed.warm_up(&mut store)?;
    let disk = file_bytes(&plan.dir);
    let (all, meter) = (Meter::start(), Meter::start());
    feed.load(&mut store)?;
    meter.taken().rate("put", plan.keys).print();
    let raw = feed.raw as f64;
    let loaded = file_bytes(&plan.dir).saturating_sub(disk) as f64;
    let meter = Meter::start();
    feed.pass(&mut store, 2, plan.keys)?;
    meter.taken().rate("update", plan.keys).print();
    stalls(plan, &mut feed, &mut store)?;
    burst(plan, &mut feed, &mut store)?;
    Figure::new("written_per_raw", all.taken().written as f64 / feed.raw as f64, 0.0).print();
    store.settle()?;
    // For a store that keeps what is replaced, after the load; for one that has compacted it away, now.
    let settled = file_bytes(&plan.dir) as f64 / 1.25;
    Figure::new("disk_per_raw", loaded.min(settled) / raw, 0.0).print();
    let sizes = store.sizes();
    if sizes.index > 0 {
        Figure::new("index_per_key", sizes.index as f64 / sizes.keys.max(1) as f64, 0.0).print();
    }
    gets(plan, data, &mut store.reads())?;
    Figure::new("memory_mib", (anonymous_bytes() - memory) as f64 / f64::from(1 << 20), 0.0).print();
    if S::OURS {
        let ratio = beside(plan, data, &mut store, any_key(plan), |store, _, busy| {
            if busy { store.background(Background::Checkpoint) } else { Ok(false) }
        })?;
        Figure::new("read_p99_checkpoint", ratio, 0.0).print();
    }
    // Left as a crash leaves it in the middle of its work: nothing is closed, flushed or waited for.
    feed.pass(&mut store, 5, plan.keys / 4)?;
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    Ok(())
}

/// How long single calls take at full rate.
fn stalls<S: Store>(plan: &Plan, feed: &mut Feed<'_>, store: &mut S) -> anyhow::Result<()> {
    let (mut order, mut latencies) = (Order::new(plan.keys, 3), Latencies::default());
    let mut before = Instant::now();
    for _ in 0..plan.keys {
        feed.put(store, order.next_number())?;
        let now = Instant::now();
        latencies.add(now - before);
        before = now;
    }
    Figure::new("stall_p999_us", latencies.us(0.999), 0.0).print();
    Figure::new("stall_max_us", latencies.us(1.0), 0.0).print();
    Ok(())
}

/// Data points that arrive on a schedule, put and committed as soon as possible: how long after its arrival each is
/// readable.
fn burst<S: Store>(plan: &Plan, feed: &mut Feed<'_>, store: &mut S) -> anyhow::Result<()> {
    let (mut order, mut latencies) = (Order::new(plan.keys, 4), Latencies::default());
    let count = (plan.burst * plan.seconds) as u64;
    let (start, mut done) = (Instant::now(), 0);
    let due = |n: u64| Duration::from_secs_f64(n as f64 / plan.burst);
    // A side that falls behind is given twice the time to catch up, not all day.
    while done < count && start.elapsed() < due(2 * count) {
        let here = ((start.elapsed().as_secs_f64() * plan.burst) as u64).min(count).min(done + BATCH);
        if here == done {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        (done..here).try_for_each(|_| feed.put(store, order.next_number()))?;
        store.commit()?;
        let now = start.elapsed();
        (done..here).for_each(|n| latencies.add(now.saturating_sub(due(n))));
        done = here;
    }
    Figure::new("burst_p999_us", latencies.us(0.999), 0.0).print();
    Figure::new("burst_max_us", latencies.us(1.0), 0.0).print();
    Ok(())
}

/// Any of them.
pub(crate) fn any_key(plan: &Plan) -> impl Fn(&mut Random) -> u64 + Send + use<> {
    let keys = plan.keys;
    move |random| random.below(keys)
}

fn gets<R: Reads>(plan: &Plan, data: &Data, reads: &mut R) -> anyhow::Result<()> {
    let mut random = Random::new(1);
    // Hot means that whatever a store caches is there.
    (0..plan.entities()).try_for_each(|entity| get_all(reads, data, entity))?;
    paced("get", plan.seconds, || get(reads, data, random.below(plan.keys)))?.print();
    paced("get_many", plan.seconds, || get_all(reads, data, random.below(plan.entities())))?.print();
    Ok(())
}

/// Reads all views of an entity, which must be there.
fn get_all<R: Reads>(reads: &mut R, data: &Data, entity: u64) -> anyhow::Result<()> {
    let found = black_box(reads.get_many(data.entity(entity), &ALL_VIEWS)?);
    ensure!(found == ALL_VIEWS.len(), "{found} views of ten");
    Ok(())
}

/// Reads a key that must be there.
pub(crate) fn get<R: Reads>(reads: &mut R, data: &Data, key: u64) -> anyhow::Result<()> {
    let (entity, view) = split(key);
    black_box(reads.get(data.entity(entity), view)?).with_context(|| format!("key {key} was put"))?;
    Ok(())
}

/// Does something again and again for a time.
fn paced(name: &str, seconds: f64, mut act: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Figure> {
    let (meter, start, mut count) = (Meter::start(), Instant::now(), 0);
    while start.elapsed().as_secs_f64() < seconds {
        (0..64).try_for_each(|_| act())?;
        count += 64;
    }
    Ok(meter.taken().rate(name, count))
}

fn reopen<S: Store>(plan: &Plan, data: &Data) -> anyhow::Result<()> {
    let open = |name: &str, purpose| {
        let meter = Meter::start();
        let store = S::open(&setup(plan, purpose))?;
        let taken = meter.taken();
        Figure::new(name, taken.seconds, 0.0).print();
        anyhow::Ok(store)
    };
    let store = open("open_crashed_s", Purpose::Latest)?;
    let keys = store.sizes().keys;
    ensure!(!S::OURS || keys >= plan.keys, "{keys} keys of {}", plan.keys);
    store.close()?;
    open("open_closed_s", Purpose::Latest)?.close()?;
    drop_from_cache(&plan.dir);
    let store = open("open_cold_s", Purpose::Cold)?;
    // What opening has read.
    drop_from_cache(&plan.dir);
    let (mut reads, mut random, mut latencies) = (store.reads(), Random::new(2), Latencies::default());
    let meter = Meter::start();
    for _ in 0..plan.cold_reads {
        let before = Instant::now();
        get(&mut reads, data, random.below(plan.keys))?;
        latencies.add(before.elapsed());
    }
    meter.taken().rate("get_cold", plan.cold_reads).print();
    Figure::new("get_cold_p99_us", latencies.us(0.99), 0.0).print();
    Ok(())
}

fn history<S: Store>(plan: &Plan, data: &Data) -> anyhow::Result<()> {
    const APART_MS: i64 = 300_000;
    let mut store = S::open(&setup(plan, Purpose::History))?;
    let mut put = 0;
    for version in 0..plan.versions {
        for key in 0..plan.histories {
            let mut point = data.point(put, key * VIEWS, plan.keys);
            point.event_time_ms = START_MS + version as i64 * APART_MS;
            point.expiry_ms = point.event_time_ms + TTL_MS;
            store.put(&point)?;
            put += 1;
            if put % BATCH == 0 {
                store.commit()?;
            }
        }
    }
    store.commit()?;
    store.settle()?;
    let (mut reads, mut random, mut latencies) = (store.reads(), Random::new(3), Latencies::default());
    let (meter, start, mut count) = (Meter::start(), Instant::now(), 0);
    while start.elapsed().as_secs_f64() < plan.seconds {
        let time_ms = random.below(plan.versions * APART_MS as u64) as i64;
        let (entity, view) = split(random.below(plan.histories) * VIEWS);
        let before = Instant::now();
        let found = black_box(reads.as_of(data.entity(entity), view, START_MS + time_ms)?);
        latencies.add(before.elapsed());
        let wanted = START_MS + time_ms / APART_MS * APART_MS;
        ensure!(found == Some(wanted), "as of {time_ms}: {found:?}, not {wanted}");
        count += 1;
    }
    meter.taken().rate("as_of", count).print();
    Figure::new("as_of_p50_us", latencies.us(0.5), 0.0).print();
    Figure::new("as_of_p99_us", latencies.us(0.99), 0.0).print();
    Ok(())
}
