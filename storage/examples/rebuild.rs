//! How fast an index is loaded from its checkpoint, and rebuilt from footers, on one core: `cargo run --release -p forebay-storage --example rebuild
//! [ENTRIES] [VIEWS]`. 10,000,000 entries of small records, ten views an entity, in memory; figures of this machine at this
//! moment, no comparison.

use std::path::Path;
use std::time::Instant;

use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog, ViewPolicy,
    open,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let entries: u64 = arguments.next().map_or(Ok(10_000_000), |entries| entries.parse())?;
    let views: u16 = arguments.next().map_or(Ok(10), |views| views.parse())?;
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? };
    let group = SyncGroup::spawn("rebuild sync", SyncPolicy::default())?;
    // The frames of the last segment are read, not its footer: let it be small.
    let options = Options { segment_bytes: 32 << 20, ..Options::default() };
    let (mut writer, _) = open(dir.path(), &identity(views), &options, &group)?;
    puts(&mut writer, entries, views)?;
    writer.close()?;
    let index = dir.path().join("index");
    for round in 1..=4 {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (writer, reader) = open(dir.path(), &identity(views), &options, &group)?;
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let (keys, bytes, replayed) =
            (reader.stats().keys, reader.stats().index_bytes, reader.open_report().replayed);
        let (what, count) = if replayed == 0 { ("load, keys", keys) } else { ("rebuild, entries", replayed) };
        let rate = count as f64 / cpu / 1e6;
        println!(
            "{round} {what}: {rate:.1} M/s per core, {wall:.2} s by the wall, {keys} keys, {bytes} bytes"
        );
        drop(writer);
        if round == 1 && index.is_dir() {
            std::fs::remove_dir_all(&index)?;
        }
    }
    Ok(())
}

/// Seconds this thread has run.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn identity(views: u16) -> ShardIdentity {
    let topic = TopicLog { name: "rebuild".to_owned(), topic_id: [1; 16], priority: 0 };
    let views = (0..views).map(|view| (view, ViewPolicy::latest("rebuild", i64::MAX))).collect();
    ShardIdentity { lane: "rebuild".to_owned(), partition: 0, partitions: 1, topics: vec![topic], views }
}

/// Each entity's views come together, each entity twice.
fn puts(writer: &mut ShardWriter, entries: u64, views: u16) -> Result<(), Box<dyn std::error::Error>> {
    let views = u64::from(views);
    let entities = entries.div_ceil(views * 2);
    for n in 0..entries {
        // Odd, so that it walks through all entities in an order that has nothing to do with theirs.
        let entity = (n / views).wrapping_mul(2_654_435_761) % entities;
        writer.put(&Put {
            view: (n % views) as u16,
            entity: &entity.to_le_bytes(),
            kind: Kind::Value,
            event_time_ms: n as i64,
            ingest_time_ms: n as i64,
            expiry_ms: i64::MAX,
            topic: TopicIndex(0),
            offset: n as i64,
            payload: b"",
        })?;
        if n % 10_000 == 9_999 {
            writer.commit()?;
        }
    }
    Ok(writer.commit()?)
}
