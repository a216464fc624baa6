//! `forebay-bench`: figures as ratios against a peer or a ceiling, on the same data in the same run. It starts what it
//! needs (broker, server, peers) on free ports, drives the released server through its public doors, and cleans up.

mod cpu;
mod load;
mod peers;
mod report;
mod scenario;
mod wire;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures Forebay beside its peers and ceilings: every figure is a ratio of medians over alternating pairs.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example: forebay-bench ingest --count 1000000 --json ingest.json")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// Write the rows as JSON to this file too.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Pairs measured after one discarded warm-up.
    #[arg(long, global = true, default_value_t = 5)]
    pairs: usize,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// The storage engine alone, against RocksDB and fjall.
    Engine(scenario::engine::Options),
    /// Kafka to applied and durable, against raw consumption of the same topics.
    Ingest(scenario::ingest::Options),
    /// GetFeatures and StreamFeatures over gRPC, against a tonic echo of the same bytes.
    Read(scenario::read::Options),
    /// Ingest with triggers, against the same server without.
    Triggers(scenario::triggers::Options),
    /// The seed's day: the mix with bursts, reads, triggers and predictions, everything on the same cores.
    Mixed(scenario::mixed::Options),
    /// Edge to prediction, with a model of a millisecond, at a rate of edges.
    Edges(scenario::edges::Options),
    /// Killed at full rate and ready again, beside a restart without index checkpoints; a rolling restart under reads.
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

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let report = match &arguments.scenario {
        Scenario::Engine(options) => {
            tokio::task::block_in_place(|| scenario::engine::run(options, arguments.pairs))?
        }
        Scenario::EngineSide(options) => return scenario::engine::side(options),
        Scenario::Ingest(options) => scenario::ingest::run(options, arguments.pairs).await?,
        Scenario::Triggers(options) => scenario::triggers::run(options, arguments.pairs).await?,
        Scenario::Read(options) => scenario::read::run(options, arguments.pairs).await?,
        Scenario::Mixed(options) => scenario::mixed::run(options).await?,
        Scenario::Edges(options) => scenario::edges::run(options).await?,
        Scenario::Recover(options) => scenario::recover::run(options, arguments.pairs).await?,
        Scenario::MixedGenerator(options) => return scenario::mixed::generator::run(&options.plan),
        Scenario::EchoServer => return peers::echo::serve().await,
    };
    println!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}
