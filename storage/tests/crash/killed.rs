//! P2: the process is killed, at any instant. The files after every system call of a story, and between the pages of
//! long writes, are opened and judged; and children are really killed, at every call of every kind.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::child::{self, Said};
use super::fate::{Cut, Fate};
use super::judge;
use super::story::Story;
use super::strace::{self, Event};
use super::walk::{Counts, JUDGES, Told};
use crate::store;

/// A story whose child is killed as it enters the `nth` call `name` of one of its threads.
fn kill_at(seed: u64, puts: usize, name: &str, nth: u32, story: &Story) -> bool {
    let root = store::temporary();
    let dir = root.path().join("shard");
    std::fs::create_dir(&dir).expect("a directory");
    let inject = format!("inject={name}:signal=SIGKILL:when={nth}");
    let trace = format!("trace={name}");
    let before = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let run =
        child::command(&before, &dir, seed, puts).output().expect("strace is installed: ops/setup does it");
    let said: Vec<Said> =
        String::from_utf8_lossy(&run.stdout).lines().filter_map(child::understand).collect();
    let killed = run.status.signal() == Some(9) || run.status.code() == Some(137);
    assert!(killed || said.last() == Some(&Said::Ended), "seed {seed}, {name} {nth}: {run:?}");
    let fate = Fate::of(story, said.iter(), Cut::Kill);
    if let Err(why) = judge::judge_to_the_end(&dir, story, &fate) {
        panic!("seed {seed}, killed at {name} {nth}: {why}");
    }
    killed
}

/// Kills a child at each call of each kind that touches its files; how often.
fn kill_at_every_call(seed: u64, puts: usize) -> usize {
    let root = store::temporary();
    let dir = root.path().join("shard");
    std::fs::create_dir(&dir).expect("a directory");
    let mut places = std::collections::BTreeSet::new();
    for event in strace::watch(&dir, seed, puts) {
        if let Event::Called { name, nth, .. } = event {
            places.insert((name, nth));
        }
    }
    let (story, places) = (Story::new(seed, puts), places.into_iter().collect::<Vec<_>>());
    let kills = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for part in places.chunks(places.len().div_ceil(JUDGES)) {
            let (story, kills) = (&story, &kills);
            scope.spawn(move || {
                for (name, nth) in part {
                    kills.fetch_add(usize::from(kill_at(seed, puts, name, *nth, story)), Ordering::Relaxed);
                }
            });
        }
    });
    kills.into_inner()
}

#[test]
fn p02_killed_at_every_syscall_recovers_an_exact_prefix() {
    let (first, least) = (super::first_seed(), if super::long() { 2000 } else { 150 });
    let (mut kills, mut stories) = (0, 0);
    while kills < least {
        kills += kill_at_every_call(first + stories, 25);
        stories += 1;
    }
    println!("{kills} kills by SIGKILL in {stories} stories from seed {first}");
}

#[test]
fn p02_the_files_after_every_syscall_and_torn_write_are_an_exact_prefix() {
    let (first, least) = (super::first_seed(), if super::long() { 20_000 } else { 1500 });
    let counts = Counts::default();
    let mut stories = 0;
    while counts.points() < least {
        let told = Told::new(first + stories, 80);
        told.judge(1, &counts);
        told.again().judge(1, &counts);
        stories += 1;
    }
    println!("{} crash points in {stories} stories from seed {first}: {counts:?}", counts.points());
}
