//! What people see of the demo: where to look, and a line that is written anew every second. With `--json` nothing.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::cast::{Cast, PROBED_VIEW};
use super::executable;
use super::judges::{Example, Judged};
use super::stage::{Counts, Stage};

/// The terminal, or what stands for it.
pub(super) struct Screen {
    json: bool,
    /// A line that is refreshed in place; hidden when there is no terminal.
    bar: ProgressBar,
    terminal: bool,
    /// Whether a diagnosis was shown.
    shown: AtomicBool,
    before: Mutex<Before>,
}

/// The line before, to make rates of counts.
#[derive(Default)]
struct Before {
    elapsed: Duration,
    produced: u64,
    applied: u64,
}

impl Screen {
    /// With `json`, stdout is left alone.
    pub fn new(json: bool) -> Screen {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("a good template");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        Screen {
            json,
            bar,
            terminal: std::io::stderr().is_terminal(),
            shown: false.into(),
            before: Mutex::default(),
        }
    }

    /// What is going on.
    pub fn say(&self, message: &'static str) {
        match self.terminal {
            true => self.bar.set_message(message),
            false if !self.json => println!("{message}"),
            false => {}
        }
    }

    /// What can be tried beside it.
    pub fn introduce(&self, stage: &Stage, entity: &str) {
        if self.json {
            return;
        }
        let program = executable();
        let (program, server) = (program.display(), &stage.server);
        let text = format!(
            "A server is running on {server} (metrics on {}/metrics), fed from a stand-in for Kafka.\n\
             Try beside it:\n\n  \
             {program} get --server {server} {entity} --view {PROBED_VIEW}\n  \
             {program} get --server {server} {entity} --service customer_experience@1 --typed\n  \
             {program} history --server {server} {entity} --view {PROBED_VIEW} --limit 5\n  \
             {program} status --server {server}\n\n\
             Ctrl-C ends it.\n",
            stage.http
        );
        self.bar.suspend(|| println!("{text}"));
    }

    /// The first diagnosis, once.
    pub fn example(&self, stage: &Stage, example: Option<&Example>) {
        let Some(Example { id, entity, outputs }) = example else { return };
        if self.json || self.shown.swap(true, Ordering::Relaxed) {
            return;
        }
        let (program, server) = (executable(), &stage.server);
        let program = program.display();
        let text = format!(
            "The signal of {entity} turned RED; the model says {outputs}. What it saw, and what was decided:\n\n  \
             {program} diagnosis show --server {server} {id}\n"
        );
        self.bar.suspend(|| println!("{text}"));
    }

    /// Rates count from here.
    pub fn begin(&self, counts: &Counts, cast: &Cast) {
        *self.before.lock() =
            Before { elapsed: Duration::ZERO, produced: cast.produced(), applied: counts.applied };
    }

    /// The second's line.
    pub fn line(&self, elapsed: Duration, counts: &Counts, cast: &Cast, judged: &Judged) {
        let line = self.compose(elapsed, counts, cast, judged);
        match self.terminal {
            true => self.bar.set_message(line),
            false if !self.json => println!("{line}"),
            false => {}
        }
    }

    fn compose(&self, elapsed: Duration, counts: &Counts, cast: &Cast, judged: &Judged) -> String {
        let (measures, produced) = (cast.measures(), cast.produced());
        let mut before = self.before.lock();
        let seconds = (elapsed - before.elapsed).as_secs_f64().max(1e-3);
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let line = format!(
            "{:3} s | produced {:.0}/s | applied {:.0}/s | late {} dead-lettered {} duplicates {} | {} keys | \
             lag {} ({} ms) | readable after {} ms (p99 {}) | read {} us (p99 {}) | \
             edges {} diagnoses {} (p99 {} ms)",
            elapsed.as_secs(),
            per_second(produced, before.produced),
            per_second(counts.applied, before.applied),
            counts.late,
            counts.dead_lettered,
            counts.duplicates,
            counts.keys,
            counts.lag,
            counts.lag_ms,
            measures.readable_ms(0.5),
            measures.readable_ms(0.99),
            measures.read_us(0.5),
            measures.read_us(0.99),
            judged.edges,
            judged.diagnoses,
            judged.edge_to_prediction_ms(0.99),
        );
        *before = Before { elapsed, produced, applied: counts.applied };
        line
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
