//! Writes a shard in today's format and what is in it, for tests of later formats to read:
//! `cargo run --release -p forebay-storage --example fixture DIR` makes `DIR/shard` and `DIR/expected.jsonl`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use forebay_storage::{
    Kind, Options, Put, ShardIdentity, ShardWriter, SyncGroup, SyncPolicy, TopicIndex, TopicLog, ViewPolicy,
    open,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Name and priority; the id is the length of the name in each byte.
const TOPICS: [(&str, u8); 3] = [("b.main", 1), ("a.backfill", 1), ("c.corrections", 7)];
const VIEWS: [u16; 3] = [1, 700, 31];
const BASE_MS: i64 = 1_700_000_000_000;

/// What was put, by key; a version by what orders it.
type Written = BTreeMap<(u16, Vec<u8>), BTreeMap<(i64, bool, u8, &'static str, i64), String>>;

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).ok_or("which directory?")?;
    let (dir, mut written) = (Path::new(&dir), Written::new());
    let shard = dir.join("shard");
    let group = SyncGroup::spawn("fixture sync", SyncPolicy::default())?;
    let mut writer = open(&shard, &identity(), &options(), &group)?.0;
    put_all(&mut writer, 0..700, &mut written)?;
    writer.close()?;
    // After the index checkpoint of the close: frames that an opening has to read.
    let mut writer = open(&shard, &identity(), &options(), &group)?.0;
    put_all(&mut writer, 700..750, &mut written)?;
    writer.sync_now()?;
    drop((writer, group));
    std::fs::remove_file(shard.join("LOCK"))?;
    std::fs::write(dir.join("expected.jsonl"), expected(&written, 749)?)?;
    Ok(())
}

fn identity() -> ShardIdentity {
    let topic = |(name, priority): (&str, u8)| TopicLog {
        name: name.to_owned(),
        topic_id: [name.len() as u8; 16],
        priority,
    };
    let policy = |view: u16| match view {
        31 => ViewPolicy::latest("view 31", 1_000_000),
        _ => ViewPolicy::full(&format!("view {view}"), 1_000_000),
    };
    ShardIdentity {
        lane: "standard".to_owned(),
        partition: 3,
        partitions: 8,
        topics: TOPICS.into_iter().map(topic).collect(),
        views: VIEWS.into_iter().map(|id| (id, policy(id))).collect(),
    }
}

fn options() -> Options {
    Options { segment_bytes: 64 << 10, codec_samples: 32, checkpoint_bytes: u64::MAX, ..Options::default() }
}

/// Values, tombstones and late ones; commits of one to seven; waits while a view is learned, so that it is used soon.
fn put_all(writer: &mut ShardWriter, numbers: std::ops::Range<i64>, written: &mut Written) -> Result<()> {
    for n in numbers {
        let long = "x".repeat(255);
        let entity = match n % 13 {
            12 => long,
            entity => format!("modem-{entity}"),
        };
        // Every eleventh comes late, by a fifth of what there is.
        let event_time_ms = BASE_MS + if n % 11 == 10 { n * 800 + 1 } else { n * 1000 };
        let kind = if n % 29 == 28 { Kind::Tombstone } else { Kind::Value };
        let payload = match kind {
            Kind::Value => format!(
                "{{\"id\":\"{:08x}\",\"snr_db\":{}.{},\"online\":{}}}",
                n * 7919,
                n % 40,
                n % 10,
                n % 3 == 0
            ),
            Kind::Tombstone => String::new(),
        };
        let (view, topic) = (VIEWS[n as usize % 7 % 3], n as usize % 3);
        let put = Put {
            view,
            entity: entity.as_bytes(),
            kind,
            event_time_ms,
            ingest_time_ms: BASE_MS + n * 1000 + topic as i64 * 50,
            expiry_ms: event_time_ms + 1_000_000,
            topic: TopicIndex(topic as u16),
            offset: n,
            payload: payload.as_bytes(),
        };
        writer.put(&put)?;
        let (name, priority) = TOPICS[topic];
        let order = (event_time_ms, kind == Kind::Tombstone, priority, name, n);
        let versions = written.entry((view, entity.clone().into_bytes())).or_default();
        versions.insert(order, line(&put, &payload)?);
        if n % 7 < 3 {
            writer.commit()?;
        }
        while writer.is_learning() {
            std::thread::yield_now();
            writer.commit()?;
        }
    }
    writer.commit()?;
    Ok(())
}

fn line(put: &Put<'_>, payload: &str) -> Result<String> {
    let mut hex = String::new();
    for byte in put.entity {
        write!(hex, "{byte:02x}")?;
    }
    let kind = if put.kind == Kind::Value { "value" } else { "tombstone" };
    Ok(serde_json::to_string(&serde_json::json!({
        "view": put.view, "entity": hex, "kind": kind, "event_time_ms": put.event_time_ms,
        "ingest_time_ms": put.ingest_time_ms, "expiry_ms": put.expiry_ms, "topic": put.topic.0,
        "offset": put.offset, "payload": payload,
    }))?)
}

/// Positions, then the versions of each key, newest first.
fn expected(written: &Written, last: i64) -> Result<String> {
    let mut text = String::new();
    for topic in 0..TOPICS.len() as i64 {
        let position = last - (last - topic).rem_euclid(3);
        writeln!(text, "{{\"topic\":{topic},\"position\":{position}}}")?;
    }
    for version in written.values().flat_map(|versions| versions.values().rev()) {
        writeln!(text, "{version}")?;
    }
    Ok(text)
}
