//! How many data points are due when: a warm-up, a steady rate, bursts evenly spread over it. Pure. Times are seconds since
//! the run began, warm-up included.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A day in small.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Day {
    /// Data points per second outside of bursts.
    pub rate: f64,
    /// And in bursts.
    pub burst_rate: f64,
    /// Not counted: caches, connections and the compiler of the broker get warm.
    pub warm_up_s: f64,
    /// Of everything, warm-up included.
    pub end_s: f64,
    /// From and to.
    pub bursts: Vec<(f64, f64)>,
}

impl Day {
    /// `bursts` of `burst_s` seconds, with the same calm time before, between and after them, in `seconds` after a warm-up.
    pub fn new(rates: (f64, f64), warm_up_s: f64, seconds: f64, bursts: u32, burst_s: f64) -> Day {
        let calm_s = (seconds - f64::from(bursts) * burst_s) / f64::from(bursts + 1);
        let begin = |number: u32| warm_up_s + calm_s + f64::from(number) * (calm_s + burst_s);
        let bursts = (0..bursts).map(|number| (begin(number), begin(number) + burst_s)).collect();
        Day { rate: rates.0, burst_rate: rates.1, warm_up_s, end_s: warm_up_s + seconds, bursts }
    }

    /// Whether there is calm time around each burst.
    pub fn is_sound(&self) -> bool {
        self.rate > 0.0
            && self.burst_rate >= self.rate
            && self.end_s > self.warm_up_s
            && self.bursts.first().is_none_or(|(begin, end)| *begin > self.warm_up_s && end > begin)
    }

    /// Data points due in the first `seconds`.
    pub fn due(&self, seconds: f64) -> f64 {
        let until = seconds.clamp(0.0, self.end_s);
        let in_burst = |(begin, end): &(f64, f64)| (until.min(*end) - begin).max(0.0);
        let burst_s: f64 = self.bursts.iter().map(in_burst).sum();
        until * self.rate + burst_s * (self.burst_rate - self.rate)
    }

    /// When so many data points are due.
    pub fn due_at(&self, count: f64) -> f64 {
        let (mut at, mut left) = (0.0, count);
        for (begin, end) in &self.bursts {
            let calm = (begin - at) * self.rate;
            if left <= calm {
                return at + left / self.rate;
            }
            left -= calm;
            let burst = (end - begin) * self.burst_rate;
            if left <= burst {
                return begin + left / self.burst_rate;
            }
            (left, at) = (left - burst, *end);
        }
        at + left / self.rate
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.end_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_spread_with_calm_around_them() {
        let day = Day::new((10.0, 30.0), 5.0, 100.0, 3, 20.0);
        assert_eq!(day.bursts, [(15.0, 35.0), (45.0, 65.0), (75.0, 95.0)]);
        assert!(day.is_sound());
        assert!(!Day::new((10.0, 30.0), 5.0, 100.0, 3, 40.0).is_sound());
    }

    #[test]
    fn what_is_due_when_is_the_inverse_of_when_it_is_due() {
        let day = Day::new((10.0, 30.0), 5.0, 100.0, 3, 20.0);
        assert_eq!(day.due(25.0), 15.0 * 10.0 + 10.0 * 30.0);
        assert_eq!(day.due(200.0), 45.0 * 10.0 + 60.0 * 30.0);
        for seconds in [0.0, 5.0, 15.0, 20.0, 40.0, 66.0, 99.0, 104.0] {
            assert!((day.due_at(day.due(seconds)) - seconds).abs() < 1e-9, "{seconds}");
        }
    }
}
