//! `forebay-bench`: figures as ratios against a peer or a ceiling, on the same data in the same run. It starts what it
//! needs (broker, server, peers) on free ports, drives the released server through its public doors, and cleans up.

mod cpu;
mod load;
mod peers;
mod report;
mod scenario;
mod tape;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde::Serialize;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const HELP: &str = "\
A scenario measures ours and its peer in turns, prints a table, and with --json FILE keeps it for the other commands:
report shows files of one or of many scenarios as a page, compare says what changed since a kept one. record and replay
are for data of your own: topics become a file, the file becomes topics again.

Examples:
  forebay-bench ingest --count 1000000 --json ingest.json
  forebay-bench read --pairs 7 --json read.json
  forebay-bench report ingest.json read.json --out report.html
  forebay-bench compare kept/ingest.json ingest.json
  forebay-bench record --bootstrap kafka:9092 --topic modem-health --out day.tape
  forebay-bench replay day.tape --bootstrap 127.0.0.1:9092 --topic-prefix again. --create-topics --speed 10

forebay-bench COMMAND --help says what each is for and can be told.";

/// Measures Forebay beside its peers and ceilings: every figure is a ratio of medians over alternating pairs.
#[derive(Debug, Parser)]
#[command(version, after_help = HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Write the outcome as JSON to this file too
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Scenarios: pairs measured after one discarded warm-up
    #[arg(long, global = true, default_value_t = 5)]
    pairs: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Scenario(Scenario),
    #[command(flatten)]
    Tool(Tool),
}

/// What measures.
#[derive(Debug, Subcommand)]
enum Scenario {
    /// What the storage engine alone does and costs, against RocksDB and fjall
    Engine(scenario::engine::Options),
    /// How fast Kafka becomes applied and durable, against raw consumption of the same topics, and Redis fed from them
    Ingest(scenario::ingest::Options),
    /// What GetFeatures and StreamFeatures cost over gRPC, against a tonic echo of the same bytes, and Redis
    Read(scenario::read::Options),
    /// What one lane feels while another bursts, against the same server when it does not
    Isolation(scenario::isolation::Options),
    /// What triggers cost ingest, against the same server without
    Triggers(scenario::triggers::Options),
    /// How the seed's day goes: the mix with bursts, reads, triggers and predictions on the same cores
    Mixed(scenario::mixed::Options),
    /// How long an edge takes to its prediction, at a rate of edges
    Edges(scenario::edges::Options),
    /// How many requests by Kafka are answered a second, and how soon
    Assembly(scenario::assembly::Options),
    /// How soon a killed server is ready, with and without index checkpoints; a rolling restart under reads
    Recover(scenario::recover::Options),
    /// One step of our side of `engine` in a process of its own; started by it.
    #[command(hide = true)]
    EngineSide(scenario::engine::SideOptions),
    /// The load of `mixed` in a process of its own; started by it.
    #[command(hide = true)]
    MixedGenerator(scenario::mixed::GeneratorOptions),
    /// The echo peer in a process of its own; started by `read`.
    #[command(hide = true)]
    EchoServer,
}

/// What works on reports and on data.
#[derive(Debug, Subcommand)]
enum Tool {
    /// Show reports as one self-contained page with plots
    Report(report::html::Options),
    /// Say what changed beyond noise between a kept report and a new one
    Compare(report::compare::Options),
    /// Record topics of your own to a file
    Record(tape::recording::Options),
    /// Send a recorded file to Kafka again, at its own pace or another
    Replay(tape::replay::Options),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json.as_deref();
    let done = match &arguments.command {
        Command::Scenario(scenario) => measure(scenario, arguments.pairs, json).await,
        Command::Tool(tool) => work(tool, json).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("Error: {error:?}");
        // 1 is what a comparison says of something worse.
        let comparing = matches!(arguments.command, Command::Tool(Tool::Compare(_)));
        ExitCode::from(if comparing { 2 } else { 1 })
    })
}

async fn measure(scenario: &Scenario, pairs: usize, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    let report = match scenario {
        Scenario::Engine(options) => tokio::task::block_in_place(|| scenario::engine::run(options, pairs))?,
        Scenario::EngineSide(options) => {
            return scenario::engine::side(options).map(|()| ExitCode::SUCCESS);
        }
        Scenario::Isolation(options) => scenario::isolation::run(options, pairs).await?,
        Scenario::Ingest(options) => scenario::ingest::run(options, pairs).await?,
        Scenario::Triggers(options) => scenario::triggers::run(options, pairs).await?,
        Scenario::Read(options) => scenario::read::run(options, pairs).await?,
        Scenario::Mixed(options) => scenario::mixed::run(options).await?,
        Scenario::Edges(options) => scenario::edges::run(options).await?,
        Scenario::Assembly(options) => scenario::assembly::run(options).await?,
        Scenario::Recover(options) => scenario::recover::run(options, pairs).await?,
        Scenario::MixedGenerator(options) => {
            return scenario::mixed::generator::run(&options.plan).map(|()| ExitCode::SUCCESS);
        }
        Scenario::EchoServer => return peers::echo::serve().await.map(|()| ExitCode::SUCCESS),
    };
    println!("{report}");
    write(json, &report)?;
    Ok(ExitCode::SUCCESS)
}

async fn work(tool: &Tool, json: Option<&Path>) -> anyhow::Result<ExitCode> {
    match tool {
        Tool::Report(options) => println!("{}", report::html::run(options)?),
        Tool::Compare(options) => {
            let found = report::compare::run(options)?;
            println!("{found}");
            write(json, &found)?;
            return Ok(ExitCode::from(u8::from(found.worse())));
        }
        Tool::Record(options) => {
            let stop = interrupted();
            let recorded = tokio::task::block_in_place(|| tape::recording::run(options, &stop))?;
            println!("{recorded}");
            write(json, &recorded)?;
        }
        Tool::Replay(options) => {
            let replayed = tape::replay::run(options, &interrupted()).await?;
            println!("{replayed}");
            write(json, &replayed)?;
            replayed.check()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(json: Option<&Path>, outcome: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = json else { return Ok(()) };
    std::fs::write(path, serde_json::to_string_pretty(outcome)?)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// Becomes true on Ctrl-C, so that what was done until then is whole and said.
fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = flag.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    });
    flag
}
