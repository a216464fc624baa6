//! Forebay's engine as a side of the `engine` scenario: one shard, its writer and a reader, through the crate's own doors.

use std::hint::black_box;
use std::time::Duration;

use forebay_bench_stores::data::TTL_MS;
use forebay_bench_stores::{Background, Point, Purpose, Reads, Setup, Sizes, Store};
use forebay_storage::{
    Kind, Options, Pinned, Put, ReadError, ShardIdentity, ShardReader, ShardWriter, SyncGroup, SyncPolicy,
    TopicIndex, TopicLog, ViewPolicy, open,
};

/// Small beside the 256 MiB of a server, as the data is small beside a server's.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes that thinning may copy at a time.
const THIN_BYTES: u64 = 256 << 10;
/// Where segments are to go one by one, bytes for each key.
const SMALL_SEGMENT_BYTES: u64 = 5;

/// One shard.
pub struct Ours {
    writer: ShardWriter,
    reader: ShardReader,
    /// Where a checkpoint goes, and what is read from the disk.
    setup: Setup,
    /// Event time of the last data point, ms since the epoch.
    now_ms: i64,
    _sync: SyncGroup,
}

/// Its reader.
#[derive(Clone)]
pub struct OurReads {
    reader: ShardReader,
    /// It may wait for the disk.
    blocking: bool,
    /// What is read, decoded.
    text: Vec<u8>,
}

/// Ten views in one topic.
pub fn identity(purpose: Purpose) -> ShardIdentity {
    let policy = match purpose {
        Purpose::History => ViewPolicy::full,
        _ => ViewPolicy::latest,
    };
    let topic = TopicLog { name: "engine".to_owned(), topic_id: [1; 16], priority: 0 };
    ShardIdentity {
        lane: "engine".to_owned(),
        partition: 0,
        partitions: 1,
        topics: vec![topic],
        views: (1..=10).map(|view| (view, policy("engine", TTL_MS))).collect(),
    }
}

/// Settings of the shard.
pub fn options(setup: &Setup) -> Options {
    let segment_bytes = match setup.purpose {
        Purpose::Expiring | Purpose::Thinned => SMALL_SEGMENT_BYTES * setup.keys,
        _ => SEGMENT_BYTES,
    };
    // A server keeps the newest data resident and reads the rest from the disk, on threads that may wait for it.
    let resident_bytes = if setup.purpose == Purpose::Cold { 0 } else { setup.cache_bytes };
    Options { segment_bytes, resident_bytes, ..Options::default() }
}

/// Syncs as a server does, every 50 ms or 8 MiB.
pub fn sync() -> std::io::Result<SyncGroup> {
    SyncGroup::spawn("engine sync", SyncPolicy::default())
}

impl Store for Ours {
    type Reads = OurReads;
    // A view's coding is learned from its first payloads and once more from the first ten thousand.
    const WARM_UPS: u64 = 3;
    const OURS: bool = true;

    fn open(setup: &Setup) -> anyhow::Result<Ours> {
        let sync = sync()?;
        let (writer, reader) = open(&setup.dir, &identity(setup.purpose), &options(setup), &sync)?;
        Ok(Ours { writer, reader, setup: setup.clone(), now_ms: 0, _sync: sync })
    }

