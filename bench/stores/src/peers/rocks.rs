//! RocksDB, set up as its own guide says for point writes and point reads of values of 1 KB. Keys are entity and view, so
//! that the views of an entity lie together; values are the times and the payload. Where an older value could overwrite
//! a newer one it is not asked: what Forebay does on every put would cost RocksDB a read before it.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use forebay_bench_stores::{Background, Point, Purpose, Reads, Setup, Sizes, Store};
use rocksdb::compaction_filter::Decision;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DataBlockIndexType, Direction, FlushOptions, IteratorMode, Options, WriteBatch,
};

/// Event time, ingest time, expiry.
pub const HEADER: usize = 24;
const FAMILY: &str = "default";

/// One database and the thread that syncs its log.
pub struct Rocks {
    db: Arc<DB>,
    purpose: Purpose,
    batch: WriteBatch,
    value: Vec<u8>,
    /// Values that expire at or before this are dropped by compactions.
    now_ms: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    sync: Option<JoinHandle<()>>,
}

/// Its reader.
#[derive(Clone)]
pub struct RocksReads(Arc<DB>);

/// Views of an entity lie together.
pub fn key(entity: &[u8], view: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.len() + 10);
    key.extend_from_slice(entity);
    key.extend_from_slice(&view.to_be_bytes());
    key
}

/// Later versions first.
pub fn version_key(entity: &[u8], view: u16, time_ms: i64) -> Vec<u8> {
    let mut key = key(entity, view);
    key.extend_from_slice(&(!time_ms).to_be_bytes());
    key
}

/// What a value begins with.
pub fn header(point: &Point<'_>) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let times = [point.event_time_ms, point.event_time_ms, point.expiry_ms];
    for (to, time) in header.chunks_exact_mut(8).zip(times) {
        to.copy_from_slice(&time.to_le_bytes());
    }
    header
}

fn table(cache_bytes: u64) -> anyhow::Result<BlockBasedOptions> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(cache_bytes as usize)?);
    table.set_block_size(4 << 10);
    table.set_format_version(5);
    table.set_bloom_filter(10.0, false);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    Ok(table)
}

fn options(setup: &Setup, now_ms: &Arc<AtomicI64>) -> anyhow::Result<Options> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table(setup.cache_bytes / 2)?);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    // Half of the memory caches blocks, half takes what is written.
    options.set_write_buffer_size(setup.cache_bytes as usize / 8);
    options.set_max_write_buffer_number(4);
    options.set_max_background_jobs(4);
    options.set_bytes_per_sync(1 << 20);
    options.set_optimize_filters_for_hits(true);
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.1);
    if setup.purpose == Purpose::Expiring {
        let now_ms = now_ms.clone();
        options.set_compaction_filter("ttl", move |_, _, value: &[u8]| {
            let expiry_ms =
                value.get(16..HEADER).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
            match expiry_ms {
                Some(expiry_ms) if expiry_ms <= now_ms.load(Ordering::Relaxed) => Decision::Remove,
                _ => Decision::Keep,
            }
        });
    }
    Ok(options)
}

impl Store for Rocks {
    type Reads = RocksReads;

    fn open(setup: &Setup) -> anyhow::Result<Rocks> {
        let now_ms = Arc::new(AtomicI64::new(i64::MIN));
        let options = options(setup, &now_ms)?;
        let family = ColumnFamilyDescriptor::new(FAMILY, options.clone());
        let db = Arc::new(DB::open_cf_descriptors(&options, &setup.dir, [family])?);
        let stop = Arc::new(AtomicBool::new(false));
        let (for_thread, stopped) = (db.clone(), stop.clone());
        // The same promise as Forebay's: what is written is synced within 50 ms, by a thread that does not hold the writer.
        let sync = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if let Err(error) = for_thread.flush_wal(true) {
                    eprintln!("RocksDB: {error}");
                }
            }
        });
        let purpose = setup.purpose;
        let (batch, value) = (WriteBatch::default(), Vec::new());
        Ok(Rocks { db, purpose, batch, value, now_ms, stop, sync: Some(sync) })
    }

    fn put(&mut self, point: &Point<'_>) -> anyhow::Result<()> {
        self.value.clear();
        self.value.extend_from_slice(&header(point));
        self.value.extend_from_slice(point.payload);
        let key = match self.purpose {
            Purpose::History => version_key(point.entity, point.view, point.event_time_ms),
            _ => key(point.entity, point.view),
        };
        self.batch.put(key, &self.value);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        Ok(self.db.write(std::mem::take(&mut self.batch))?)
    }

    fn reads(&self) -> RocksReads {
        RocksReads(self.db.clone())
    }

    /// Flushes and compacts everything, which is the best state for reads and for the disk.
    fn settle(&mut self) -> anyhow::Result<()> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        self.db.flush_opt(&flush)?;
        let mut compact = CompactOptions::default();
        compact.set_bottommost_level_compaction(BottommostLevelCompaction::Skip);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &compact);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.number("rocksdb.num-running-compactions") + self.number("rocksdb.num-running-flushes") > 0
        {
            anyhow::ensure!(Instant::now() < deadline, "RocksDB compacts for more than a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        let keys = self.number("rocksdb.estimate-num-keys");
        Sizes { index: self.number("rocksdb.estimate-table-readers-mem"), keys }
    }

    fn background(&mut self, what: Background) -> anyhow::Result<bool> {
        let Background::Expire(now_ms) = what else { return Ok(false) };
        self.now_ms.store(now_ms, Ordering::Relaxed);
        let mut compact = CompactOptions::default();
        compact.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &compact);
        Ok(true)
    }

    fn close(self) -> anyhow::Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

impl Rocks {
    fn number(&self, property: &str) -> u64 {
        self.db.property_int_value(property).ok().flatten().unwrap_or(0)
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sync) = self.sync.take() {
            let _ = sync.join();
        }
    }
}

impl Reads for RocksReads {
    fn get(&mut self, entity: &[u8], view: u16) -> anyhow::Result<Option<usize>> {
        let value = self.0.get_pinned(key(entity, view))?;
        Ok(value.map(|value| black_box(&value[..]).len() - HEADER))
    }

    fn get_many(&mut self, entity: &[u8], views: &[u16]) -> anyhow::Result<usize> {
        let family = self.0.cf_handle(FAMILY).context("the default family")?;
        let keys = views.iter().map(|view| key(entity, *view));
        let mut found = 0;
        for value in self.0.batched_multi_get_cf(family, keys, true) {
            found += usize::from(black_box(value?).is_some());
        }
        Ok(found)
    }

    fn as_of(&mut self, entity: &[u8], view: u16, time_ms: i64) -> anyhow::Result<Option<i64>> {
        let from = version_key(entity, view, time_ms);
        let mut versions = self.0.iterator(IteratorMode::From(&from, Direction::Forward));
        let Some(version) = versions.next() else { return Ok(None) };
        let (found, value) = version?;
        if !found.starts_with(&from[..from.len() - 8]) {
            return Ok(None);
        }
        black_box(&value);
        let inverted = found.get(from.len() - 8..).ok_or_else(|| anyhow!("a short key"))?;
        Ok(Some(!i64::from_be_bytes(inverted.try_into()?)))
    }
}
