//! Forebay's engine as a side of the `engine` scenario: one shard, its writer and a reader, through the crate's own doors.

use std::hint::black_box;
use std::path::PathBuf;

use anyhow::Context;
use forebay_bench_stores::data::TTL_MS;
use forebay_bench_stores::{Background, Point, Purpose, Reads, Setup, Sizes, Store};
use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardReader, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog,
    ViewPolicy, open,
};

/// Small beside the 256 MiB of a server, as the data is small beside a server's.
const SEGMENT_BYTES: u64 = 8 << 20;

/// One shard.
pub struct Ours {
    writer: ShardWriter,
    reader: ShardReader,
    _sync: SyncGroup,
}

/// Its reader.
#[derive(Clone)]
pub struct OurReads(ShardReader);

fn identity(purpose: Purpose) -> ShardIdentity {
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

impl Store for Ours {
    type Reads = OurReads;

    fn open(setup: &Setup) -> anyhow::Result<Ours> {
        let sync = SyncGroup::spawn("engine sync", SyncPolicy::default())?;
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
        let (writer, reader) = open(&setup.dir, &identity(setup.purpose), &options, &sync)?;
        Ok(Ours { writer, reader, _sync: sync })
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
        black_box(self.writer.put(&put)?);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        Ok(self.writer.commit()?)
    }

    fn reads(&self) -> OurReads {
        OurReads(self.reader.clone())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        Ok(self.writer.sync_now()?)
    }

    fn sizes(&self) -> Sizes {
        let stats = self.reader.stats();
        Sizes { index: stats.index_bytes, keys: stats.keys }
    }

    fn background(&mut self, what: Background) -> anyhow::Result<bool> {
        match what {
            Background::Expire(now_ms) => {
                self.writer.expire(now_ms)?;
                Ok(true)
            }
            Background::Thin | Background::Checkpoint => Ok(false),
        }
    }

    fn close(self) -> anyhow::Result<()> {
        Ok(self.writer.close()?)
    }
}

impl Reads for OurReads {
    fn get(&self, entity: &[u8], view: u16) -> anyhow::Result<Option<usize>> {
        let pinned = self.0.pin();
        let Some(version) = pinned.latest(entity, view)? else { return Ok(None) };
        Ok(Some(black_box(version.payload()?).len()))
    }

    fn get_many(&self, entity: &[u8], views: &[u16]) -> anyhow::Result<usize> {
        let (pinned, mut found) = (self.0.pin(), Ok(0));
        pinned.latest_many(entity, views, &mut |_, version| {
            let read = version.and_then(|version| version.map(|version| version.payload()).transpose());
            match (black_box(read), &mut found) {
                (Ok(Some(_)), Ok(count)) => *count += 1,
                (Ok(_), _) => {}
                (Err(error), found) => *found = Err(error),
            }
        });
        Ok(found?)
    }

    fn as_of(&self, entity: &[u8], view: u16, time_ms: i64) -> anyhow::Result<Option<i64>> {
        let pinned = self.0.pin();
        let Some(version) = pinned.as_of(entity, view, time_ms, None)? else { return Ok(None) };
        black_box(version.payload()?);
        Ok(Some(version.event_time_ms()))
    }
}

/// The folder beside a store that a checkpoint goes to.
#[allow(dead_code)]
fn beside(setup: &Setup) -> anyhow::Result<PathBuf> {
    Ok(setup.dir.parent().context("a store has a folder around it")?.join("checkpoint"))
}
