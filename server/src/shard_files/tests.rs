//! A shard of several classes against what one of a single class would say: divided, cut off between its commits, grown
//! by a class, robbed of one.

use std::collections::BTreeMap;
use std::path::Path;

use forebay_storage::{
    Kind, Options, Outcome, Put, ShardIdentity, SyncGroup, SyncPolicy, TopicIndex, TopicLog, ViewPolicy,
};

use super::{Directories, FilesError, Writers, open};

const HOUR: i64 = 3_600_000;
/// A view that keeps the newest for a week, one that keeps it for a day, one that keeps all.
const WEEK: u16 = 1;
const DAY: u16 = 2;
const ALL: u16 = 3;

fn views(ids: &[u16]) -> BTreeMap<u16, ViewPolicy> {
    let policy = |id| match id {
        WEEK => ViewPolicy::latest("week", 168 * HOUR),
        DAY => ViewPolicy::latest("day", 24 * HOUR),
        _ => ViewPolicy::full("all", 168 * HOUR),
    };
    ids.iter().map(|id| (*id, policy(*id))).collect()
}

fn identity(ids: &[u16]) -> ShardIdentity {
    let topics = vec![TopicLog { name: "t".into(), topic_id: [1; 16], priority: 0 }];
    ShardIdentity { lane: "main".into(), partition: 0, partitions: 1, topics, views: views(ids) }
}

struct Bed {
    dir: tempfile::TempDir,
    sync: SyncGroup,
}

impl Bed {
    fn new() -> Bed {
        let sync = SyncGroup::spawn("test-sync", SyncPolicy::default()).expect("a thread");
        Bed { dir: tempfile::tempdir().expect("a directory"), sync }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn options() -> Options {
        Options { segment_bytes: 1 << 20, ..Options::default() }
    }

    fn open(&self, ids: &[u16]) -> Result<Writers, FilesError> {
        let (dir, identity) = (self.dir().to_owned(), identity(ids));
        open(&Directories { dir, identity, options: Bed::options(), sync: &self.sync })
    }
}

fn put<'a>(view: u16, offset: i64, payload: &'a str) -> Put<'a> {
    Put {
        view,
        entity: b"e",
        kind: Kind::Value,
        event_time_ms: 1000 + offset,
        ingest_time_ms: 1000 + offset,
        expiry_ms: 24 * HOUR,
        topic: TopicIndex(0),
        offset,
        payload: payload.as_bytes(),
    }
}

fn latest(shard: &Writers, view: u16) -> Option<String> {
    let pin = shard.readers().of(view).pin_blocking();
    let found = pin.latest(b"e", view).expect("whole");
    found.map(|version| String::from_utf8(version.payload().expect("whole").into_owned()).expect("text"))
}

#[test]
fn each_view_is_in_the_directory_of_its_class_and_all_stay_in_step() {
    let bed = Bed::new();
    let mut shard = bed.open(&[WEEK, DAY, ALL]).unwrap();
    for (offset, view) in [WEEK, DAY, ALL].into_iter().enumerate() {
        let payload = format!("{{\"view\":{view}}}");
        assert_eq!(shard.put(0, &put(view, offset as i64, &payload)).unwrap(), Outcome::Current);
    }
    shard.skip(0, 5, 2000);
    shard.commit().unwrap();
    assert!(bed.dir().join("latest-2d/MANIFEST").exists() && bed.dir().join("full-8d/MANIFEST").exists());
    let readers = shard.readers().clone();
    assert_eq!(readers.applied(0), Some(5));
    assert_eq!(readers.stats().keys, 3);
    for reader in readers.all() {
        assert_eq!((reader.stats().keys, reader.applied(TopicIndex(0)).map(|last| last.0)), (1, Some(5)));
    }
    let shares = readers.share(&[ALL, WEEK, DAY], &[7, 8, 9]);
    let shared: Vec<_> = shares.iter().map(|share| (share.views.to_vec(), share.columns.to_vec())).collect();
    assert_eq!(shared, [(vec![WEEK], vec![8]), (vec![DAY], vec![9]), (vec![ALL], vec![7])]);
    shard.close().unwrap();
    let shard = bed.open(&[WEEK, DAY, ALL]).unwrap();
    assert_eq!((shard.position(0), shard.ingest_time_ms(0)), (Some(5), 2000));
    assert_eq!(latest(&shard, DAY).as_deref(), Some("{\"view\":2}"));
    assert_eq!(shard.readers().durable(0), Some(5));
}

