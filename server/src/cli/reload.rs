//! `forebay reload`: has the servers take up changed definitions, or say why they cannot.

use serde_json::json;

use super::arguments::Connection;
use super::output;

const EXAMPLES: &str = "\
Examples:
  forebay reload --dry-run
  forebay reload
A change that would break stored data or a reader is refused with all reasons, and the old
definitions stay in force.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Check only, change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let answers = client.reload_definitions(args.dry_run).await?;
    for (server, answer) in connection.server.iter().zip(answers) {
        if args.json {
            output::json_line(
                &json!({"server": server, "dry_run": args.dry_run, "changes": answer.changes}),
            )?;
        } else if answer.changes.is_empty() {
            output::line(format_args!("{server}: nothing changed"))?;
        } else {
            output::line(format_args!("{server}:\n  {}", answer.changes.join("\n  ")))?;
        }
    }
    Ok(())
}
