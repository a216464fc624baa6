//! The storage engine alone, beside RocksDB and fjall, on the same data in one run. Every side works in processes of its
//! own, one after the other, so that what it writes, keeps in memory and burns is its own.

mod coding;
mod data;
mod ours;
mod peers;
mod rebuild;
mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use forebay_bench_stores::meter::Figure;
use forebay_bench_stores::{Plan, Step, work};
use serde_json::json;

use super::progress;
use crate::report::{Report, Sample};

const OURS: &str = "ours";

/// Figures of one side in one round, by name.
type Figures = BTreeMap<String, Sample>;

/// What `forebay-bench engine` can be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Keys (entity and view) times this; 1 is small enough for a laptop, and everything is measured.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    scale: u64,
    /// Keys at scale 1, ten views for each entity.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1000..))]
    keys: u64,
    /// How long each rate of reads is measured, in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// A store to measure beside ours; again for another. RocksDB and fjall if not given; `none` for ours alone, which
    /// builds nothing.
    #[arg(long = "peer", value_name = "NAME", value_parser = ["rocksdb", "fjall", "none"])]
    peers: Vec<String>,
    /// Folder for the stores, on the disk to measure; a temporary one if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// One step of our side, in a process of its own.
#[derive(Debug, clap::Args)]
pub struct SideOptions {
    plan: String,
}

/// Does the step.
pub fn side(options: &SideOptions) -> anyhow::Result<()> {
    let plan = Plan::parse(&options.plan)?;
    match plan.step {
        Step::Coding => coding::run(&plan),
        Step::Rebuild => rebuild::run(&plan),
        _ => work::run::<ours::Ours>(&plan),
    }
}

/// A store to measure.
struct Side {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// Runs the rounds.
pub fn run(options: &Options, pairs: usize) -> anyhow::Result<Report> {
    let began = Instant::now();
    let sides = sides(&options.peers)?;
    let built = began.elapsed().as_secs();
    let room = tempfile::TempDir::new_in(options.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let plan = plan(options, room.path());
    let step = progress("making the data");
    let facts = data::write(&plan)?;
    step.finish_and_clear();
    let mut rounds = Vec::new();
    for pair in 0..=pairs {
        let mut round = Vec::new();
        for side in &sides {
            let step = progress(format!("pair {pair} of {pairs} (0 is a warm-up): {}", side.name));
            round.push(side.round(&plan).with_context(|| format!("{} failed", side.name))?);
            step.finish_and_clear();
        }
        if pair > 0 || pairs == 0 {
            rounds.push(round);
        }
    }
    let mut report = Report::new("engine");
    report.data.extend(facts);
    report.data.insert("keys", json!(plan.keys));
    report.data.insert("memory_bytes_each", json!(plan.cache_bytes));
    report.data.insert("pairs", json!(pairs));
    report.data.insert("peers_built_s", json!(built));
    report.data.insert("whole_run_s", json!(began.elapsed().as_secs()));
    for (name, version) in peers::versions(&options.peers) {
        report.data.insert(name, json!(version));
    }
    let names: Vec<&'static str> = sides.iter().map(|side| side.name).collect();
    report.rows = rows::rows(&names, &rounds);
    Ok(report)
}

/// Ours first; what is missing of the others is built.
fn sides(peers: &[String]) -> anyhow::Result<Vec<Side>> {
    let wanted = |name: &str| peers.is_empty() || peers.iter().any(|peer| peer == name);
    let ours = std::env::current_exe().context("where this program is")?;
    let mut sides = vec![Side { name: OURS, program: ours, arguments: &["engine-side"] }];
    if wanted("rocksdb") || wanted("fjall") {
        let program = peers::build()?;
        for (name, arguments) in [("rocksdb", &["rocksdb"]), ("fjall", &["fjall"])] {
            if wanted(name) {
                sides.push(Side { name, program: program.clone(), arguments });
            }
        }
    }
    Ok(sides)
}

fn plan(options: &Options, room: &Path) -> Plan {
    let keys = options.scale * options.keys / 10 * 10;
    Plan {
        step: Step::Work,
        dir: room.join("store"),
        data: room.join("data"),
        keys,
        seconds: options.seconds,
        burst: 243_000.0,
        // The same memory for each: what Forebay needs to hold every current value, as it stores it, thinned out.
        cache_bytes: (keys * 500).max(64 << 20),
        histories: 40,
        versions: 2016,
        cold_reads: (keys / 20).min(10_000),
    }
}

impl Side {
    /// All steps, on fresh stores.
    fn round(&self, plan: &Plan) -> anyhow::Result<Figures> {
        let mut figures = Figures::new();
        let all = [&[Step::Work, Step::Reopen][..], &[Step::History], &[Step::Expiry]];
        let own = [&[Step::Space][..], &[Step::Coding], &[Step::Rebuild]];
        for steps in all.into_iter().chain(own.into_iter().filter(|_| self.name == OURS)) {
            std::fs::remove_dir_all(&plan.dir).ok();
            std::fs::create_dir_all(&plan.dir)?;
            // What the side before wrote is not to be written back while this one is measured.
            rustix::fs::sync();
            for step in steps {
                figures.extend(self.step(&Plan { step: *step, ..plan.clone() })?);
            }
        }
        std::fs::remove_dir_all(&plan.dir)?;
        Ok(figures)
    }

    fn step(&self, plan: &Plan) -> anyhow::Result<Figures> {
        let mut command = Command::new(&self.program);
        command.args(self.arguments).arg(plan.text());
        let output = command.stderr(Stdio::inherit()).stdin(Stdio::null()).output()?;
        let crashed = plan.step == Step::Work && output.status.code().is_none();
        ensure!(output.status.success() || crashed, "{:?}: {}", plan.step, output.status);
        let lines = std::str::from_utf8(&output.stdout)?.lines();
        let figures = lines.map(|line| {
            let figure: Figure = serde_json::from_str(line).with_context(|| line.to_owned())?;
            Ok((figure.name, Sample { value: figure.value, cpu_us: figure.cpu_us }))
        });
        figures.collect()
    }
}
