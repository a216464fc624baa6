//! The command line: one module per command, each with its clap `Args` and a `run`. Knows no command's insides.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, configuration or definitions.

mod apply;
mod arguments;
mod check;
mod completions;
mod delete;
mod demo;
mod describe;
mod diagnosed;
mod diagnosis;
mod dlq;
mod erase;
mod evaluate;
mod execute;
mod get;
mod history;
mod inspect;
mod outcome;
mod output;
mod produce;
mod push;
mod registry;
mod reload;
mod rows;
mod serve;
mod snapshot;
mod sources;
mod status;
mod topics;
mod toy_model;
mod triggers;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ConfigErrors;
use crate::definitions::DefinitionErrors;
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
  forebay execute --config forebay.toml            ask models about changes of state
  forebay status                                   what is it doing?
  forebay get customer-1 --view modem_health       read features
Every command explains itself: forebay COMMAND --help";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server: ingest from Kafka, store, answer reads
    Serve(serve::Args),
    /// Ask the models of edges and requests, and have their predictions stored
    Execute(execute::Args),
    /// Read features of entities
    Get(get::Args),
    /// Read the past versions of one view of one entity
    History(history::Args),
    /// Write data points (through Kafka)
    Push(push::Args),
    /// Delete views of entities (through Kafka)
    Delete(delete::Args),
    /// Keep the features of a moment under a diagnosis id, and show them
    Snapshot(snapshot::Args),
    /// Show diagnoses: features, prediction, outcome
    Diagnosis(diagnosis::Args),
    /// Record what turned out to be true of a diagnosis
    Outcome(outcome::Args),
    /// Read all diagnoses of a model, for training and evaluation
    Evaluate(evaluate::Args),
    /// Erase an entity: its features and its diagnoses
    Erase(erase::Args),
    /// Show what every shard is doing
    Status(status::Args),
    /// Show the definitions in force
    Describe(describe::Args),
    /// Change what is defined, through the registry: shows the changes, then makes them
    Apply(apply::Args),
    /// Take definitions out of the registry
    Registry(registry::Args),
    /// Have the servers read their definition files again
    Reload(reload::Args),
    /// Check definitions and configuration, naming every error
    Check(check::Args),
    /// Create the Kafka topics the definitions name
    Topics(topics::Args),
    /// List triggers, and try a rule on the topics' history
    Triggers(triggers::Args),
    /// List, show and redrive dead letters
    Dlq(dlq::Args),
    /// Decode the files of a shard
    Inspect(inspect::Args),
    /// Produce simulated data points to Kafka
    Produce(produce::Args),
    /// Run a whole Forebay with simulated data in one process
    Demo(demo::Args),
    /// Serve a toy model
    #[command(hide = true)]
    ToyModel(toy_model::Args),
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
        Command::Execute(args) => execute::run(args),
        Command::Get(args) => client(get::run(args, connection)),
        Command::History(args) => client(history::run(args, connection)),
        Command::Push(args) => client(push::run(args, connection)),
        Command::Delete(args) => client(delete::run(args, connection)),
        Command::Snapshot(args) => client(snapshot::run(args, connection)),
        Command::Diagnosis(args) => client(diagnosis::run(args, connection)),
        Command::Outcome(args) => client(outcome::run(args, connection)),
        Command::Evaluate(args) => client(evaluate::run(args, connection)),
        Command::Erase(args) => client(erase::run(args, connection)),
        Command::Status(args) => client(status::run(args, connection)),
        Command::Describe(args) => client(describe::run(args, connection)),
        Command::Apply(args) => client(apply::run(args, connection)),
        Command::Registry(args) => client(registry::run(args, connection)),
        Command::Reload(args) => client(reload::run(args, connection)),
        Command::Check(args) => check::run(args),
        Command::Topics(args) => client(topics::run(args)),
        Command::Triggers(args) => triggers::run(args),
        Command::Dlq(args) => client(dlq::run(args)),
        Command::Inspect(args) => inspect::run(args),
        Command::Produce(args) => produce::run(args),
        Command::Demo(args) => demo::run(args),
        Command::ToyModel(args) => client(toy_model::run(args)),
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
    match error.chain().any(is_bad_input) {
        true => ExitCode::from(2),
        false => ExitCode::FAILURE,
    }
}

fn is_bad_input(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<BadInput>() || cause.is::<ConfigErrors>() || cause.is::<DefinitionErrors>()
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

    /// The commands below a command that run something, each with its own examples.
    fn all_examples(command: &clap::Command, all: &mut Vec<String>) {
        let own = examples(command);
        let is_ours = !["produce", "demo", "help"].contains(&command.get_name());
        let shown_above =
            command.get_name() == "list" || command.get_name() == "show" || command.get_name() == "create";
        assert!(!own.is_empty() || !is_ours || shown_above, "{} has no example", command.get_name());
        all.extend(own);
        command.get_subcommands().for_each(|command| all_examples(command, all));
    }

    #[test]
    fn every_example_in_the_help_is_a_command_that_parses() {
        let mut all = Vec::new();
        all_examples(&Cli::command(), &mut all);
        for example in all {
            if let Err(error) = Cli::try_parse_from(words(&example)) {
                panic!("{example}\n{error}");
            }
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "forebay",
            "forebay get c-1",
            "forebay get --view v",
            "forebay get c-1 --view v --service s",
            "forebay get c-1 --view v --as-of yesterday",
            "forebay push c-1",
            "forebay push c-1 {}",
            "forebay delete c-1",
            "forebay check",
            "forebay check a --config b",
            "forebay history c-1 --view v --limit 0",
            "forebay serve",
            "forebay status --deadline 5",
            "forebay apply",
            "forebay registry remove view",
        ] {
            let error = Cli::try_parse_from(words(line)).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
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
