//! How fast things are done again and again: requests a second, and pauses that grow with failures. Pure: the caller says
//! what time it is, brings the randomness, and does the waiting.

use std::time::{Duration, Instant};

use rand::Rng;

/// Gives each request its moment, so that there are no more than so many a second.
#[derive(Debug)]
pub(super) struct Pace {
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Pace {
    /// At most `per_second`; none: no limit.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Pace { every: per_second.map(|rate| Duration::from_secs(1) / rate.max(1)), next: None }
    }

    /// The moment of the request that is asked for now.
    pub(super) fn moment(&mut self, now: Instant) -> Instant {
        let Some(every) = self.every else { return now };
        let moment = self.next.map_or(now, |next| next.max(now));
        self.next = Some(moment + every);
        moment
    }
}

/// Pauses after failures: anything up to a bound that doubles with each, so that those who failed together do not come
/// back together ("full jitter").
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    /// Bound after the first failure.
    pub first: Duration,
    /// Largest bound.
    pub most: Duration,
}

impl Backoff {
    /// The pause after failure number `failures`, 1 and up.
    pub(super) fn pause(&self, failures: u32, random: &mut impl Rng) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.most).mul_f64(random.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn requests_are_spread_over_the_second() {
        let (mut pace, now) = (Pace::new(Some(100)), Instant::now());
        let moments: Vec<_> = (0..5).map(|_| pace.moment(now) - now).collect();
        assert_eq!(moments, [0, 10, 20, 30, 40].map(Duration::from_millis));
        let later = now + Duration::from_secs(9);
        assert_eq!(pace.moment(later), later, "what was not used is not saved up");
        assert_eq!(pace.moment(later), later + Duration::from_millis(10));
        let mut free = Pace::new(None);
        assert!((0..5).all(|_| free.moment(now) == now));
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_are_spread_over_all_of_it() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        let mut random = SmallRng::seed_from_u64(1);
        for (failures, bound_ms) in [(1, 100), (2, 200), (4, 800), (5, 1000), (60, 1000)] {
            let pauses: Vec<_> = (0..200).map(|_| backoff.pause(failures, &mut random).as_millis()).collect();
            assert!(pauses.iter().all(|pause| *pause <= bound_ms), "{failures}: {pauses:?}");
            let (low, high) = (bound_ms / 4, bound_ms * 3 / 4);
            assert!(pauses.iter().any(|pause| *pause < low) && pauses.iter().any(|pause| *pause > high));
        }
    }
}
