//! A thread that does jobs one after the other: what is too slow for a writer is done here. Sync groups have two, one
//! for the files of segments and one for long computations. Knows nothing of what the jobs are.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::{Condvar, Mutex};

type Job = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped, after the job it is at; jobs it has not begun are dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
    stop: Arc<AtomicBool>,
}

/// What is under way for one shard on other threads, so that its writer can wait for the end of it before it lets go
/// of the directory.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    state: Mutex<UnderWay>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct UnderWay {
    count: usize,
    stopping: bool,
}

/// Stands for one errand; ends it when dropped, however the job ended.
#[derive(Debug)]
pub(crate) struct Errand(Arc<Errands>);

impl Worker {
    /// Starts the thread.
    pub fn spawn(name: String) -> io::Result<Worker> {
        let (jobs, queue) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new().name(name).spawn(move || run(&queue, &stopped))?;
        Ok(Worker { jobs, stop })
    }

    /// Puts a job at the end of the queue. One that panics ends itself only; it must leave nothing half done behind.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The thread is there as long as this is.
        let _ = self.jobs.send(Box::new(job));
    }
}

fn run(queue: &Receiver<Job>, stopped: &AtomicBool) {
    while let Ok(job) = queue.recv() {
        if stopped.load(Ordering::Acquire) {
            return;
        }
        // What it says has been printed by the panic hook.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

impl Errands {
    /// Begins an errand; nothing if the writer is leaving, and then it must not be done.
    pub fn begin(self: &Arc<Self>) -> Option<Errand> {
        let mut state = self.state.lock();
        if state.stopping {
            return None;
        }
        state.count += 1;
        Some(Errand(self.clone()))
    }

    /// Lets no further errand begin and waits until all have ended.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        self.ended.wait_while(&mut state, |state| state.count > 0);
    }
}

impl Errand {
    /// Whether the writer waits for it: a long job looks now and then, and gives up.
    pub fn is_hurried(&self) -> bool {
        self.0.state.lock().stopping
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.0.state.lock().count -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_in_order_and_one_that_panics_harms_no_other() {
        let worker = Worker::spawn("test".to_owned()).expect("a thread");
        let (done, all) = channel();
        for n in 0..10 {
            let done = done.clone();
            worker.run(move || {
                assert!(n != 3, "a job that panics on purpose");
                done.send(n).expect("a receiver");
            });
        }
        assert!((0..10).filter(|n| *n != 3).eq((0..9).map(|_| all.recv().expect("a job's end"))));
    }

    #[test]
    fn a_dropped_worker_ends_and_drops_what_it_had_not_begun() {
        let worker = Worker::spawn("test".to_owned()).expect("a thread");
        let (begun, has_begun) = channel();
        let (release, released) = channel::<()>();
        let (done, all) = channel();
        worker.run(move || {
            begun.send(()).expect("a receiver");
            let _ = released.recv();
        });
        worker.run(move || done.send(()).expect("a receiver"));
        has_begun.recv().expect("the first job begins");
        drop(worker);
        drop(release);
        assert!(all.recv().is_err(), "the second job was dropped, not done");
    }

    #[test]
    fn stopping_waits_for_the_errands_under_way_and_lets_none_begin() {
        let errands = Arc::new(Errands::default());
        let errand = errands.begin().expect("nobody leaves");
        let waiting = errands.clone();
        let stop = std::thread::spawn(move || waiting.stop());
        while errands.begin().is_some() {
            std::thread::yield_now();
        }
        assert!(!stop.is_finished());
        drop(errand);
        stop.join().expect("it ends");
    }
}
