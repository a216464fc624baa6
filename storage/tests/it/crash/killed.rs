//! P2: the process is killed, at any instant. The files after every system call of a story, and between the pages of
//! long writes, are opened and judged; and children are really killed, at every call of every kind.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::child::{self, Said};
use super::fate::{Cut, Fate};
use super::files::{self, Begun, Files};
use super::judge;
use super::story::Story;
use super::strace::{self, Event};
use crate::store;

/// Threads that judge: as many as there are cores, more or less.
const JUDGES: usize = 2;
/// Every so many crash points the story is told to its end.
const TO_THE_END: usize = 8;

/// Counts, by what was judged.
#[derive(Debug, Default)]
pub struct Counts {
    pub kills: AtomicUsize,
    pub powers: AtomicUsize,
    pub to_the_end: AtomicUsize,
}

/// Judges the files after every call of a story: after a kill, and `powers` times after a power loss.
pub fn every_call(seed: u64, puts: usize, powers: usize, counts: &Counts) {
    let root = store::temporary();
    let dir = root.path().join("shard");
    std::fs::create_dir(&dir).expect("a directory");
    let events = strace::watch(&dir, seed, puts);
    let story = Story::new(seed, puts);
    assert!(
        matches!(events.last(), Some(Event::Said(Said::Ended))),
        "seed {seed}: the story ends: {:?}",
        events.last()
    );
    std::thread::scope(|scope| {
        for judge in 0..JUDGES {
            let walk = Walk {
                seed,
                powers,
                judge,
                dir: &dir,
                root: root.path(),
                events: &events,
                story: &story,
                counts,
            };
            scope.spawn(move || walk.walk());
        }
    });
}

/// One judge's way through the events: it follows all, and judges every so many.
struct Walk<'w> {
    seed: u64,
    powers: usize,
    judge: usize,
    dir: &'w Path,
    root: &'w Path,
    events: &'w [Event],
    story: &'w Story,
    counts: &'w Counts,
}

impl Walk<'_> {
    fn walk(&self) {
        let mut files = Files::default();
        let mut begun = vec![Begun::default(); self.events.len()];
        for (at, event) in self.events.iter().enumerate() {
            // What began once this many events were over.
            for (later, event) in self.events.iter().enumerate().skip(at) {
                match event {
                    Event::Called { call, begun: when, .. } if *when == at => {
                        begun[later] = files.begin(call)
                    }
                    Event::Called { begun: when, .. } if *when < at => {}
                    _ if later > at + 64 => break,
                    _ => {}
                }
            }
            let Event::Called { call, failed: false, .. } = event else { continue };
            let mine = at % JUDGES == self.judge;
            if mine {
                for part in files::torn(call) {
                    let mut torn = files.clone();
                    torn.apply(&part, Begun::default());
                    self.kill(at, &torn);
                }
            }
            files.apply(call, begun[at]);
            if mine {
                self.kill(at, &files);
                (0..self.powers).for_each(|time| self.power_loss(at, time, &files));
            }
        }
    }

    fn said(&self, at: usize) -> impl Iterator<Item = &Said> {
        self.events[..at].iter().filter_map(|event| match event {
            Event::Said(said) => Some(said),
            Event::Called { .. } => None,
        })
    }

    fn kill(&self, at: usize, files: &Files) {
        self.counts.kills.fetch_add(1, Ordering::Relaxed);
        let fate = Fate::of(self.story, self.said(at), Cut::Kill);
        self.judge(at, "killed", &fate, |to| files.store(self.dir, to));
    }

    fn power_loss(&self, at: usize, time: usize, files: &Files) {
        self.counts.powers.fetch_add(1, Ordering::Relaxed);
        let fate = Fate::of(self.story, self.said(at), Cut::Power);
        let mut chance = SmallRng::seed_from_u64(self.seed << 32 | (at * 16 + time) as u64);
        self.judge(at, &format!("power loss {time}"), &fate, |to| {
            files.store_after_power_loss(self.dir, to, &mut chance);
        });
    }

    fn judge(&self, at: usize, cut: &str, fate: &Fate, store: impl FnOnce(&Path)) {
        let to = self.root.join(format!("left {}", self.judge));
        std::fs::create_dir(&to).expect("a directory");
        store(&to);
        let judged = if at % TO_THE_END < JUDGES {
            self.counts.to_the_end.fetch_add(1, Ordering::Relaxed);
            judge::judge_to_the_end(&to, self.story, fate)
        } else {
            judge::judge(&to, self.story, fate)
        };
        if let Err(why) = judged {
            panic!("seed {}, {cut} at event {at}, {}: {why}", self.seed, near(self.events, at));
        }
        std::fs::remove_dir_all(&to).expect("a removal");
    }
}

/// The call at which it happened, without its bytes.
fn near(events: &[Event], at: usize) -> String {
    let Event::Called { call, name, .. } = &events[at] else { return String::new() };
    let text = format!("{call:?}");
    format!("{name}: {}", text.chars().take(160).collect::<String>())
}

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
    let (first, least) = (super::first_seed(), if super::long() { 10_000 } else { 700 });
    let counts = Counts::default();
    let mut stories = 0;
    let points = || counts.kills.load(Ordering::Relaxed) + counts.powers.load(Ordering::Relaxed);
    while points() < least {
        every_call(first + stories, 120, 1, &counts);
        stories += 1;
    }
    println!("{} crash points in {stories} stories from seed {first}: {counts:?}", points());
}
