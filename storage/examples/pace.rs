//! How fast the engine puts and gets here, without learned payloads:
//! `cargo run --release -p forebay-storage --example pace [KEYS] [BYTES] [VIEWS] [DIR]`. 500,000 keys, values of 1,000 bytes,
//! ten views an entity, commits of 1,000, one writer, one reader; figures of this machine at this moment, no comparison.

use std::path::PathBuf;
use std::time::Instant;

use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardReader, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog,
    ViewPolicy, open,
};

const BATCH: u64 = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let keys: u64 = arguments.next().map_or(Ok(500_000), |keys| keys.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(1000), |bytes| bytes.parse())?;
    let views: u16 = arguments.next().map_or(Ok(10), |views| views.parse())?;
    let dir = arguments.next().map_or(temporary.path().to_path_buf(), PathBuf::from);
    let group = SyncGroup::spawn("pace sync", SyncPolicy::default())?;
    let (mut writer, reader) = open(&dir, &identity(views), &Options::default(), &group)?;
    puts("put, new keys", &mut writer, 0, keys, bytes, views)?;
    puts("put, all keys again", &mut writer, keys, keys, bytes, views)?;
    puts("put, and once more", &mut writer, keys * 2, keys, bytes, views)?;
    gets("get, random hot keys", &reader, keys, bytes, views)?;
    gets_of_all_views("get all views of a random entity", &reader, keys, views)?;
    let stats = reader.stats();
    let (bytes, disk) = (stats.index_bytes / stats.keys, stats.disk_bytes >> 20);
    println!("index: {bytes} bytes per key; disk: {disk} MiB in {} segments", stats.segments);
    let started = Instant::now();
    writer.close()?;
    println!("close: {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let (_writer, reader) = open(&dir, &identity(views), &Options::default(), &group)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("open: {seconds:.2} s for {} keys, {} records", reader.stats().keys, keys * 3);
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

fn identity(views: u16) -> ShardIdentity {
    let topic = TopicLog { name: "pace".to_owned(), topic_id: [1; 16], priority: 0 };
    let views = (0..views).map(|view| (view, ViewPolicy::latest("pace", i64::MAX))).collect();
    let lane = "pace".to_owned();
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
    bytes: usize,
    views: u16,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut payload = vec![b'x'; bytes];
    let pace = Pace::start();
    let mut slowest = 0.0_f64;
    for n in 0..count {
        let offset = (first_offset + n) as i64;
        payload[..8].copy_from_slice(&offset.to_le_bytes());
        writer.put(&Put {
            view: (n % u64::from(views)) as u16,
            entity: &entity(n / u64::from(views)),
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

fn gets(
    what: &str,
    reader: &ShardReader,
    keys: u64,
    bytes: usize,
    views: u16,
) -> Result<(), Box<dyn std::error::Error>> {
    let count = 1_000_000;
    let (mut random, mut read) = (1_u64, 0);
    let pace = Pace::start();
    for _ in 0..count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pinned = reader.pin();
        let (n, views) = ((random >> 33) % keys, u64::from(views));
        let version = pinned.latest(&entity(n / views), (n % views) as u16)?.ok_or("a key that was put")?;
        read += version.payload()?.len();
    }
    pace.show(what, count);
    assert_eq!(read, count as usize * bytes);
    Ok(())
}

fn gets_of_all_views(
    what: &str,
    reader: &ShardReader,
    keys: u64,
    views: u16,
) -> Result<(), Box<dyn std::error::Error>> {
    let (count, ids) = (200_000, (0..views).collect::<Vec<_>>());
    let (mut random, mut found) = (1_u64, 0);
    let pace = Pace::start();
    for _ in 0..count {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let entity = entity((random >> 33) % (keys / u64::from(views)));
        reader.pin().latest_many(&entity, &ids, &mut |_, version| {
            found += usize::from(
                version.is_ok_and(|version| version.is_some_and(|version| version.payload().is_ok())),
            );
        });
    }
    pace.show(what, count);
    assert_eq!(found, count as usize * ids.len());
    Ok(())
}
