//! The command line: one module per command, each with its clap `Args` and a `run`. Knows no command's insides.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, configuration or definitions.

mod arguments;
mod check;
mod completions;
mod delete;
mod demo;
mod describe;
mod dlq;
mod get;
mod history;
mod inspect;
mod output;
mod pending;
mod produce;
mod push;
mod reload;
mod rows;
mod serve;
mod status;
mod topics;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use arguments::Connection;
use output::BadInput;

/// The online feature store in front of your models: Kafka topics in, the latest value of every feature out.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

const EXAMPLES: &str = "\
First steps:
  forebay demo                                     a whole Forebay with simulated data, in one process
  forebay check --config forebay.toml              is the configuration right?
  forebay serve --config forebay.toml              run a server
  forebay status                                   what is it doing?
  forebay get customer-1 --view modem_health       read features
Every command explains itself: forebay COMMAND --help";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server: ingest from Kafka, store, answer reads
    Serve(serve::Args),
    /// Read features of entities
    Get(get::Args),
    /// Read the past versions of one view of one entity
    History(history::Args),
    /// Write data points (through Kafka)
    Push(push::Args),
    /// Delete views of entities (through Kafka)
    Delete(delete::Args),
    /// Show what every shard is doing
    Status(status::Args),
    /// Show the definitions in force
    Describe(describe::Args),
    /// Have the servers read their definitions again
    Reload(reload::Args),
    /// Check definitions and configuration, naming every error
    Check(check::Args),
    /// Create the Kafka topics the definitions name
    Topics(topics::Args),
    /// List, show and redrive dead letters
    Dlq(dlq::Args),
    /// Decode the files of a shard
    Inspect(inspect::Args),
    /// Produce simulated data points to Kafka
    Produce(produce::Args),
    /// Run a whole Forebay with simulated data in one process
    Demo(demo::Args),
    /// Print shell completions
    Completions(completions::Args),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let connection = cli.connection;
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Get(args) => client(get::run(args, connection)),
        Command::History(args) => client(history::run(args, connection)),
        Command::Push(args) => client(push::run(args, connection)),
        Command::Delete(args) => client(delete::run(args, connection)),
        Command::Status(args) => client(status::run(args, connection)),
        Command::Describe(args) => client(describe::run(args, connection)),
        Command::Reload(args) => client(reload::run(args, connection)),
        Command::Check(args) => check::run(args),
        Command::Topics(args) => client(topics::run(args)),
        Command::Dlq(args) => client(dlq::run(args)),
        Command::Inspect(args) => inspect::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Completions(args) => completions::run(args),
    }
}

/// Runs a command that talks to servers.
fn client(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Whoever read our output has had enough (`| head`): that is no failure.
    let closed = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    eprintln!("forebay: {error:#}");
    match error.chain().any(|cause| cause.is::<BadInput>()) {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Splits a line as a shell would, as far as our examples go: quotes, and everything after a pipe or comment left.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in line.chars() {
            match (quote, c) {
                (None, '\'' | '"') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (None, '|' | '<' | '>' | '#') => break,
                (None, ' ') => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
                (_, c) => word.push(c),
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        words
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines =
            help.lines().map(str::trim).filter(|line| line.starts_with("forebay ")).map(str::to_owned);
        // An explanation stands after at least three spaces.
        lines.map(|line| line.split("   ").next().unwrap_or(&line).to_owned()).collect()
    }

    #[test]
    fn every_example_in_the_help_is_a_command_that_parses() {
        let command = Cli::command();
        let mut all = examples(&command);
        for subcommand in command.get_subcommands() {
            let own = examples(subcommand);
            let ours_to_write = !["produce", "demo"].contains(&subcommand.get_name());
            assert!(!own.is_empty() || !ours_to_write, "{} has no example", subcommand.get_name());
            all.extend(own);
        }
        for example in all {
            if let Err(error) = Cli::try_parse_from(words(&example)) {
                panic!("{example}\n{error}");
            }
        }
    }

    #[test]
    fn bad_input_ends_with_2_and_a_closed_pipe_with_0() {
        let code = |error: anyhow::Error| format!("{:?}", failed(&error));
        assert_eq!(code(anyhow::anyhow!("no")), format!("{:?}", ExitCode::FAILURE));
        let bad = anyhow::Error::from(BadInput("no".into())).context("because");
        assert_eq!(code(bad), format!("{:?}", ExitCode::from(2)));
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(code(closed), format!("{:?}", ExitCode::SUCCESS));
    }
}
