//! Directories and files that are not as they should be: each gets a clear answer, and is left as it was.

use std::fs;
use std::path::Path;

use forebay_storage::{OpenError, TopicIndex, ViewPolicy, open};

use crate::store::{
    applied, copy, files, identity, latest, no_sync, open_at, options, point, segments, try_open, write,
};

/// A closed shard of several segments.
fn shard(dir: &Path) {
    let (mut writer, _) = open_at(dir);
    for n in 0..300 {
        let value = crate::store::Point { payload: vec![b'v'; 1000], ..point(b"e", n, n) };
        write(&mut writer, &[value]);
    }
    writer.close().expect("a close");
    assert!(segments(dir).len() >= 4);
}

fn refusal(dir: &Path) -> OpenError {
    let before: Vec<_> = files(dir).into_iter().map(|name| (fs::read(dir.join(&name)).ok(), name)).collect();
    let error = try_open(dir).expect_err("a refusal");
    let mut after: Vec<_> =
        files(dir).into_iter().map(|name| (fs::read(dir.join(&name)).ok(), name)).collect();
    after.retain(|(_, name)| name != "LOCK" || before.iter().any(|(_, name)| name == "LOCK"));
    assert!(before == after, "a refused directory is left as it was");
    error
}

fn assert_corrupt(dir: &Path, file: &str, words: &str) {
    let error = refusal(dir);
    assert!(
        matches!(&error, OpenError::Corrupt { file: at, .. } if at.to_string_lossy().ends_with(file)),
        "{error}"
    );
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn bad_51_an_empty_or_missing_directory_becomes_a_shard() {
    let root = crate::store::temporary();
    for dir in [root.path().to_path_buf(), root.path().join("a/b/c")] {
        let (mut writer, reader) = open_at(&dir);
        assert_eq!((reader.stats().keys, writer.position(TopicIndex(0))), (0, None));
        write(&mut writer, &[point(b"e", 1, 1)]);
        assert!(latest(&reader, b"e", 1).expect("whole").is_some());
        if dir == root.path() {
            writer.close().expect("a close");
            fs::remove_file(dir.join("MANIFEST")).expect("a removal");
            segments(&dir).into_iter().for_each(|path| fs::remove_file(path).expect("a removal"));
        }
    }
}

#[test]
fn bad_52_somebody_elses_directory_is_refused_and_left_alone() {
    let root = crate::store::temporary();
    fs::write(root.path().join("thesis.tex"), "years of work").expect("a file");
    let error = refusal(root.path());
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(files(root.path()), ["thesis.tex"]);
    // Another lane's or partition's is somebody else's, too.
    let dir = root.path().join("shard");
    shard(&dir);
    let other = forebay_storage::ShardIdentity { partition: 4, ..identity() };
    let error = open(&dir, &other, &options(), &no_sync()).expect_err("a refusal");
    assert_eq!(
        error.to_string(),
        format!(
            "{}: belongs to lane standard partition 3, not to lane standard partition 4; correct the storage directory",
            dir.display()
        )
    );
}

#[test]
fn bad_53_a_second_writer_is_refused_even_if_a_cleaner_removed_the_lock_file() {
    let root = crate::store::temporary();
    let (writer, reader) = open_at(root.path());
    assert!(matches!(refusal(root.path()), OpenError::Locked { .. }));
    fs::remove_file(root.path().join("LOCK")).expect("a removal");
    assert!(matches!(refusal(root.path()), OpenError::Locked { .. }));
    drop(writer);
    // A reader that is still there does not hold the directory.
    assert!(try_open(root.path()).is_ok());
    assert_eq!(reader.stats().keys, 0);
}

#[test]
fn bad_54_a_directory_that_cannot_be_written_is_named_with_the_systems_reason() {
    // Nobody, not even root, makes files there.
    let error = try_open(Path::new("/sys/kernel/forebay")).expect_err("a refusal");
    assert!(matches!(&error, OpenError::Io { path, .. } if path.ends_with("forebay")), "{error}");
    let root = crate::store::temporary();
    let file = root.path().join("file");
    fs::write(&file, "").expect("a file");
    assert!(matches!(try_open(&file), Err(OpenError::Io { path, .. }) if path == file));
}

#[test]
fn bad_55_a_segment_that_is_missing_truncated_extended_zeroed_or_swapped_is_named() {
    let root = crate::store::temporary();
    let whole = root.path().join("whole");
    shard(&whole);
    let names: Vec<String> = files(&whole).into_iter().filter(|name| name.ends_with(".seg")).collect();
    let spoiled = |name: &str, spoil: &dyn Fn(&Path)| {
        let dir = root.path().join("spoiled");
        let _ = fs::remove_dir_all(&dir);
        copy(&whole, &dir);
        spoil(&dir.join(name));
        dir
    };
    for name in &names {
        let dir = spoiled(name, &|path| fs::remove_file(path).expect("a removal"));
        assert_corrupt(&dir, name, "the file is missing");
        let dir = spoiled(name, &|path| fs::write(path, vec![0; 64 << 10]).expect("a file"));
        assert_corrupt(&dir, name, "zeros instead of a segment's header");
        let dir = spoiled(name, &|path| fs::write(path, "").expect("a file"));
        assert_corrupt(&dir, name, "truncated");
        let dir = spoiled(name, &|path| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
            file.set_len(70_000).expect("an extension");
        });
        assert_corrupt(&dir, name, "extended");
        let dir = spoiled(name, &|path| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
            file.set_len(1000).expect("a truncation");
        });
        let words =
            if name == names.last().expect("one") { "were synced and are hidden" } else { "truncated" };
        assert_corrupt(&dir, name, words);
    }
    let dir = spoiled(&names[1], &|path| {
        let other = path.with_file_name(&names[2]);
        let (one, two) = (fs::read(path).expect("a file"), fs::read(&other).expect("a file"));
        fs::write(path, two).expect("a file");
        fs::write(other, one).expect("a file");
    });
    assert_corrupt(&dir, &names[1], "swapped");
}

