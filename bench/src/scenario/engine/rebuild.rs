//! How fast our index is there again: from the segments alone, and with what an orderly close leaves. Payloads are tiny,
//! so that there are many entries; rebuilding does not look at payloads.

use forebay_bench_stores::meter::{Figure, Meter};
use forebay_bench_stores::plan::VIEWS;
use forebay_bench_stores::{Plan, Purpose, Setup};
use forebay_storage::{Kind, Put, TopicIndex, open};

use super::ours;

/// Entries beside the keys of the plan.
const TIMES: u64 = 10;

/// Prints the figures.
pub fn run(plan: &Plan) -> anyhow::Result<()> {
    let entries = plan.keys * TIMES;
    let (dir, cache_bytes) = (plan.dir.clone(), plan.cache_bytes);
    let setup = Setup { dir, purpose: Purpose::Latest, cache_bytes, keys: entries };
    fill(&setup, entries)?;
    for (figure, close) in [("rebuild", true), ("open_closed", false)] {
        let meter = Meter::start();
        let (writer, reader) =
            open(&setup.dir, &ours::identity(setup.purpose), &options(&setup), &ours::sync()?)?;
        let taken = meter.taken();
        anyhow::ensure!(reader.stats().keys == entries, "{} keys of {entries}", reader.stats().keys);
        Figure::new(figure, entries as f64 / taken.cpu, taken.cpu * 1e6 / entries as f64).print();
        Figure::new(format!("{figure}_wall"), entries as f64 / taken.seconds, 0.0).print();
        if close {
            writer.close()?;
        }
    }
    Ok(())
}

fn options(setup: &Setup) -> forebay_storage::Options {
    forebay_storage::Options { segment_bytes: 64 << 20, codec_samples: 0, ..ours::options(setup) }
}

/// Leaves a shard as a crash leaves one.
fn fill(setup: &Setup, entries: u64) -> anyhow::Result<()> {
    let (mut writer, _) = open(&setup.dir, &ours::identity(setup.purpose), &options(setup), &ours::sync()?)?;
    let time_ms = forebay_bench_stores::data::START_MS;
    for n in 0..entries {
        writer.put(&Put {
            view: (n % VIEWS + 1) as u16,
            entity: format!("entity-{:020}", n / VIEWS).as_bytes(),
            kind: Kind::Value,
            event_time_ms: time_ms,
            ingest_time_ms: time_ms,
            expiry_ms: time_ms + forebay_bench_stores::data::TTL_MS,
            topic: TopicIndex(0),
            offset: n as i64,
            payload: b"{}",
        })?;
        if n % 1000 == 999 {
            writer.commit()?;
        }
    }
    writer.commit()?;
    Ok(writer.sync_now()?)
}
