//! A small shard to damage: its files, right checksums for wrong content, and reading all of it. Called by the targets that
//! open whole directories; knows of the format what `FORMAT.md` says.

use std::path::Path;
use std::sync::OnceLock;

use forebay_storage::{
    Kind, Options, Put, ShardIdentity, SyncGroup, SyncPolicy, TopicIndex, TopicLog, ViewPolicy, open,
};
use xxhash_rust::xxh3::xxh3_64;

const ENTITIES: u8 = 4;
const DAY_MS: i64 = 86_400_000;

fn identity() -> ShardIdentity {
    let topic = TopicLog { name: "t".to_owned(), topic_id: [1; 16], priority: 0 };
    let views = [(1, ViewPolicy::full("full", DAY_MS)), (2, ViewPolicy::latest("latest", DAY_MS))];
    ShardIdentity { lane: "l".to_owned(), partition: 0, partitions: 1, topics: vec![topic], views: views.into() }
}

fn options() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::default() }
}

fn group() -> &'static SyncGroup {
    static GROUP: OnceLock<SyncGroup> = OnceLock::new();
    let policy = SyncPolicy { interval_ms: u64::MAX >> 1, bytes: u64::MAX };
    GROUP.get_or_init(|| SyncGroup::spawn("fuzz", policy).expect("a thread"))
}

/// The files of a closed shard with two segments, by name below its directory.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut writer, _) = open(dir.path(), &identity(), &options(), group()).expect("a shard");
    for offset in 0..40_i64 {
        let payload = if offset == 1 { vec![b'x'; 60_000] } else { format!("{{\"at\":{offset}}}").into_bytes() };
        let late = if offset % 5 == 0 { 100 } else { 0 };
        let put = Put {
            view: 1 + (offset % 2) as u16,
            entity: &[b'a' + (offset % i64::from(ENTITIES)) as u8],
            kind: Kind::Value,
            event_time_ms: 1_700_000_000_000 + offset * 1000 - late * 1000,
            ingest_time_ms: 1_700_000_000_000 + offset * 1000,
            expiry_ms: 1_700_000_000_000 + DAY_MS,
            topic: TopicIndex(0),
            offset,
            payload: &payload,
        };
        writer.put(&put).expect("a put");
        writer.commit().expect("a commit");
    }
    writer.close().expect("a close");
    let mut files = Vec::new();
    below(dir.path(), dir.path(), &mut files);
    files.sort();
    files
}

fn below(root: &Path, dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            below(root, &path, into);
        } else {
            let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
            into.push((name, std::fs::read(&path).expect("a file")));
        }
    }
}

/// Puts files into an empty directory.
pub fn write(dir: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }
}

/// Opens a shard and asks it everything; errors are answers.
pub fn read_all(dir: &Path) {
    let Ok((mut writer, reader)) = open(dir, &identity(), &options(), group()) else { return };
    for (entity, view) in (0..ENTITIES).flat_map(|entity| [(entity, 1), (entity, 2)]) {
        let (entity, pinned) = ([b'a' + entity], reader.pin());
        if let Ok(Some(version)) = pinned.latest(&entity, view) {
            let _ = version.payload();
        }
        let _ = pinned.as_of(&entity, view, 1_700_000_010_000, Some(1_700_000_020_000));
        for version in pinned.history(&entity, view, &Default::default()).take(1000).flatten() {
            let _ = version.payload();
        }
    }
    let _ = reader.digest();
    let put = Put {
        view: 1,
        entity: b"a",
        kind: Kind::Value,
        event_time_ms: 1_700_000_500_000,
        ingest_time_ms: 1_700_000_500_000,
        expiry_ms: i64::MAX,
        topic: TopicIndex(0),
        offset: 1_000,
        payload: b"{}",
    };
    let _ = writer.put(&put).and_then(|_| writer.commit());
    let _ = writer.expire(i64::MAX);
    let _ = writer.close();
}

/// Gives damaged content right checksums where it is plain which they are.
pub fn reseal(name: &str, bytes: &mut [u8]) {
    if name.ends_with("MANIFEST") {
        reseal_manifest(bytes);
    } else if name.ends_with(".seg") {
        reseal_segment(bytes);
    }
}

/// `forebay-shard FORMAT SUM` and a line's end; the sum has 16 digits.
fn reseal_manifest(bytes: &mut [u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
    let (line, json) = bytes.split_at_mut(end + 1);
    if let Some(at) = end.checked_sub(16) {
        line[at..end].copy_from_slice(format!("{:016x}", xxh3_64(json)).as_bytes());
    }
}

fn number(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).map_or(0, |four| u32::from_le_bytes(four.try_into().expect("four")) as usize)
}

fn put_sum(bytes: &mut [u8], at: usize, sum: u64) {
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}

fn reseal_segment(bytes: &mut [u8]) {
    if bytes.len() < 128 {
        return;
    }
    let sum = xxh3_64(&bytes[..120]);
    put_sum(bytes, 120, sum);
    reseal_footer(bytes);
    let (mut at, mut previous) = (128, None);
    while bytes.get(at..at + 8) == Some(b"FBYFRAME") && at + 80 <= bytes.len() {
        let end = at + 80 + number(bytes, at + 56);
        let Some(body) = bytes.get(at + 80..end) else { return };
        let sum = xxh3_64(body);
        put_sum(bytes, at + 8, sum);
        if let Some(previous) = previous {
            put_sum(bytes, at + 40, previous);
        }
        let sum = xxh3_64(&bytes[at..at + 72]);
        put_sum(bytes, at + 72, sum);
        (at, previous) = (end, Some(sum));
    }
}

/// Entries of 32 bytes with a sum of their own, positions of 24, a trailer of 128 that ends with the sum of both.
fn reseal_footer(bytes: &mut [u8]) {
    let end = bytes.len();
    let trailer = end - 128;
    let (entries, topics) = (number(bytes, trailer + 28), number(bytes, trailer + 32));
    let positions = topics.checked_mul(24).and_then(|positions| trailer.checked_sub(positions));
    let Some(positions) = positions else { return };
    let first = entries.checked_mul(32).and_then(|entries| positions.checked_sub(entries));
    if let Some(first) = first {
        let sum = xxh3_64(&bytes[first..positions]);
        put_sum(bytes, end - 16, sum);
    }
    let sum = xxh3_64(&bytes[positions..end - 8]);
    put_sum(bytes, end - 8, sum);
}
