//! Walks through what a child did, call by call, and judges the files after each: as a kill leaves them there, between
//! the pages of long writes too, and as a power loss might.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::child::Said;
use super::fate::{Cut, Fate};
use super::files::{self, Begun, Files};
use super::judge;
use super::story::Story;
use super::strace::{self, Event};
use crate::store;

/// Threads that judge.
pub const JUDGES: usize = 2;
/// Every so many crash points the story is told to its end.
const TO_THE_END: usize = 8;

/// Counts, by what was judged.
#[derive(Debug, Default)]
pub struct Counts {
    pub kills: AtomicUsize,
    pub power_losses: AtomicUsize,
    pub to_the_end: AtomicUsize,
}

impl Counts {
    pub fn points(&self) -> usize {
        self.kills.load(Ordering::Relaxed) + self.power_losses.load(Ordering::Relaxed)
    }
}

/// A story that is told, watched and judged in a directory.
pub struct Told {
    root: tempfile::TempDir,
    dir: PathBuf,
    puts: usize,
    story: Story,
    /// What was there when the child began.
    before: Files,
    /// What has to be left of that, after a kill and after a power loss.
    from: [Fate; 2],
    pub events: Vec<Event>,
}

impl Told {
    /// In an empty directory.
    pub fn new(seed: u64, puts: usize) -> Told {
        let mut told = Told::empty(seed, puts);
        told.tell(None);
        assert!(strace::ended(&told.events), "seed {seed}: the story ends: {:?}", told.events.last());
        told
    }

    /// With a call that fails. The story may end early.
    pub fn failing(seed: u64, puts: usize, inject: &str) -> Told {
        let mut told = Told::empty(seed, puts);
        told.tell(Some(inject));
        told
    }

    fn empty(seed: u64, puts: usize) -> Told {
        let (root, story) = (store::temporary(), Story::new(seed, puts));
        let dir = root.path().join("shard");
        let (before, from, events) = (Files::default(), Default::default(), Vec::new());
        Told { root, dir, puts, story, before, from, events }
    }

    fn tell(&mut self, inject: Option<&str>) {
        std::fs::create_dir(&self.dir).expect("a directory");
        self.before.store(&self.dir, &self.dir);
        self.events = strace::watch_failing(&self.dir, self.story.seed, self.puts, inject);
    }

    /// Goes back to a crash somewhere in the middle, and tells the story from there: the opening is watched, too.
    pub fn again(mut self) -> Told {
        let mut chance = SmallRng::seed_from_u64(self.story.seed);
        let until = chance.random_range(0..self.events.len());
        let cut = if chance.random_ratio(1, 2) { Cut::Kill } else { Cut::Power };
        let mut walk = self.walk(usize::MAX, 0);
        walk.step_to(until);
        let mut files = walk.files;
        self.from = [self.fate(until, cut), self.fate(until, Cut::Power)];
        std::fs::remove_dir_all(&self.dir).expect("a removal");
        if cut == Cut::Power {
            std::fs::create_dir(&self.dir).expect("a directory");
            files.store_after_power_loss(&self.dir, &self.dir, &mut chance);
            files = Files::load(&self.dir);
            std::fs::remove_dir_all(&self.dir).expect("a removal");
        }
        self.before = files;
        self.tell(None);
        let last = self.events.last();
        assert!(
            matches!(last, Some(Event::Said(Said::Ended))),
            "seed {}: it ends: {last:?}",
            self.story.seed
        );
        self
    }

    /// Judges all of it: each call after a kill, and `times` times after a power loss.
    pub fn judge(&self, times: usize, counts: &Counts) {
        std::thread::scope(|scope| {
            for judge in 0..JUDGES {
                let mut walk = self.walk(judge, times);
                scope.spawn(move || walk.judge_all(counts));
            }
        });
    }

    /// Judges on this thread what a power loss leaves after an event and after every so many later ones.
    pub fn judge_from(&self, at: usize, every: usize, counts: &Counts) {
        let mut walk = self.walk(0, 0);
        for until in (at + 1..self.events.len()).step_by(every).chain([self.events.len()]) {
            walk.step_to(until);
            walk.power_loss(until - 1, 0, &walk.files, counts);
        }
    }

    /// Judges the directory as the child left it.
    pub fn judge_end(&self) -> Result<usize, String> {
        judge::judge_to_the_end(&self.dir, &self.story, &self.fate(self.events.len(), Cut::Kill))
    }

