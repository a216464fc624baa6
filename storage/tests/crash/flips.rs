//! P3: every byte of every file of a small store is damaged, one at a time, in one bit and in all. The store is refused,
//! or each read of it is right or says that data is lost. Never is an answer wrong, never is something just missing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_storage::{HistoryRange, OpenError, ReadError, ShardReader};

use super::story::{self, FILLING, Step, Story, feed};
use super::walk::JUDGES;
use crate::model::Model;
use crate::store::{self, TOPICS, applied, history, latest, owned};

/// Of bytes that are like all those around them, every so many are damaged.
const ALIKE: usize = 509;

/// What damage came to.
#[derive(Debug, Default)]
struct Ends {
    refused: AtomicUsize,
    lost: AtomicUsize,
    harmless: AtomicUsize,
}

/// A store, in memory.
struct Stored<'s> {
    story: &'s Story,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// What it holds. One that was not closed does not say that its last frames were synced: they may be taken for
    /// torn, and then it is an exact state from before them.
    states: Vec<Model>,
}

impl<'s> Stored<'s> {
    /// Of a story, closed in order or just let go of.
    fn new(story: &'s Story, close: bool) -> Stored<'s> {
        let root = store::temporary();
        let (mut writer, _) = story::open(root.path(), story).expect("a shard");
        for step in &story.steps {
            feed(&mut writer, step).expect("taken");
            if let (Step::Reopen { .. }, true) = (step, close) {
                writer.close().expect("a close");
                writer = story::open(root.path(), story).expect("a shard").0;
            }
        }
        if close {
            writer.close().expect("a close");
        } else {
            writer.sync_now().expect("a sync");
            drop(writer);
        }
        let mut files = Vec::new();
        read_below(root.path(), root.path(), &mut files);
        let known = if close { story.states.len() - 1 } else { 0 };
        Stored { story, files, states: story.states[known..].to_vec() }
    }

    /// Which bytes of a file are damaged: all, but few of the free space and of the payload that only fills.
    fn places(bytes: &[u8]) -> Vec<usize> {
        let filling = bytes.windows(FILLING).step_by(8).position(|window| {
            window[..64].iter().filter(|byte| **byte == 0).count() < 8
                && window[FILLING - 64..].iter().any(|b| *b != 0)
        });
        let filling = filling.map_or(0..0, |at| at * 8 + 512..at * 8 + FILLING - 512);
        let alike = |at: &usize| {
            let around = &bytes[at.saturating_sub(64)..(at + 64).min(bytes.len())];
            filling.contains(at) || around.iter().all(|byte| *byte == bytes[*at])
        };
        (0..bytes.len()).filter(|at| !alike(at) || at % ALIKE == 0).collect()
    }

    /// Writes it with one byte damaged.
    fn write(&self, to: &Path, file: usize, at: usize, flip: u8) {
        for (number, (name, bytes)) in self.files.iter().enumerate() {
            let path = to.join(name);
            std::fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            std::fs::write(&path, bytes).expect("a file");
            if number == file {
                use std::os::unix::fs::FileExt;
                let damaged = std::fs::File::options().write(true).open(&path).expect("a file");
                damaged.write_all_at(&[bytes[at] ^ flip], at as u64).expect("a byte");
            }
        }
    }

    fn damage(&self, dir: &Path, file: usize, at: usize, flip: u8, ends: &Ends) {
        std::fs::create_dir(dir).expect("a directory");
        self.write(dir, file, at, flip);
        let end = match story::open(dir, self.story) {
            Err(OpenError::Corrupt { .. } | OpenError::NewerFormat { .. }) => &ends.refused,
            Err(error) => panic!("{} byte {at} ^ {flip:#x}: {error}", self.files[file].0.display()),
            Ok((_writer, reader)) => match self.lost(&reader) {
                Ok(0) => &ends.harmless,
                Ok(_) => &ends.lost,
                Err(why) => panic!("{} byte {at} ^ {flip:#x}: {why}", self.files[file].0.display()),
            },
        };
        end.fetch_add(1, Ordering::Relaxed);
        std::fs::remove_dir_all(dir).expect("a removal");
    }

    /// How many reads say that data is lost; an error if one is wrong.
    fn lost(&self, reader: &ShardReader) -> Result<usize, String> {
        let positions: Vec<i64> =
            (0..TOPICS.len() as u16).map(|topic| applied(reader, topic).unwrap_or(-1)).collect();
        let same = |model: &&Model| {
            let of = |topic| model.positions.get(&topic).copied().unwrap_or(-1);
            (0..TOPICS.len()).all(|topic| of(topic as u16) == positions[topic])
        };
        let model = self.states.iter().find(same);
        let model = model.ok_or_else(|| format!("positions {positions:?} are not the right ones"))?;
        let mut lost = 0;
        for (entity, view) in model.versions.keys() {
            let versions = model.history(entity, *view, &HistoryRange::default());
            let points: Vec<_> = versions.iter().map(|version| version.point.clone()).collect();
            let wrong = |what: &str| format!("{} {view}: wrong {what}", String::from_utf8_lossy(entity));
            let mut check = |right: Result<bool, ReadError>, what: &str| match right {
                Ok(true) => Ok(()),
                Ok(false) => Err(wrong(what)),
                Err(_) => {
                    lost += 1;
                    Ok(())
                }
            };
            check(latest(reader, entity, *view).map(|got| got.as_ref() == points.first()), "latest")?;
            let all = history(reader, entity, *view, &HistoryRange::default());
            check(all.map(|got| got == points), "history")?;
            let oldest = points.last().expect("a version");
            let pinned = reader.pin();
            let got = pinned.as_of(entity, *view, oldest.event_time_ms, None);
            let got = got.and_then(|got| got.map(|version| owned(entity, *view, &version)).transpose());
            let right = model.as_of(entity, *view, oldest.event_time_ms, None).map(|version| &version.point);
            check(got.map(|got| got.as_ref() == right), "as of")?;
        }
        Ok(lost)
    }
}

fn read_below(root: &Path, dir: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_below(root, &path, into);
        } else {
            let name = path.strip_prefix(root).expect("below").to_path_buf();
            into.push((name, std::fs::read(&path).expect("a file")));
        }
    }
}

#[test]
fn p03_every_byte_flipped_one_at_a_time_gives_right_bytes_or_an_error() {
    let seed = super::first_seed();
    let ends = Ends::default();
    let root = store::temporary();
    let mut bytes = 0;
    for close in [true, false] {
        let story = Story::small(seed, if super::long() { 60 } else { 22 });
        let stored = Stored::new(&story, close);
        let mut cases = Vec::new();
        for (file, (_, content)) in stored.files.iter().enumerate() {
            let places = Stored::places(content);
            bytes += places.len();
            cases.extend(places.iter().flat_map(|at| [(file, *at, 0xFF), (file, *at, 1 << (at % 8))]));
        }
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for judge in 0..JUDGES {
                let (stored, cases, ends, next) = (&stored, &cases, &ends, &next);
                let dir = root.path().join(judge.to_string());
                scope.spawn(move || {
                    while let Some((file, at, flip)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        stored.damage(&dir, *file, *at, *flip, ends);
                    }
                });
            }
        });
    }
    println!("{bytes} bytes damaged in two ways each: {ends:?}");
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert!(count(&ends.refused) > 1000 && count(&ends.lost) > 100, "{ends:?}");
}