    fn expect<'e>(&mut self, view: u16, entities: impl Iterator<Item = &'e [u8]> + Clone) {
        self.writer.expect(view, entities.map(|entity| (entity, [].as_slice())));
    }

    fn put(&mut self, point: &Point<'_>) -> anyhow::Result<()> {
        let put = Put {
            view: point.view,
            entity: point.entity,
            kind: Kind::Value,
            event_time_ms: point.event_time_ms,
            ingest_time_ms: point.event_time_ms,
            expiry_ms: point.expiry_ms,
            topic: TopicIndex(0),
            offset: point.offset,
            payload: point.payload,
        };
        self.now_ms = point.event_time_ms;
        black_box(self.writer.put(&put)?);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        Ok(self.writer.commit()?)
    }

    fn reads(&self) -> OurReads {
        let blocking = self.setup.purpose == Purpose::Cold;
        OurReads { reader: self.reader.clone(), blocking, text: Vec::new() }
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        while self.writer.is_learning() {
            std::thread::sleep(Duration::from_millis(1));
            // Takes up what was learned.
            self.writer.commit()?;
        }
        if self.setup.purpose == Purpose::Latest {
            // As a lane does at its limit: what is replaced leaves until the rest fits into memory.
            self.background(Background::Thin(self.setup.cache_bytes * 9 / 10))?;
        }
        Ok(self.writer.sync_now()?)
    }

    fn sizes(&self) -> Sizes {
        let stats = self.reader.stats();
        Sizes { index: stats.index_bytes, keys: stats.keys }
    }

    fn background(&mut self, what: Background) -> anyhow::Result<bool> {
        match what {
            Background::Expire(now_ms) => {
                // It works for a millisecond at a time, and waits for other threads.
                while self.writer.expire(now_ms)?.more {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(true)
            }
            Background::Checkpoint => {
                let to = self.setup.dir.with_extension("checkpoint");
                self.reader.checkpoint(&to)?;
                std::fs::remove_dir_all(&to)?;
                Ok(true)
            }
            Background::Thin(limit) => loop {
                let more = self.writer.thin(self.now_ms, THIN_BYTES)?.more;
                if !more || self.reader.stats().disk_bytes <= limit {
                    return Ok(more);
                }
                // It waits for its files to be read ahead and for copies to be synced.
                std::thread::sleep(Duration::from_micros(50));
            },
        }
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(self.writer.close()?)
    }
}

/// Reads as a server does: at once if it is in memory, else once more where waiting for the disk is allowed. (A server
/// changes threads for that; here the reader waits itself.)
fn warm_or_cold<T>(
    reader: &ShardReader,
    blocking: bool,
    mut read: impl FnMut(&Pinned<'_>) -> Result<T, ReadError>,
) -> anyhow::Result<T> {
    if !blocking {
        match read(&reader.pin()) {
            Err(ReadError::Cold) => {}
            read => return Ok(read?),
        }
    }
    Ok(read(&reader.pin_blocking())?)
}

impl Reads for OurReads {
    fn get(&mut self, entity: &[u8], view: u16) -> anyhow::Result<Option<usize>> {
        let OurReads { reader, blocking, text } = self;
        warm_or_cold(reader, *blocking, |pinned| {
            let Some(version) = pinned.latest(entity, view)? else { return Ok(None) };
            text.clear();
            version.payload_into(text)?;
            Ok(Some(black_box(&*text).len()))
        })
    }

    fn get_many(&mut self, entity: &[u8], views: &[u16]) -> anyhow::Result<usize> {
        let OurReads { reader, blocking, text } = self;
        warm_or_cold(reader, *blocking, |pinned| {
            let (mut found, mut failed) = (0, None);
            text.clear();
            pinned.latest_many(entity, views, &mut |_, version| {
                let read =
                    version.and_then(|version| version.map(|version| version.payload_into(text)).transpose());
                match read {
                    Ok(read) => found += usize::from(read.is_some()),
                    Err(error) => failed = Some(error),
                }
            });
            black_box(&*text);
            failed.map_or(Ok(found), Err)
        })
    }

    fn as_of(&mut self, entity: &[u8], view: u16, time_ms: i64) -> anyhow::Result<Option<i64>> {
        let OurReads { reader, blocking, text } = self;
        warm_or_cold(reader, *blocking, |pinned| {
            let Some(version) = pinned.as_of(entity, view, time_ms, None)? else { return Ok(None) };
            text.clear();
            version.payload_into(text)?;
            black_box(&*text);
            Ok(Some(version.event_time_ms()))
        })
    }
}
