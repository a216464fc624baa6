//! Training off the writer's thread: a job learns a generation from samples and puts its file in place; the writer finds
//! the outcome at a later commit. A job that outlives its writer writes nothing.

use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{self, Known};
use super::library::Library;
use crate::codec::{Generation, Trainer};
use crate::keeper;
use crate::layout::checksum;
use crate::shard::Shard;

/// The trainings of one writer.
#[derive(Debug, Default)]
pub(super) struct Trainings {
    finished: Arc<Mutex<Vec<Finished>>>,
    /// Handed out and not yet taken back.
    running: usize,
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
    pub shard: Arc<Shard>,
    pub view: u16,
    pub number: u32,
    pub trainer: Trainer,
    /// What the view's payloads are coded with until then.
    pub now: Option<Generation>,
    pub library: Arc<Library>,
}

impl Trainings {
    /// What is to be run elsewhere.
    pub fn begin(&mut self, job: Job) -> impl FnOnce() + Send + use<> {
        self.running += 1;
        let finished = self.finished.clone();
        move || {
            let (view, known) = (job.view, job.run());
            finished.lock().push(Finished { view, known });
        }
    }

    /// Takes one that has finished.
    pub fn take(&mut self) -> Option<Finished> {
        if self.running == 0 {
            return None;
        }
        let finished = self.finished.lock().pop();
        self.running -= usize::from(finished.is_some());
        finished
    }

    /// Whether some are not taken back yet.
    pub fn are_running(&self) -> bool {
        self.running > 0
    }
}

impl Job {
    fn run(self) -> Option<Known> {
        // Nothing is written while it learns: the writer need not wait for that.
        let codecs = &self.shard.codecs;
        drop(self.shard.errands.begin()?);
        let taken = self.library.fitting(self.view, &self.trainer, self.now.as_ref());
        let (known, bytes) = match taken {
            Some((generation, samples)) => {
                let (view, generation) = (self.view, generation.renumbered(self.number));
                let bytes = files::encode(codecs.owner, view, samples, &generation);
                (Known { generation, view, samples, identity: checksum(&bytes) }, bytes)
            }
            None => {
                let generation = self.trainer.train(self.number);
                let samples = self.trainer.seen() as u32;
                let bytes = files::encode(codecs.owner, self.view, samples, &generation);
                // What cannot be loaded must not be used.
                let known = files::decode(&bytes, self.number, Some(codecs.owner)).ok()?;
                self.library.add(&known, &self.trainer);
                (known, bytes)
            }
        };
        let _errand = self.shard.errands.begin()?;
        files::store(&codecs.dir, self.number, &bytes).ok()?;
        self.shard.disk.add(bytes.len() as u64);
        let note = keeper::store_manifest(&self.shard, |manifest| {
            manifest.last_codec = manifest.last_codec.max(self.number);
        });
        note.ok()?;
        Some(known)
    }
}
