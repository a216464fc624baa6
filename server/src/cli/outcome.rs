//! `forebay outcome`: what turned out to be true of a diagnosis.

use forebay_client::v1::Outcome;
use serde_json::json;

use super::arguments::{self, Connection};
use super::output;

const EXAMPLES: &str = "\
Examples:
  forebay outcome record d-1 --label confirmed
  forebay outcome record d-1 --label false_alarm --source technician-7 --detail '{\"visit\":42}'
  forebay outcome record d-1 --label confirmed --time 2026-01-31T12:00:00Z --json
It may be corrected: the newest time counts.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Keep what turned out to be true
    #[command(after_help = EXAMPLES)]
    Record(Record),
}

#[derive(Debug, clap::Args)]
struct Record {
    /// The diagnosis
    id: String,
    /// What turned out to be true, in a word
    #[arg(long)]
    label: String,
    /// Anything more: a JSON object
    #[arg(long, value_name = "JSON")]
    detail: Option<String>,
    /// Who or what says so
    #[arg(long, default_value = "")]
    source: String,
    /// When it was found out: ms since the epoch, or RFC 3339; default: now
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    time: Option<i64>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let Action::Record(args) = args.action;
    let outcome = Outcome {
        diagnosis_id: args.id,
        label: args.label,
        detail_json: args.detail.unwrap_or_default().into(),
        source: args.source,
        event_time_ms: args.time,
    };
    let answer = connection.client().await?.record_outcome(outcome, None).await?;
    let positions = output::vector_json(&answer.positions.unwrap_or_default());
    match args.json {
        true => output::json_line(&json!({"positions": positions}))?,
        false => output::line(format_args!("recorded; positions {positions}"))?,
    }
    Ok(())
}