    fn walk(&self, judge: usize, times: usize) -> Walk<'_> {
        let mut begins: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, event) in self.events.iter().enumerate() {
            if let Event::Called { begun, .. } = event {
                begins.entry(*begun).or_default().push(at);
            }
        }
        let begun = vec![Begun::default(); self.events.len()];
        Walk { told: self, judge, times, files: self.before.clone(), begins, begun, at: 0 }
    }

    /// What must be left if it is cut off before an event is over.
    fn fate(&self, at: usize, cut: Cut) -> Fate {
        let said = self.events[..at].iter().filter_map(|event| match event {
            Event::Said(said) => Some(said),
            Event::Called { .. } => None,
        });
        let from = if cut == Cut::Kill { &self.from[0] } else { &self.from[1] };
        from.and(&self.story, said, cut)
    }

    /// The call at which it happened, without its bytes.
    fn near(&self, at: usize) -> String {
        let Event::Called { call, name, .. } = &self.events[at] else { return String::new() };
        let text = format!("{call:?}");
        format!("{name}: {}", text.chars().take(160).collect::<String>())
    }
}

/// One judge's way through the events: it follows all, and judges every so many.
struct Walk<'t> {
    told: &'t Told,
    judge: usize,
    times: usize,
    files: Files,
    /// Calls by how many events were over when they began.
    begins: BTreeMap<usize, Vec<usize>>,
    begun: Vec<Begun>,
    at: usize,
}

impl Walk<'_> {
    /// Notes what begins before the next event is over.
    fn begin(&mut self) {
        for later in self.begins.get(&self.at).into_iter().flatten() {
            if let Event::Called { call, .. } = &self.told.events[*later] {
                self.begun[*later] = self.files.begin(call);
            }
        }
    }

    fn end(&mut self) {
        match &self.told.events[self.at] {
            Event::Called { call, failed: false, .. } => self.files.apply(call, self.begun[self.at]),
            Event::Called { call, injected: true, .. } => self.files.fail(call, self.begun[self.at]),
            _ => {}
        }
        self.at += 1;
    }

    fn step_to(&mut self, until: usize) {
        while self.at < until {
            self.begin();
            self.end();
        }
    }

    fn judge_all(&mut self, counts: &Counts) {
        while self.at < self.told.events.len() {
            self.begin();
            let at = self.at;
            if let (Event::Called { call, failed: false, .. }, true) =
                (&self.told.events[at], at % JUDGES == self.judge)
            {
                for part in files::torn(call) {
                    let mut torn = self.files.clone();
                    torn.apply(&part, Begun::default());
                    self.kill(at, &torn, counts);
                }
                let mut after = self.files.clone();
                after.apply(call, self.begun[at]);
                self.kill(at, &after, counts);
                (0..self.times).for_each(|time| self.power_loss(at, time, &after, counts));
            }
            self.end();
        }
    }

    fn kill(&self, at: usize, files: &Files, counts: &Counts) {
        counts.kills.fetch_add(1, Ordering::Relaxed);
        let fate = self.told.fate(at, Cut::Kill);
        self.open(at, "killed", &fate, counts, |to| files.store(&self.told.dir, to));
    }

    fn power_loss(&self, at: usize, time: usize, files: &Files, counts: &Counts) {
        counts.power_losses.fetch_add(1, Ordering::Relaxed);
        let fate = self.told.fate(at, Cut::Power);
        let mut chance = SmallRng::seed_from_u64(self.told.story.seed << 32 | (at * 16 + time) as u64);
        self.open(at, &format!("power loss {time}"), &fate, counts, |to| {
            files.store_after_power_loss(&self.told.dir, to, &mut chance);
        });
    }

    fn open(&self, at: usize, cut: &str, fate: &Fate, counts: &Counts, store: impl FnOnce(&Path)) {
        let to = self.told.root.path().join(format!("left {}", self.judge));
        std::fs::create_dir(&to).expect("a directory");
        store(&to);
        let judged = if at % TO_THE_END < JUDGES {
            counts.to_the_end.fetch_add(1, Ordering::Relaxed);
            judge::judge_to_the_end(&to, &self.told.story, fate)
        } else {
            judge::judge(&to, &self.told.story, fate)
        };
        if let Err(why) = judged {
            panic!("seed {}, {cut} at event {at}, {}: {why}", self.told.story.seed, self.told.near(at));
        }
        std::fs::remove_dir_all(&to).expect("a removal");
    }
}
