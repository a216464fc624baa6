//! `forebay execute`: starts an executor, says where its metrics are, and stops it on SIGTERM or SIGINT.

use std::path::PathBuf;

use serde_json::json;

use super::serve::{Signals, start_log};
use super::{output, sources};

const EXAMPLES: &str = "\
Examples:
  forebay execute --config forebay.toml
  FOREBAY_EXECUTE_SERVERS=http://a:7400,http://b:7400 forebay execute --config forebay.toml
It reads [execute], [kafka] and the definitions of the configuration. Several share the work; each needs a
name of its own (FOREBAY_SERVER_INSTANCE). The first line of standard output says where its metrics are,
as JSON; logs go to standard error (RUST_LOG=debug for more).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Logs as JSON lines
    #[arg(long)]
    log_json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let config = sources::config(&args.config)?;
    start_log(args.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut running = crate::executor::start(config).await?;
        output::json_line(&json!({"event": "executing", "http": running.http.to_string()}))?;
        tokio::select! {
            name = signals.next() => tracing::info!("{name}: stopping; once more to stop at once"),
            error = running.ended() => return Err(error),
        }
        tokio::select! {
            outcome = running.stop() => outcome,
            name = signals.next() => anyhow::bail!("{name} again: stopped at once; the next run goes on"),
        }
    });
    // Jobs that wait for the store would be waited for.
    runtime.shutdown_background();
    outcome
}
