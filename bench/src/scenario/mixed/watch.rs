//! What is looked at each second while the day goes on: the server's own metrics, and the processor time of every
//! process. Knows nothing of what it means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::page::{Buckets, Page};
use crate::cpu;

/// One look.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Seconds since the beginning.
    pub at_s: f64,
    /// What became of data points, over all outcomes.
    pub passed: f64,
    /// Messages between what is applied and the end of the logs.
    pub lag: f64,
    /// Kafka timestamp to readable, of the newest of each batch, since the server started.
    pub freshness: Buckets,
    /// Edges told since the server started.
    pub edges: f64,
    /// Edges to be told.
    pub waiting: f64,
    /// Resident memory of the server, bytes, mapped files included.
    pub resident: f64,
    /// Of it what is not mapped files.
    pub own: f64,
    /// `storage.memory`, bytes.
    pub limit: f64,
    /// Processor time of each process since it started, µs.
    pub cpu_us: BTreeMap<&'static str, u64>,
}

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// host:port of the server's metrics.
    pub http: String,
    /// Processes besides the server.
    pub pids: BTreeMap<&'static str, u32>,
    /// Lanes whose data points count.
    pub lanes: Vec<String>,
}

/// The outcomes of a data point.
pub const OUTCOMES: [&str; 6] = ["applied", "late", "duplicate", "dead_lettered", "expired", "replayed"];

impl Look {
    /// Looks now.
    pub async fn take(subject: &Subject, begin: Instant) -> anyhow::Result<Look> {
        let page = Page::get(&subject.http).await?;
        let mut look = Look { at_s: begin.elapsed().as_secs_f64(), ..Look::of(&page, &subject.lanes) };
        let server_us = (page.sum("process_cpu_seconds_total") * 1e6) as u64;
        look.cpu_us = subject.pids.iter().map(|(name, pid)| (*name, cpu::of_process(*pid))).collect();
        look.cpu_us.insert("server", server_us);
        Ok(look)
    }

    fn of(page: &Page, lanes: &[String]) -> Look {
        let mut look = Look {
            edges: page.sum("forebay_edges_total"),
            waiting: page.sum("forebay_edges_waiting"),
            resident: page.sum("process_resident_memory_bytes"),
            own: page.sum_of("forebay_memory_resident_bytes", "kind=\"anonymous\""),
            limit: page.sum("forebay_memory_limit_bytes"),
            ..Look::default()
        };
        for lane in lanes.iter().map(|lane| format!("lane=\"{lane}\"")) {
            let outcomes = OUTCOMES.map(|outcome| page.sum_of(&format!("forebay_{outcome}_total"), &lane));
            look.passed += outcomes.iter().sum::<f64>();
            look.lag += page.sum_of("forebay_lag_offsets", &lane);
            look.freshness.add(&page.buckets("forebay_freshness_seconds", &lane));
        }
        look
    }
}

/// Looks every second until it is left.
pub struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins; `first` is from before anything was sent.
    pub fn start(subject: Subject, first: Look, begin: Instant) -> Watch {
        let looks = Arc::new(Mutex::new(vec![first]));
        let into = looks.clone();
        let task = tokio::spawn(async move {
            let second = Duration::from_secs(1);
            let mut turn = tokio::time::interval_at(begin + second, second);
            turn.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                turn.tick().await;
                // A server that is too busy to answer is looked at again in a second.
                if let Ok(look) = Look::take(&subject, begin).await {
                    into.lock().push(look);
                }
            }
        });
        Watch { looks, task }
    }

    /// The newest look.
    pub fn last(&self) -> Option<Look> {
        self.looks.lock().last().cloned()
    }

    /// Ends, and gives all looks.
    pub fn leave(self) -> Vec<Look> {
        self.task.abort();
        std::mem::take(&mut self.looks.lock())
    }
}
