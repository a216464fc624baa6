//! `forebay evaluate`: every diagnosis of a model as JSON lines: what training and evaluation read.

use forebay_client::v1::EvaluateRequest;

use super::arguments::{self, Connection};
use super::{diagnosed, output};

const EXAMPLES: &str = "\
Examples:
  forebay evaluate --model experience_model@1 > diagnoses.jsonl
  forebay evaluate --model experience_model@1 --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z
  forebay evaluate --model experience_model@1 --with-outcome
A line has the snapshot as it is stored, the prediction and the newest outcome; oldest first.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A model, as NAME@VERSION
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Predictions made from this time on: ms since the epoch, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    from: Option<i64>,
    /// Predictions made before this time
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    to: Option<i64>,
    /// Only those whose outcome is known
    #[arg(long)]
    with_outcome: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let request = EvaluateRequest {
        model: args.model,
        from_ms: args.from,
        to_ms: args.to,
        only_with_outcome: args.with_outcome,
        partitions: Vec::new(),
    };
    let mut diagnoses = connection.client().await?.evaluate(request).await?;
    while let Some(diagnosis) = diagnoses.next().await? {
        output::json_line(&diagnosed::json(&diagnosis))?;
    }
    Ok(())
}
