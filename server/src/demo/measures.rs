//! Latencies as the demo's reader and prober see them. Written by `cast`, read by `screen` and `outcome`.

use hdrhistogram::Histogram;

/// What was measured so far.
#[derive(Debug, Clone)]
pub(super) struct Measures {
    /// A GetFeatures call, in microseconds.
    pub reads: Histogram<u64>,
    /// From before producing to the answer that has it, in microseconds.
    pub readable: Histogram<u64>,
    /// Reads that were not answered with a value.
    pub failed: u64,
    /// Why, the last time.
    pub last_failure: String,
}

impl Default for Measures {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).expect("good bounds");
        Measures { reads: histogram(), readable: histogram(), failed: 0, last_failure: String::new() }
    }
}

impl Measures {
    /// Counts a read that went wrong.
    pub fn fail(&mut self, why: impl ToString) {
        self.failed += 1;
        self.last_failure = why.to_string();
    }

    /// A read's latency at this quantile, in microseconds.
    pub fn read_us(&self, quantile: f64) -> u64 {
        self.reads.value_at_quantile(quantile)
    }

    /// Produced to readable at this quantile, in ms to a hundredth.
    pub fn readable_ms(&self, quantile: f64) -> f64 {
        (self.readable.value_at_quantile(quantile) as f64 / 10.0).round() / 100.0
    }
}
