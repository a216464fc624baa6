//! The steps about disk: expiry, and updates with thinning.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use crate::beside::{STRETCHES, beside};
use crate::data::{Data, Order, Random, START_MS, TTL_MS};
use crate::meter::{Figure, Meter, file_bytes};
use crate::plan::{BATCH, Plan};
use crate::store::{Background, Purpose, Store};
use crate::work::{Feed, any_key, setup};

const HOUR_MS: i64 = 3_600_000;

/// Two halves, of which the older one expires: what it takes to have the space of most of it back, and what reads of the
/// younger half feel while the rest goes.
pub(crate) fn expiry<S: Store>(plan: &Plan, data: &Data) -> anyhow::Result<()> {
    if !S::EXPIRES {
        return Ok(());
    }
    let mut store = S::open(&setup(plan, Purpose::Expiring))?;
    let half = plan.keys / 2;
    let live = halves(plan, data, &mut store)?;
    // Everything expires this long after it happened: its TTL and the lateness that is allowed.
    let expired = |n: u64| Background::Expire(START_MS + TTL_MS + HOUR_MS + n as i64);
    let most = half * 3 / 4;
    let (disk, meter) = (file_bytes(&plan.dir), Meter::start());
    store.background(expired(most))?;
    let freed = disk.saturating_sub(settled_bytes(&plan.dir)) as f64;
    let taken = meter.taken();
    ensure!(freed > 0.0, "expiry gave no space back");
    Figure::new("expiry_cpu_us", taken.cpu * 1e6 / most as f64, 0.0).print();
    Figure::new("expiry_written_per_freed", taken.written as f64 / freed, 0.0).print();
    if S::OURS {
        let some = |random: &mut Random| live[random.below(live.len() as u64) as usize];
        let left = half - most;
        let ratio = beside(plan, data, &mut store, some, |store, stretch, busy| {
            let upto = most + left * u64::from(stretch) / u64::from(STRETCHES);
            if busy { store.background(expired(upto)).and(Ok(false)) } else { Ok(false) }
        })?;
        Figure::new("read_p99_expire", ratio, 0.0).print();
    }
    Ok(())
}

/// Every key once, the second half so late that it lives when the first has expired; returns the keys of that one.
fn halves<S: Store>(plan: &Plan, data: &Data, store: &mut S) -> anyhow::Result<Vec<u64>> {
    let (mut order, mut live) = (Order::new(plan.keys, 5), Vec::new());
    let half = plan.keys / 2;
    for n in 0..plan.keys {
        let key = order.next_number();
        let mut point = data.point(n, key, plan.keys);
        point.event_time_ms = START_MS + n as i64 + if n < half { 0 } else { TTL_MS + 4 * HOUR_MS };
        point.expiry_ms = point.event_time_ms + TTL_MS;
        store.put(&point)?;
        (n >= half).then(|| live.push(key));
        if n % BATCH == BATCH - 1 {
            store.commit()?;
        }
    }
    store.commit()?;
    store.settle()?;
    Ok(live)
}

/// Bytes of the files once no more of them go.
fn settled_bytes(dir: &Path) -> u64 {
    let mut bytes = file_bytes(dir);
    loop {
        std::thread::sleep(Duration::from_millis(30));
        match file_bytes(dir) {
            same if same == bytes => return same,
            other => bytes = other,
        }
    }
}

/// Updates while what they replace is thinned out.
pub(crate) fn space<S: Store>(plan: &Plan, data: &Data) -> anyhow::Result<()> {
    let mut feed = Feed::new(data, plan.keys);
    let mut store = S::open(&setup(plan, Purpose::Thinned))?;
    feed.warm_up(&mut store)?;
    let before = file_bytes(&plan.dir);
    feed.load(&mut store)?;
    store.settle()?;
    let stored = file_bytes(&plan.dir).saturating_sub(before) as f64;
    // 60 % of the disk are current values; those of the warm-up, a quarter more, are there to stay too.
    let limit = (stored * 1.25 / 0.6) as u64;
    // Until the dead share is what it will be.
    (6..9).try_for_each(|pass| feed.pass_thinning(&mut store, pass, limit))?;
    let raw = feed.raw;
    let (meter, count) = (Meter::start(), 3 * plan.keys);
    (9..12).try_for_each(|pass| feed.pass_thinning(&mut store, pass, limit))?;
    let taken = meter.taken();
    taken.rate("tight_update", count).print();
    Figure::new("tight_written_per_raw", taken.written as f64 / (feed.raw - raw) as f64, 0.0).print();
    Figure::new("tight_written_per_stored", taken.written as f64 / (3.0 * stored), 0.0).print();
    Figure::new("tight_use", stored * 1.25 / settled_bytes(&plan.dir) as f64, 0.0).print();
    let mut order = Order::new(plan.keys, 12);
    let ratio = beside(plan, data, &mut store, any_key(plan), |store, _, busy| {
        (0..BATCH).try_for_each(|_| feed.put(store, order.next_number()))?;
        if busy {
            store.background(Background::Thin(limit))?;
        }
        // As fast as a burst, so that the other core is left to who reads.
        std::thread::sleep(Duration::from_micros(3000));
        Ok(true)
    })?;
    Figure::new("read_p99_thin", ratio, 0.0).print();
    Ok(())
}
