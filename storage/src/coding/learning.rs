//! When a view's coding is learned: first from the first payloads, once more from many, then again when payloads no longer
//! fit as they did. Belongs to the writer; knows no files and no generations, only what coding came to.

use crate::codec::{Drift, Encoded, Encoder, Limits, Trainer};

/// The state of one view.
#[derive(Debug)]
pub(super) struct Learning {
    /// Samples of the first training; 0: never learn. Everything else is a multiple.
    first: u32,
    phase: Phase,
    /// Trainings that gave a generation.
    trainings: u32,
    /// Payloads since the last training began to be used.
    since: u64,
    window: Drift,
    /// The first window after the last training.
    fresh: Option<Fit>,
    /// Windows one after the other that were worse.
    worse: u32,
    /// Coding is worth its time.
    pays: bool,
}

#[derive(Debug)]
enum Phase {
    /// Collects: every so many payloads one, until so many were shown.
    Sampling {
        trainer: Box<Trainer>,
        every: u64,
        left: u64,
    },
    /// Waits for a training.
    Training,
    Measuring,
}

/// How well payloads fit.
#[derive(Debug, Clone, Copy)]
struct Fit {
    unfit: f64,
    escapes: f64,
    ratio: f64,
}

/// Samples of a later training, in multiples of the first.
const LATER_SAMPLES: u64 = 4;
/// Payloads of which one is sampled after the first training.
const EVERY: u64 = 8;
/// Payloads measured at a time, in multiples of the first training's samples.
const WINDOW: u64 = 16;
/// Least payloads between trainings for drift, in multiples; doubles with each up to `DOUBLINGS` times.
const INTERVAL: u64 = 256;
const DOUBLINGS: u32 = 8;
/// Worse than fresh: so much more share of payloads unfit, of scalars escaped, or this factor of stored bytes.
const MORE_UNFIT: f64 = 0.02;
const MORE_ESCAPES: f64 = 0.03;
const MORE_BYTES: f64 = 1.15;
/// Bad, fresh or not: payloads that drifted while nobody looked.
const MOST_UNFIT: f64 = 0.2;
/// So many windows one after the other must be worse.
const WINDOWS: u32 = 2;
/// Coding that leaves more than this share of the bytes is not worth its time.
const USELESS: f64 = 0.9;
/// Memory of the samples of one training.
const SAMPLE_BYTES: usize = 2 << 20;

impl Learning {
    /// Of a view; `known` are the samples that the generation it has was learned from. `first` samples are enough for a
    /// first one.
    pub fn new(first: u32, known: Option<u32>) -> Learning {
        let (phase, trainings) = match known {
            None => (sampling(first, first.into(), 1), 0),
            Some(samples) if samples <= first => (later(first), 1),
            Some(_) => (Phase::Measuring, 2),
        };
        let (window, fresh) = (Drift::default(), None);
        Learning { first, phase, trainings, since: 0, window, fresh, worse: 0, pays: true }
    }

    /// Whether payloads are to be coded.
    pub fn pays(&self) -> bool {
        self.pays
    }

    /// Notes a payload that was put, and what it was coded to, if it was. Gives the samples when it is time to train.
    pub fn note(&mut self, payload: &[u8], coded: Option<(Encoded, &Encoder, usize)>) -> Option<Trainer> {
        if self.first == 0 {
            return None;
        }
        self.since += 1;
        if let Some((encoded, encoder, stored)) = coded {
            self.window.count(encoded, encoder, payload.len(), stored);
            if self.window.payloads >= WINDOW * u64::from(self.first) {
                self.judge();
            }
        }
        let due = self.worse >= WINDOWS || !self.pays;
        if due && self.since >= self.interval() && matches!(self.phase, Phase::Measuring) {
            self.phase = later(self.first);
        }
        self.sample(payload)
    }

    fn interval(&self) -> u64 {
        (u64::from(self.first) * INTERVAL) << self.trainings.saturating_sub(2).min(DOUBLINGS)
    }

    fn sample(&mut self, payload: &[u8]) -> Option<Trainer> {
        let Phase::Sampling { trainer, every, left } = &mut self.phase else { return None };
        if !self.since.is_multiple_of(*every) {
            return None;
        }
        trainer.sample(payload);
        *left -= 1;
        if *left > 0 {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Training) {
            Phase::Sampling { trainer, .. } => Some(*trainer),
            _ => None,
        }
    }

    fn judge(&mut self) {
        let now = Fit::of(&std::mem::take(&mut self.window));
        if self.fresh.is_none() {
            self.pays = now.ratio <= USELESS;
        }
        let fresh = *self.fresh.get_or_insert(now);
        self.worse = if now.is_worse_than(&fresh) { self.worse + 1 } else { 0 };
    }

