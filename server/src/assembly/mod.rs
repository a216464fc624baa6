//! Feature assembly by Kafka: requests come in on a topic, answers go out on the topic each request names, in the order of
//! the requests of one key. At least once: a request's offset is committed when its answer is acknowledged. Started by
//! `serve`; answers are made by `service::calls`, so they are those of gRPC and REST. Knows no shard.
//!
//! ```text
//!  requests topic ─► thread (a member of the group) ─► order: one request of a key at a time ─► service::calls
//!                        ▲ commits                                                                │
//!                     window ◄── acknowledged ◄── reply topic, or the dead-letter topic ◄── reply ┘
//! ```
//!
//! A request that is none, or names no topic for its answer, or whose topic does not take it, goes to the dead-letter
//! topic with the reason: it keeps nobody waiting.

mod order;
mod outbox;
mod request;
mod thread;
mod window;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::watch;

use crate::service::Context;

/// How long a stop waits.
const STOP_BOUND: Duration = Duration::from_secs(8);

/// How often a stop looks whether it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What became of requests since this process started.
#[derive(Debug, Default)]
pub struct Counts {
    /// Taken from the topic.
    pub requests: AtomicU64,
    /// Answers that Kafka has, errors among them.
    pub replies: AtomicU64,
    /// Answers that say an error.
    pub errors: AtomicU64,
    /// Put aside: no request, no topic for the answer, or a topic that does not take it.
    pub dead_lettered: AtomicU64,
}

/// One set for the process, as there is one process to measure.
pub static COUNTS: Counts = Counts {
    requests: AtomicU64::new(0),
    replies: AtomicU64::new(0),
    errors: AtomicU64::new(0),
    dead_lettered: AtomicU64::new(0),
};

/// The threads that answer.
pub struct Assembly {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Assembly {
    /// Starts as many threads as configured; none without a topic. Fails only if a setting is wrong: that Kafka or the
    /// topic is not there is waited for.
    pub fn start(context: &Arc<Context>) -> anyhow::Result<Assembly> {
        let mut assembly = Assembly { stop: watch::Sender::new(false), threads: Vec::new() };
        let config = &context.config.assembly;
        let Some(topic) = config.requests_topic.clone() else { return Ok(assembly) };
        for number in 0..config.threads {
            let worker = thread::Worker::new(context.clone(), &topic, number).context("[kafka] settings")?;
            let stopped = assembly.stop.subscribe();
            let name = format!("assembly-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run(stopped))?;
            assembly.threads.push(thread);
        }
        Ok(assembly)
    }

    /// Takes no more requests; waits some seconds for answers under way and their offsets. What is not done by then (no
    /// broker answers) ends with the process. Blocks.
    pub fn stop(self) {
        self.stop.send_replace(true);
        let until = Instant::now() + STOP_BOUND;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= until {
                return tracing::warn!("assembly: no answer from Kafka; not waited for any longer");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        if self.threads.into_iter().any(|thread| thread.join().is_err()) {
            tracing::error!("an assembly thread panicked; its requests are answered again at the next start");
        }
    }
}
