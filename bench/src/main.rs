//! `forebay-bench`: figures as ratios against a peer or a ceiling, on the same data in the same run. It starts what it
//! needs (broker, server, peers) on free ports, drives the released server through its public doors, and cleans up.

mod cpu;
mod load;
mod peers;
mod report;
mod scenario;

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
    /// Kafka to applied and durable, against raw consumption of the same topics and a copy of them to Redis.
    Ingest(scenario::ingest::Options),
    /// GetFeatures and StreamFeatures over gRPC, against a tonic echo of the same bytes and Redis with the same values.
    Read(scenario::read::Options),
    /// Ingest with triggers, against the same server without.
    Triggers(scenario::triggers::Options),
    /// One step of our side of `engine` in a process of its own; started by it.
    #[command(hide = true)]
    EngineSide(scenario::engine::SideOptions),
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
        Scenario::EchoServer => return peers::echo::serve().await,
    };
    println!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}
