//! When a model that keeps failing is left alone. A pure state machine: the caller says what time it is and how each
//! request ended.
//!
//! ```text
//!            failures in a row                 open for long enough: one trial
//!  Closed ─────────────────────► Open ─────────────────────────────────────────► Trial
//!    ▲                            ▲                                               │  │
//!    └────────── it succeeds ─────┼───────────────────────────────────────────────┘  │
//!                                 └────────────────── it fails ──────────────────────┘
//! ```

use std::time::{Duration, Instant};

use crate::definitions::model::Limits;

/// Whether a model may be asked.
#[derive(Debug)]
pub(super) struct Circuit {
    most_failures: u32,
    open_for: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is asked; so many requests in a row have failed.
    Closed(u32),
    /// It is not asked before then.
    Open(Instant),
    /// One request tries it; others wait for how that ends.
    Trial,
}

impl Circuit {
    /// Closed.
    pub(super) fn new(limits: &Limits) -> Self {
        Circuit {
            most_failures: limits.circuit_failures,
            open_for: Duration::from_millis(limits.circuit_open_ms),
            state: State::Closed(0),
        }
    }

    /// Whether a request may be made now. Who is told so must say how it ended.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open(until) if now >= until => {
                self.state = State::Trial;
                true
            }
            State::Open(_) | State::Trial => false,
        }
    }

    /// A request was answered.
    pub(super) fn succeeded(&mut self) {
        // An answer to a request from before it opened says nothing new; the trial does.
        if !matches!(self.state, State::Open(_)) {
            self.state = State::Closed(0);
        }
    }

    /// A request was not answered, or with an error of the server's. True if it opened by that.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let failures = match self.state {
            State::Closed(failures) => failures + 1,
            State::Trial => self.most_failures,
            State::Open(_) => return false,
        };
        let opens = self.most_failures > 0 && failures >= self.most_failures;
        self.state = if opens { State::Open(now + self.open_for) } else { State::Closed(failures) };
        opens
    }

    /// Whether requests are refused.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    fn circuit(most_failures: u32) -> Circuit {
        Circuit { most_failures, open_for: OPEN_FOR, state: State::Closed(0) }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (mut circuit, now) = (circuit(3), Instant::now());
        for _ in 0..5 {
            assert!(!circuit.failed(now) && !circuit.failed(now));
            circuit.succeeded();
        }
        assert!(!circuit.failed(now) && !circuit.failed(now) && circuit.failed(now));
        assert!(circuit.is_open() && !circuit.admits(now));
        assert!(!circuit.admits(now + OPEN_FOR - Duration::from_millis(1)));
    }

    #[test]
    fn one_trial_decides() {
        let (mut circuit, now) = (circuit(1), Instant::now());
        assert!(circuit.failed(now));
        let later = now + OPEN_FOR;
        assert!(circuit.admits(later) && !circuit.admits(later), "one, not two");
        assert!(circuit.failed(later), "open again");
        assert!(!circuit.admits(later + OPEN_FOR / 2) && circuit.admits(later + OPEN_FOR));
        circuit.succeeded();
        assert!(!circuit.is_open() && circuit.admits(later) && circuit.admits(later));
    }

    #[test]
    fn requests_from_before_it_opened_change_nothing() {
        let (mut circuit, now) = (circuit(1), Instant::now());
        assert!(circuit.failed(now) && !circuit.failed(now + OPEN_FOR / 2));
        circuit.succeeded();
        assert!(!circuit.admits(now + OPEN_FOR / 2) && circuit.admits(now + OPEN_FOR));
    }

    #[test]
    fn without_a_number_it_never_opens() {
        let (mut circuit, now) = (circuit(0), Instant::now());
        assert!((0..1000).all(|_| !circuit.failed(now) && circuit.admits(now)));
    }
}
