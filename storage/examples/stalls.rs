//! How long a put waits at the worst, here: `cargo run --release -p forebay-storage --example stalls [DIR] [MIB]`. Puts of
//! 1 KB as fast as they go, commits of 150; a put waits for its commit. Figures of this machine at this moment; other
//! programs on it show in them, unless this one goes first (`chrt -f 10`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog, ViewPolicy,
    open,
};

type Failure = Box<dyn std::error::Error>;

const BATCH: usize = 150;
const VALUE_BYTES: usize = 900;
/// With header and entity id.
const RECORD_BYTES: usize = 1030;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or(temporary.path().to_path_buf(), PathBuf::from);
    let mib: usize = arguments.next().map_or(Ok(2048), |mib| mib.parse())?;
    std::fs::create_dir_all(&dir)?;
    let group = SyncGroup::spawn("stalls sync", SyncPolicy::default())?;
    let (mut writer, _reader) = open(&dir.join("shard"), &identity(), &Options::default(), &group)?;
    puts(&mut writer, mib)?;
    let closing = Instant::now();
    writer.close()?;
    println!("close: {:.1} ms", closing.elapsed().as_secs_f64() * 1e3);
    std::fs::remove_dir_all(dir.join("shard"))?;
    Ok(())
}

/// Puts and commits; what a put waits is its commit's time and its own.
fn puts(writer: &mut ShardWriter, mib: usize) -> Result<(), Failure> {
    let commits = (mib << 20) / (BATCH * RECORD_BYTES);
    let mut payload = vec![b'x'; VALUE_BYTES];
    let (mut waits, mut longest_put) = (Vec::with_capacity(commits), Duration::ZERO);
    let started = Instant::now();
    for commit in 0..commits {
        let begun = Instant::now();
        for n in 0..BATCH {
            let offset = (commit * BATCH + n) as i64;
            payload[..8].copy_from_slice(&offset.to_le_bytes());
            let one = Instant::now();
            put(writer, offset, &payload)?;
            longest_put = longest_put.max(one.elapsed());
        }
        writer.commit()?;
        waits.push(begun.elapsed());
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{commits} commits of {BATCH} puts of {VALUE_BYTES} B: {:.0} MiB/s", mib as f64 / seconds);
    show("puts and their commit", &mut waits);
    println!("longest single put: {:.2} ms", longest_put.as_secs_f64() * 1e3);
    Ok(())
}

fn put(writer: &mut ShardWriter, offset: i64, payload: &[u8]) -> Result<(), Failure> {
    let entity =
        format!("customer-{:016x}-account", (offset as u64 % 300_000).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    writer.put(&Put {
        view: 1,
        entity: entity.as_bytes(),
        kind: Kind::Value,
        event_time_ms: offset,
        ingest_time_ms: offset,
        expiry_ms: i64::MAX,
        topic: TopicIndex(0),
        offset,
        payload,
    })?;
    Ok(())
}

fn show(what: &str, waits: &mut [Duration]) {
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let (p50, p99, p999, most) = (at(0.5), at(0.99), at(0.999), at(1.0));
    println!("{what}: p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.2} ms, max {most:.2} ms");
}

fn identity() -> ShardIdentity {
    let topic = TopicLog { name: "stalls".to_owned(), topic_id: [1; 16], priority: 0 };
    let (lane, views) = ("stalls".to_owned(), [(1, ViewPolicy::latest("stalls", i64::MAX))].into());
    ShardIdentity { lane, partition: 0, partitions: 1, topics: vec![topic], views }
}
