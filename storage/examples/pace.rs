//! How fast the engine puts and gets here: `cargo run --release -p forebay-storage --example pace [DIR] [KEYS]`.
//! 1 KB values, commits of 1,000, one writer, one reader; figures of this machine at this moment, no comparison.

use std::path::PathBuf;
use std::time::Instant;

use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardReader, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog,
    ViewPolicy, open,
};

const VALUE_BYTES: usize = 1000;
const BATCH: u64 = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let dir = arguments.next().map_or(temporary.path().to_path_buf(), PathBuf::from);
    let keys: u64 = arguments.next().map_or(Ok(500_000), |keys| keys.parse())?;
    let group = SyncGroup::spawn("pace sync", SyncPolicy::default())?;
    let (mut writer, reader) = open(&dir, &identity(), &Options::default(), &group)?;
    puts("put, new keys", &mut writer, 0, keys)?;
    puts("put, all keys again", &mut writer, keys, keys)?;
    gets("get, random hot keys", &reader, keys)?;
    let stats = reader.stats();
    let (bytes, disk) = (stats.index_bytes / stats.keys, stats.disk_bytes >> 20);
    println!("index: {bytes} bytes per key; disk: {disk} MiB in {} segments", stats.segments);
    let started = Instant::now();
    writer.close()?;
    println!("close: {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let (_writer, reader) = open(&dir, &identity(), &Options::default(), &group)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("open: {seconds:.2} s for {} keys, {} records", reader.stats().keys, keys * 2);
    Ok(())
}

/// Time since some moment: by the wall, and what this thread had of a core, which tells on a busy machine.
struct Pace {
    wall: Instant,
    cpu: f64,
}

impl Pace {
    fn start() -> Pace {
        Pace { wall: Instant::now(), cpu: cpu_seconds() }
    }

    fn show(&self, what: &str, count: u64) {
        let (wall, cpu) = (self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu);
        let (rate, on_core) = (count as f64 / wall / 1e6, count as f64 / cpu / 1e6);
        println!(
            "{what}: {rate:.2} M/s by the wall, {on_core:.2} M/s per core, {:.2} µs each",
            cpu * 1e6 / count as f64
        );
    }
}

/// Seconds this thread has run.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

fn identity() -> ShardIdentity {
    let topic = TopicLog { name: "pace".to_owned(), topic_id: [1; 16], priority: 0 };
    let (lane, views) = ("pace".to_owned(), [(1, ViewPolicy::latest("pace", i64::MAX))].into());
    ShardIdentity { lane, partition: 0, partitions: 1, topics: vec![topic], views }
}

/// 33 bytes, as entity ids are on average.
fn entity(n: u64) -> [u8; 33] {
    let mut id = *b"customer-0000000000000000-account";
    let mut digits = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for byte in &mut id[9..25] {
        *byte = b'a' + (digits & 15) as u8;
        digits >>= 4;
    }
    id
}

fn puts(
    what: &str,
    writer: &mut ShardWriter,
    first_offset: u64,
    count: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut payload = vec![b'x'; VALUE_BYTES];
    let pace = Pace::start();
    let mut slowest = 0.0_f64;
    for n in 0..count {
        let offset = (first_offset + n) as i64;
        payload[..8].copy_from_slice(&offset.to_le_bytes());
        writer.put(&Put {
            view: 1,
            entity: &entity(n),
            kind: Kind::Value,
            event_time_ms: offset,
            ingest_time_ms: offset,
            expiry_ms: i64::MAX,
            topic: TopicIndex(0),
            offset,
            payload: &payload,
        })?;
        if n % BATCH == BATCH - 1 {
            let commit = Instant::now();
            writer.commit()?;
            slowest = slowest.max(commit.elapsed().as_secs_f64());
        }
    }
    writer.commit()?;
    pace.show(what, count);
    println!("  slowest commit {:.1} ms", slowest * 1e3);
    Ok(())
}

fn gets(what: &str, reader: &ShardReader, keys: u64) -> Result<(), Box<dyn std::error::Error>> {
    let count = 1_000_000;
    let (mut random, mut bytes) = (1_u64, 0);
    let pace = Pace::start();
    for _ in 0..count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pinned = reader.pin();
        let version = pinned.latest(&entity((random >> 33) % keys), 1)?.ok_or("a key that was put")?;
        bytes += version.payload()?.len();
    }
    pace.show(what, count);
    assert_eq!(bytes, count as usize * VALUE_BYTES);
    Ok(())
}