#[test]
fn bad_55_a_segment_of_another_shard_is_named() {
    let root = crate::store::temporary();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    shard(&one);
    shard(&two);
    fs::copy(one.join("000002.seg"), two.join("000002.seg")).expect("a copy");
    assert_corrupt(&two, "000002.seg", "belongs to shard");
}

#[test]
fn bad_55_damage_in_the_middle_names_the_byte_and_the_positions_it_hides() {
    let root = crate::store::temporary();
    let (mut writer, _) = open_at(root.path());
    for n in 0..20 {
        write(&mut writer, &[point(b"e", n, n * 10)]);
        writer.sync_now().expect("a sync");
    }
    drop(writer);
    let path = root.path().join("000001.seg");
    let mut bytes = fs::read(&path).expect("a segment");
    let frames: Vec<usize> =
        bytes.windows(8).enumerate().filter(|(_, at)| at == b"FBYFRAME").map(|(at, _)| at).collect();
    bytes[frames[10] + 200] ^= 1;
    fs::write(&path, bytes).expect("a segment");
    let error = refusal(root.path());
    let text = error.to_string();
    assert!(matches!(error, OpenError::Corrupt { at, .. } if at == frames[10] as u64), "{text}");
    assert!(text.contains("frame 12 is whole again; positions hidden: b.main 91..=110"), "{text}");
}

#[test]
fn bad_56_a_missing_manifest_is_asked_for() {
    let root = crate::store::temporary();
    shard(root.path());
    fs::remove_file(root.path().join("MANIFEST")).expect("a removal");
    let error = refusal(root.path());
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "000001.seg"), "{error}");
}

#[test]
fn bad_56_a_manifest_from_the_future_is_left_to_a_newer_version() {
    let root = crate::store::temporary();
    shard(root.path());
    let path = root.path().join("MANIFEST");
    let text = fs::read_to_string(&path).expect("a manifest");
    fs::write(&path, text.replacen("forebay-shard 2", "forebay-shard 3", 1)).expect("a manifest");
    assert!(matches!(refusal(root.path()), OpenError::NewerFormat { found: 3, known: 2, .. }));
    fs::write(&path, text.replacen("standard", "standing", 1)).expect("a manifest");
    assert_corrupt(root.path(), "MANIFEST", "checksum");
    fs::write(&path, "").expect("a manifest");
    assert_corrupt(root.path(), "MANIFEST", "not a MANIFEST's");
}

