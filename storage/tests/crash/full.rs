//! P5: the disk fills up while a story is told, on a file system with a limit: the writer is told so and keeps its batch,
//! readers go on, and once there is room the same call succeeds and nothing is missing.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use forebay_storage::WriteError;

use super::fate::Fate;
use super::judge;
use super::mounted::Mounted;
use super::story::{self, Step, Story, feed};

/// What a shard may take beyond what it took before: other threads make files ahead of time.
const SLACK: u64 = 512 << 10;

/// Bytes of disk that a directory takes.
fn taken(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { taken(&path) } else { disk_bytes(&path) }).sum()
}

fn disk_bytes(path: &Path) -> u64 {
    // A file may be gone by now.
    std::fs::metadata(path).map_or(0, |data| data.blocks() * 512)
}

/// Bytes of disk that a story takes at most.
fn most_taken(story: &Story) -> u64 {
    let root = crate::store::temporary();
    let (mut writer, _reader) = story::open(root.path(), story).expect("a shard");
    let taken = story.steps.iter().map(|step| {
        feed(&mut writer, step).expect("room enough");
        taken(root.path())
    });
    taken.max().unwrap_or(0)
}

/// Tells a story on a file system that is too small until a file that is not the shard's goes away; how often a step
/// had no room.
fn tell(mounted: &Mounted, story: &Story, ballast_bytes: u64) -> Result<usize, String> {
    let ballast = mounted.path().join("ballast");
    std::fs::write(&ballast, vec![b'x'; ballast_bytes as usize]).map_err(|error| error.to_string())?;
    let dir = mounted.path().join("shard");
    let (mut writer, reader) = story::open(&dir, story).map_err(|error| error.to_string())?;
    let (mut committed, mut waited) = (0, 0);
    for (at, step) in story.steps.iter().enumerate() {
        // A batch that may not be committed yet is what waits; a sync has nothing to wait for.
        while let Err(error) = feed(&mut writer, step) {
            if !matches!(error, WriteError::NoSpace { .. }) {
                return Err(format!("step {at}: {error}"));
            }
            waited += 1;
            let fate = Fate { least: committed, most: committed, ..story.fate_at(at) };
            judge::state(&reader, story, &fate).map_err(|why| format!("while it waits: {why}"))?;
            writer.sync_now().map_err(|error| format!("what is committed: {error}"))?;
            if waited == 5 {
                std::fs::remove_file(&ballast).map_err(|error| error.to_string())?;
            }
            if waited > 10 {
                return Err(format!("step {at}: still no room"));
            }
        }
        committed += usize::from(matches!(step, Step::Commit));
    }
    writer.close().map_err(|error| error.to_string())?;
    let all = story.states.len() - 1;
    let fate = Fate { least: all, most: all, ..story.fate_at(story.steps.len() - 1) };
    judge::state(&reader, story, &fate)?;
    drop(reader);
    judge::judge(&dir, story, &fate)?;
    Ok(waited)
}

#[test]
fn p05_a_full_file_system_pauses_writes_keeps_reads_and_lets_them_go_on_by_themselves() {
    let (first, stories) = (super::first_seed(), if super::long() { 40 } else { 6 });
    let mut waited = 0;
    for seed in first..first + stories {
        let story = Story::new(seed, 140);
        let most = most_taken(&story);
        match Mounted::memory((most + SLACK) >> 10) {
            Ok(mounted) => {
                // A third of what it needs is there.
                let told = tell(&mounted, &story, most * 2 / 3 + SLACK);
                waited += told.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            }
            Err(why) => {
                // `p04_every_syscall_that_fails...` makes allocations fail instead.
                println!("no file system of its own here ({why}): disks are full in p04 only");
                return;
            }
        }
    }
    println!("{stories} stories from seed {first} had no room {waited} times");
    assert!(waited >= 5, "some of them fill it: {waited}");
}
