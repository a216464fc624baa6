//! The command line: one module per command, each with its clap `Args` and a `run`. Knows no command's insides.

use std::process::ExitCode;

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