#[test]
fn p02_a_shard_cut_off_between_the_commits_of_its_classes_goes_on_from_the_one_behind() {
    let (bed, whole) = (Bed::new(), Bed::new());
    let log: Vec<_> = (0..40).map(|n| ([WEEK, DAY][n % 2], format!("{{\"n\":{n}}}"))).collect();
    let feed = |shard: &mut Writers, from: i64, to: i64| {
        let mut replayed = 0;
        for offset in from..to {
            let (view, payload) = &log[offset as usize];
            replayed += u32::from(shard.put(0, &put(*view, offset, payload)).unwrap() == Outcome::Replayed);
        }
        shard.commit().unwrap();
        replayed
    };
    let mut shard = bed.open(&[WEEK, DAY]).unwrap();
    feed(&mut shard, 0, 20);
    shard.close().unwrap();
    // What the second class has committed of the next batch when the first has not yet.
    let mut ahead = identity(&[DAY]);
    ahead.views = views(&[DAY]);
    let (mut writer, _reader) =
        forebay_storage::open(&bed.dir().join("latest-2d"), &ahead, &Bed::options(), &bed.sync).unwrap();
    for offset in (20..30).filter(|offset| offset % 2 == 1) {
        writer.put(&put(DAY, offset, &log[offset as usize].1)).unwrap();
    }
    writer.close().unwrap();
    let mut shard = bed.open(&[WEEK, DAY]).unwrap();
    assert_eq!(shard.position(0), Some(19));
    assert_eq!(shard.readers().applied(0), Some(19));
    assert_eq!(feed(&mut shard, 20, 40), 5);
    let mut straight = whole.open(&[WEEK, DAY]).unwrap();
    assert_eq!(feed(&mut straight, 0, 40), 0);
    for view in [WEEK, DAY] {
        let digest = |shard: &Writers| {
            let pin = shard.readers().of(view).pin_blocking();
            pin.latest(b"e", view)
                .unwrap()
                .map(|v| (v.event_time_ms(), v.offset(), v.payload().unwrap().to_vec()))
        };
        assert_eq!(digest(&shard), digest(&straight));
    }
}

#[test]
fn a_class_that_begins_later_is_brought_to_where_the_others_are() {
    let bed = Bed::new();
    let mut shard = bed.open(&[WEEK]).unwrap();
    shard.put(0, &put(WEEK, 8, "{}")).unwrap();
    shard.close().unwrap();
    // What an opening that was cut off has left.
    std::fs::create_dir_all(bed.dir().join("latest-2d")).unwrap();
    std::fs::write(bed.dir().join("latest-2d/000001.seg"), "rest").unwrap();
    let shard = bed.open(&[WEEK, DAY]).unwrap();
    assert_eq!((shard.position(0), shard.ingest_time_ms(0)), (Some(8), 1008));
    assert_eq!(shard.readers().durable(0), Some(8));
}

#[test]
fn bad_55_a_class_whose_directory_is_gone_is_refused_by_name() {
    let bed = Bed::new();
    bed.open(&[WEEK, DAY]).unwrap().close().unwrap();
    std::fs::remove_dir_all(bed.dir().join("latest-2d")).unwrap();
    let error = bed.open(&[WEEK, DAY]).unwrap_err();
    assert!(matches!(&error, FilesError::Missing { class, .. } if class == "latest-2d"), "{error}");
    assert!(!error.may_pass() && error.to_string().contains("restore the directory"), "{error}");
}

#[test]
fn bad_55_a_missing_list_of_classes_is_refused_by_name() {
    let bed = Bed::new();
    bed.open(&[WEEK, DAY]).unwrap().close().unwrap();
    std::fs::remove_file(bed.dir().join("CLASSES")).unwrap();
    let error = bed.open(&[WEEK, DAY]).unwrap_err().to_string();
    assert!(error.contains("CLASSES: the file is missing"), "{error}");
}

#[test]
fn a_shard_from_before_there_were_classes_keeps_its_views_together() {
    let bed = Bed::new();
    let (mut writer, reader) =
        forebay_storage::open(bed.dir(), &identity(&[WEEK, DAY]), &Bed::options(), &bed.sync).unwrap();
    writer.put(&put(DAY, 3, "{\"old\":1}")).unwrap();
    writer.close().unwrap();
    drop(reader);
    let shard = bed.open(&[WEEK, DAY, ALL]).unwrap();
    assert_eq!(latest(&shard, DAY).as_deref(), Some("{\"old\":1}"));
    assert!(bed.dir().join("CLASSES").exists() && !bed.dir().join("latest-2d").exists());
}

#[test]
fn a_view_taken_up_while_the_shard_is_open_is_found_again_after_a_restart() {
    let bed = Bed::new();
    let mut shard = bed.open(&[WEEK, DAY]).unwrap();
    shard.adopt_views(&views(&[WEEK, DAY, ALL])).unwrap();
    shard.put(0, &put(ALL, 0, "{\"new\":1}")).unwrap();
    shard.commit().unwrap();
    assert_eq!(latest(&shard, ALL).as_deref(), Some("{\"new\":1}"));
    shard.close().unwrap();
    let shard = bed.open(&[WEEK, DAY, ALL]).unwrap();
    assert_eq!(latest(&shard, ALL).as_deref(), Some("{\"new\":1}"));
}
