//! fjall with the settings its documentation recommends. Keys and values as for RocksDB.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use forebay_bench_stores::{Background, Point, Purpose, Reads, Setup, Sizes, Store};

use super::rocks::{HEADER, header, key, version_key};

/// One keyspace and the thread that syncs its journal.
pub struct Fjall {
    db: Database,
    keyspace: Keyspace,
    purpose: Purpose,
    batch: Option<OwnedWriteBatch>,
    stop: Arc<AtomicBool>,
    sync: Option<JoinHandle<()>>,
}

/// Its reader.
#[derive(Clone)]
pub struct FjallReads(Keyspace);

impl Store for Fjall {
    type Reads = FjallReads;
    const EXPIRES: bool = false;

    fn open(setup: &Setup) -> anyhow::Result<Fjall> {
        // Half of the memory caches blocks, half takes what is written.
        let half = setup.cache_bytes / 2;
        let settings = Database::builder(&setup.dir).cache_size(half).max_write_buffer_size(Some(half));
        let db = settings.open()?;
        let keyspace =
            db.keyspace("data", || KeyspaceCreateOptions::default().expect_point_read_hits(true))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (for_thread, stopped) = (db.clone(), stop.clone());
        let sync = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(50));
                if let Err(error) = for_thread.persist(PersistMode::SyncData) {
                    eprintln!("fjall: {error}");
                }
            }
        });
        Ok(Fjall { db, keyspace, purpose: setup.purpose, batch: None, stop, sync: Some(sync) })
    }

    fn put(&mut self, point: &Point<'_>) -> anyhow::Result<()> {
        let mut value = Vec::with_capacity(HEADER + point.payload.len());
        value.extend_from_slice(&header(point));
        value.extend_from_slice(point.payload);
        let key = match self.purpose {
            Purpose::History => version_key(point.entity, point.view, point.event_time_ms),
            _ => key(point.entity, point.view),
        };
        self.batch.get_or_insert_with(|| self.db.batch()).insert(&self.keyspace, key, value);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        match self.batch.take() {
            Some(batch) => Ok(batch.commit()?),
            None => Ok(()),
        }
    }

    fn reads(&self) -> FjallReads {
        FjallReads(self.keyspace.clone())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.db.outstanding_flushes() + self.db.active_compactions() > 0 {
            anyhow::ensure!(Instant::now() < deadline, "fjall compacts for more than a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        Sizes::default()
    }

    fn background(&mut self, _: Background) -> anyhow::Result<bool> {
        Ok(false)
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

impl Drop for Fjall {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sync) = self.sync.take() {
            let _ = sync.join();
        }
    }
}

impl Reads for FjallReads {
    fn get(&mut self, entity: &[u8], view: u16) -> anyhow::Result<Option<usize>> {
        let value = self.0.get(key(entity, view))?;
        Ok(value.map(|value| black_box(&value[..]).len() - HEADER))
    }

    fn get_many(&mut self, entity: &[u8], views: &[u16]) -> anyhow::Result<usize> {
        let mut found = 0;
        for view in views {
            found += usize::from(black_box(self.0.get(key(entity, *view))?).is_some());
        }
        Ok(found)
    }

    fn as_of(&mut self, entity: &[u8], view: u16, time_ms: i64) -> anyhow::Result<Option<i64>> {
        let (from, to) = (version_key(entity, view, time_ms), version_key(entity, view, 0));
        let Some(version) = self.0.range(from.clone()..=to).next() else { return Ok(None) };
        let (found, value) = version.into_inner()?;
        black_box(&value);
        let inverted = found.get(from.len() - 8..).unwrap_or_default();
        Ok(Some(!i64::from_be_bytes(inverted.try_into()?)))
    }
}
