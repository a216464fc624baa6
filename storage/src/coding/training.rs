//! Training off the writer's thread: a job learns a generation from samples and puts its file in place; the writer finds
//! the outcome at a later commit. A job that outlives its writer stops, or leaves a file that nobody uses.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::files::{self, Known, Owner};
use crate::codec::Trainer;

/// The trainings of one writer; dropping it stops them.
#[derive(Debug)]
pub(super) struct Trainings {
    shared: Arc<Shared>,
    /// Handed out and not yet taken back.
    running: usize,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    finished: Mutex<Vec<Finished>>,
}

/// What a training came to.
#[derive(Debug)]
pub(super) struct Finished {
    pub view: u16,
    /// Nothing if its file could not be written: the payloads stay as they were coded before.
    pub known: Option<Known>,
}

/// A training to do.
#[derive(Debug)]
pub(super) struct Job {
    pub dir: PathBuf,
    pub owner: Owner,
    pub view: u16,
    pub number: u32,
    pub trainer: Trainer,
}

impl Trainings {
    pub fn new() -> Trainings {
        let shared = Shared { stop: AtomicBool::new(false), finished: Mutex::default() };
        Trainings { shared: Arc::new(shared), running: 0 }
    }

    /// What is to be run elsewhere.
    pub fn begin(&mut self, job: Job) -> impl FnOnce() + Send + 'static {
        self.running += 1;
        let shared = self.shared.clone();
        move || {
            let finished = Finished { view: job.view, known: job.run(&shared.stop) };
            shared.finished.lock().push(finished);
        }
    }

    /// Takes one that has finished.
    pub fn take(&mut self) -> Option<Finished> {
        if self.running == 0 {
            return None;
        }
        let finished = self.shared.finished.lock().pop();
        self.running -= usize::from(finished.is_some());
        finished
    }

    /// Whether some are not taken back yet.
    pub fn are_running(&self) -> bool {
        self.running > 0
    }
}

impl Drop for Trainings {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Job {
    fn run(self, stop: &AtomicBool) -> Option<Known> {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let generation = self.trainer.train(self.number);
        let bytes = files::encode(self.owner, self.view, self.trainer.len() as u32, &generation);
        // What cannot be loaded must not be used.
        let known = files::decode(&bytes, self.number, Some(self.owner)).ok()?;
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        files::store(&self.dir, self.number, &bytes).ok()?;
        Some(known)
    }
}
