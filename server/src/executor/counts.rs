//! What the executor did, per model: counts by outcome, and how long it took from an edge to its stored prediction. Written
//! by `job` and `run`, shown by `status`.

use std::sync::atomic::{AtomicU64, Ordering};

use forebay_proto::v1::PredictionStatus;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::model::Verdict;

/// A minute; what takes longer counts as one.
const MOST_US: u64 = 60_000_000;

/// Outcomes of asking a model.
pub(super) const STATUSES: [PredictionStatus; 5] = [
    PredictionStatus::Ok,
    PredictionStatus::TimedOut,
    PredictionStatus::Failed,
    PredictionStatus::Nonsense,
    PredictionStatus::NotAsked,
];

/// Counts of one model, since it was started.
#[derive(Debug)]
pub(super) struct Counts {
    statuses: [AtomicU64; STATUSES.len()],
    snapshots: AtomicU64,
    repeated: AtomicU64,
    dead_letters: AtomicU64,
    attempts: AtomicU64,
    edge_to_prediction_us: Mutex<Histogram<u64>>,
    model_us: Mutex<Histogram<u64>>,
}

/// Microseconds to a minute, two digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MOST_US, 2).expect("the bounds are valid")
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            statuses: Default::default(),
            snapshots: AtomicU64::default(),
            repeated: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            attempts: AtomicU64::default(),
            edge_to_prediction_us: Mutex::new(histogram()),
            model_us: Mutex::new(histogram()),
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counts {
    /// A snapshot was created or found.
    pub(super) fn snapshot(&self) {
        add(&self.snapshots, 1);
    }

    /// A job had been done before.
    pub(super) fn repeated(&self) {
        add(&self.repeated, 1);
    }

    /// A record was put aside.
    pub(super) fn dead_letter(&self) {
        add(&self.dead_letters, 1);
    }

    /// A model was asked, or not.
    pub(super) fn judged(&self, verdict: &Verdict) {
        if let Some(at) = STATUSES.iter().position(|status| *status == verdict.status) {
            add(&self.statuses[at], 1);
        }
        add(&self.attempts, verdict.attempts.into());
        if verdict.attempts > 0 {
            let took = u64::try_from(verdict.took.as_micros()).unwrap_or(MOST_US);
            self.model_us.lock().saturating_record(took);
        }
    }

    /// A prediction is stored, so many ms after its edge was told.
    pub(super) fn stored(&self, after_ms: i64) {
        let after_us = u64::try_from(after_ms).unwrap_or_default().saturating_mul(1000);
        self.edge_to_prediction_us.lock().saturating_record(after_us);
    }

    /// How many had this outcome; the index is that of `STATUSES`.
    pub(super) fn status(&self, at: usize) -> u64 {
        read(&self.statuses[at])
    }

    /// Snapshots created or found.
    pub(super) fn snapshots(&self) -> u64 {
        read(&self.snapshots)
    }

    /// Jobs that had been done before.
    pub(super) fn repetitions(&self) -> u64 {
        read(&self.repeated)
    }

    /// Records put aside.
    pub(super) fn dead_letters(&self) -> u64 {
        read(&self.dead_letters)
    }

    /// Requests made to the model.
    pub(super) fn attempts(&self) -> u64 {
        read(&self.attempts)
    }

    /// From an edge's Kafka timestamp to its stored prediction, µs.
    pub(super) fn edge_to_prediction_us(&self) -> Histogram<u64> {
        self.edge_to_prediction_us.lock().clone()
    }

    /// Time of the last attempt of each job, µs.
    pub(super) fn model_us(&self) -> Histogram<u64> {
        self.model_us.lock().clone()
    }
}
