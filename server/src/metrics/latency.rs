//! How long calls took, per RPC. Each thread has a histogram to itself nearly always, so that measuring costs one
//! uncontended lock; a scrape adds them up. One set for the process, as there is one process to measure.

use std::cell::Cell;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::text::{Kind, Page};

/// Sets of histograms; threads beyond that many share.
const SETS: usize = 16;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpc {
    /// Unary reads.
    GetFeatures,
    /// One request of a stream.
    StreamFeatures,
    /// One page.
    GetHistory,
    /// Until Kafka has acknowledged.
    PushFeatures,
    /// Until Kafka has acknowledged.
    DeleteFeatures,
    /// Until it is readable.
    CreateSnapshot,
    /// Unary reads.
    AssembleSnapshot,
    /// Unary reads.
    GetSnapshot,
    /// Until it is readable.
    RecordPrediction,
    /// Until it is readable.
    RecordOutcome,
    /// Unary reads.
    GetDiagnosis,
    /// One page.
    ListDiagnoses,
    /// Until the stream begins.
    Evaluate,
    /// Until all of it is readable.
    EraseEntity,
}

const RPCS: [(Rpc, &str); 14] = [
    (Rpc::GetFeatures, "GetFeatures"),
    (Rpc::StreamFeatures, "StreamFeatures"),
    (Rpc::GetHistory, "GetHistory"),
    (Rpc::PushFeatures, "PushFeatures"),
    (Rpc::DeleteFeatures, "DeleteFeatures"),
    (Rpc::CreateSnapshot, "CreateSnapshot"),
    (Rpc::AssembleSnapshot, "AssembleSnapshot"),
    (Rpc::GetSnapshot, "GetSnapshot"),
    (Rpc::RecordPrediction, "RecordPrediction"),
    (Rpc::RecordOutcome, "RecordOutcome"),
    (Rpc::GetDiagnosis, "GetDiagnosis"),
    (Rpc::ListDiagnoses, "ListDiagnoses"),
    (Rpc::Evaluate, "Evaluate"),
    (Rpc::EraseEntity, "EraseEntity"),
];

struct Measured {
    sets: Vec<[Mutex<Histogram<u64>>; RPCS.len()]>,
    failures: [AtomicU64; RPCS.len()],
}

static MEASURED: LazyLock<Measured> = LazyLock::new(|| Measured {
    sets: (0..SETS).map(|_| std::array::from_fn(|_| Mutex::new(histogram()))).collect(),
    failures: std::array::from_fn(|_| AtomicU64::new(0)),
});

static NEXT_SET: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SET: Cell<usize> = Cell::new(NEXT_SET.fetch_add(1, Ordering::Relaxed) % SETS);
}

/// 256 ns to a minute in ns, two digits; what is longer counts as a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(256, 60_000_000_000, 2).expect("the bounds are valid")
}

/// Notes a call that began at `started` and ends now.
pub fn observe(rpc: Rpc, started: Instant, succeeded: bool) {
    let measured = &*MEASURED;
    let taken_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    measured.sets[SET.get()][rpc as usize].lock().saturating_record(taken_ns);
    if !succeeded {
        measured.failures[rpc as usize].fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn write(page: &mut Page) {
    page.family(
        "forebay_request_seconds",
        Kind::Histogram,
        "Time in the handler of a call or stream request.",
    );
    for (rpc, name) in RPCS {
        page.histogram("forebay_request_seconds", &[("rpc", name)], &merged(rpc), 1e9);
    }
    page.family("forebay_request_failures_total", Kind::Counter, "Calls and stream requests that failed.");
    for (rpc, name) in RPCS {
        let failures = MEASURED.failures[rpc as usize].load(Ordering::Relaxed);
        page.sample("forebay_request_failures_total", &[("rpc", name)], failures);
    }
}

fn merged(rpc: Rpc) -> Histogram<u64> {
    let mut sum = histogram();
    for set in &MEASURED.sets {
        sum.add(&*set[rpc as usize].lock()).expect("all have the same bounds");
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_all_threads_are_counted() {
        let before = merged(Rpc::DeleteFeatures).len();
        std::thread::scope(|scope| {
            for _ in 0..SETS + 1 {
                scope.spawn(|| observe(Rpc::DeleteFeatures, Instant::now(), true));
            }
        });
        assert_eq!(merged(Rpc::DeleteFeatures).len(), before + SETS as u64 + 1);
    }

    #[test]
    fn every_rpc_has_its_place() {
        for (i, (rpc, name)) in RPCS.into_iter().enumerate() {
            assert_eq!((rpc as usize, format!("{rpc:?}")), (i, name.to_owned()));
        }
    }
}