#[test]
fn bad_56_an_old_copy_of_the_manifest_is_noticed() {
    let root = crate::store::temporary();
    let (mut writer, _) = open_at(root.path());
    write(&mut writer, &[point(b"e", 1, 1)]);
    let old = fs::read(root.path().join("MANIFEST")).expect("a manifest");
    writer.close().expect("a close");
    let (mut writer, _) = open_at(root.path());
    for n in 2..200 {
        let value = crate::store::Point { payload: vec![b'v'; 1000], ..point(b"e", n, n) };
        write(&mut writer, &[value]);
    }
    writer.close().expect("a close");
    fs::write(root.path().join("MANIFEST"), old).expect("a manifest");
    assert_corrupt(root.path(), "000002.seg", "it is an old copy");
}

#[test]
fn bad_59_stray_files_are_ignored_and_a_cleaner_is_survived() {
    let root = crate::store::temporary();
    shard(root.path());
    let strays =
        ["MANIFEST~", ".MANIFEST.swp", "MANIFEST.tmp", "notes.txt", "1.seg", "000001.seg.bak", "000000.seg"];
    for name in strays {
        fs::write(root.path().join(name), "stray").expect("a file");
    }
    // What looks like a segment that was begun when a crash came is removed, and so is one that has expired.
    fs::write(root.path().join("000099.seg"), vec![0; 4096]).expect("a file");
    let _ = fs::remove_file(root.path().join("LOCK"));
    let (mut writer, reader) = open_at(root.path());
    assert_eq!(latest(&reader, b"e", 1).expect("whole").expect("a version").offset, 299);
    assert!(!root.path().join("000099.seg").exists());
    // A cleaner takes the lock file and the MANIFEST of a running shard: it goes on, and mends the MANIFEST.
    fs::remove_file(root.path().join("LOCK")).expect("a removal");
    fs::remove_file(root.path().join("MANIFEST")).expect("a removal");
    write(&mut writer, &[point(b"e", 300, 300)]);
    writer.close().expect("a close");
    assert_eq!(open_at(root.path()).1.stats().keys, 1);
    for name in strays.into_iter().filter(|name| *name != "MANIFEST.tmp") {
        assert!(root.path().join(name).exists(), "{name}");
    }
}

#[test]
fn bad_29_topics_and_views_that_changed_their_meaning_are_refused() {
    let root = crate::store::temporary();
    shard(root.path());
    let refused = |change: &dyn Fn(&mut forebay_storage::ShardIdentity)| {
        let mut identity = identity();
        change(&mut identity);
        open(root.path(), &identity, &options(), &no_sync()).expect_err("a refusal")
    };
    let error = refused(&|identity| identity.topics[1].topic_id = [9; 16]);
    assert!(matches!(error, OpenError::TopicRecreated { topic, .. } if topic == "a.backfill"));
    let error = refused(&|identity| identity.topics[0].priority = 2);
    assert!(matches!(error, OpenError::TopicChanged { stored: 1, now: 2, .. }));
    let error = refused(&|identity| identity.partitions = 16);
    assert!(matches!(error, OpenError::PartitionsChanged { stored: 8, now: 16, .. }));
    let error =
        refused(&|identity| drop(identity.views.insert(700, ViewPolicy::full("something else", 1_000_000))));
    assert!(matches!(error, OpenError::ViewChanged { id: 700, .. }));
    let old = fs::read(root.path().join("MANIFEST")).expect("a manifest");
    // More topics and views are welcome, an unknown topic id says nothing, and a topic no longer named stays.
    let mut more = identity();
    more.views.insert(9, ViewPolicy::full("a new view", 1_000_000));
    more.topics[0].topic_id = [0; 16];
    more.topics.remove(1);
    more.topics.push(forebay_storage::TopicLog { name: "d.new".to_owned(), topic_id: [4; 16], priority: 0 });
    let (mut writer, reader) = open(root.path(), &more, &options(), &no_sync()).expect("the same shard");
    assert_eq!(reader.topic("d.new"), Some(TopicIndex(3)));
    assert_eq!(reader.topics()[0].topic_id, [6; 16]);
    write(&mut writer, &[crate::store::Point { topic: 3, ..point(b"e", 500, 0) }]);
    writer.close().expect("a close");
    let (writer, reader) = open_at(root.path());
    assert_eq!(reader.topics().len(), 4);
    assert_eq!(applied(&reader, 3), Some(0));
    drop(writer);
    // A MANIFEST from before the fourth topic would give its records to whichever topic comes next.
    fs::write(root.path().join("MANIFEST"), old).expect("a manifest");
    assert_corrupt(root.path(), ".seg", "the MANIFEST is an old copy");
}