    /// A training has ended, with a generation learned from so many samples that is used from now on, or without.
    pub fn trained(&mut self, samples: Option<u32>) {
        if let Some(samples) = samples {
            // One that another shard learned from many is no first one.
            self.trainings = (self.trainings + 1).max(if samples > self.first { 2 } else { 1 });
            (self.since, self.worse, self.fresh, self.pays) = (0, 0, None, true);
            self.window = Drift::default();
        }
        // The first knew few payloads, and what could not be written may be now.
        self.phase =
            if self.trainings < 2 || samples.is_none() { later(self.first) } else { Phase::Measuring };
    }
}

fn sampling(first: u32, left: u64, every: u64) -> Phase {
    let samples = (u64::from(first) * LATER_SAMPLES) as usize;
    let limits = Limits { samples, sample_bytes: SAMPLE_BYTES, ..Limits::default() };
    Phase::Sampling { trainer: Box::new(Trainer::new(limits)), every, left }
}

fn later(first: u32) -> Phase {
    sampling(first, u64::from(first) * LATER_SAMPLES, EVERY)
}

impl Fit {
    fn of(window: &Drift) -> Fit {
        Fit { unfit: window.unfit_share(), escapes: window.escape_share(), ratio: window.stored_share() }
    }

    fn is_worse_than(&self, fresh: &Fit) -> bool {
        self.unfit > (fresh.unfit + MORE_UNFIT).min(MOST_UNFIT)
            || self.escapes > fresh.escapes + MORE_ESCAPES
            || self.ratio > fresh.ratio * MORE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Coding;

    /// Puts payloads that are stored in so many percent of their bytes until it is time to train, at most `most`.
    fn put(learning: &mut Learning, percent: usize, valid: bool, most: u64) -> Option<u64> {
        let (payload, encoder) = ([b'x'; 100], Encoder::new());
        let encoded = Encoded { coding: if valid { Coding::Shape } else { Coding::Zstd }, valid };
        (1..=most).find(|_| {
            let coded = (learning.trainings > 0 && learning.pays()).then_some((encoded, &encoder, percent));
            learning.note(&payload, coded).is_some()
        })
    }

    #[test]
    fn a_view_is_learned_from_few_payloads_then_from_many() {
        let mut learning = Learning::new(4, None);
        assert_eq!(put(&mut learning, 20, true, 100), Some(4));
        assert_eq!(put(&mut learning, 20, true, 100), None);
        learning.trained(Some(4));
        assert_eq!(put(&mut learning, 20, true, 1000), Some(4 * 4 * 8));
        learning.trained(Some(16));
        assert_eq!(put(&mut learning, 20, true, 100_000), None);
        let mut learning = Learning::new(4, None);
        assert!(put(&mut learning, 20, true, 4).is_some());
        learning.trained(Some(16));
        assert_eq!(put(&mut learning, 20, true, 100_000), None, "another had learned it from many");
    }

    #[test]
    fn drift_trains_again_ever_more_rarely_and_a_bad_hour_does_not() {
        let mut learning = Learning::new(4, Some(16));
        let window = 4 * WINDOW;
        assert_eq!(put(&mut learning, 20, true, 32 * window), None);
        assert_eq!(put(&mut learning, 80, true, window), None);
        assert_eq!(put(&mut learning, 20, true, 32 * window), None);
        let first = put(&mut learning, 80, true, 10_000).expect("it drifted");
        learning.trained(Some(16));
        assert!(put(&mut learning, 20, true, 64).is_none());
        let second = put(&mut learning, 80, false, 10_000).expect("it drifted again");
        assert!(second > first && second > 4 * INTERVAL, "{first} {second}");
    }

    #[test]
    fn coding_that_does_not_pay_rests_and_is_tried_again() {
        let mut learning = Learning::new(4, Some(16));
        assert!(put(&mut learning, 99, false, 64).is_none() && !learning.pays());
        assert!(put(&mut learning, 99, false, 10_000).is_some());
        learning.trained(Some(16));
        assert!(learning.pays());
    }

    #[test]
    fn nothing_is_learned_where_it_is_not_wanted_and_a_failure_is_tried_again() {
        assert_eq!(put(&mut Learning::new(0, None), 20, true, 1000), None);
        let mut learning = Learning::new(4, None);
        assert!(put(&mut learning, 20, true, 4).is_some());
        learning.trained(None);
        assert_eq!(put(&mut learning, 20, true, 1000), Some(4 * 4 * 8 - 4));
    }
}
