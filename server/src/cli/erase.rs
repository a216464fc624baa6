//! `forebay erase`: erases an entity: its features and its diagnoses.

use bytes::Bytes;
use forebay_client::v1::EraseEntityRequest;
use serde_json::json;

use super::arguments::{self, Connection};
use super::output;

const EXAMPLES: &str = "\
Examples:
  forebay erase customer-1
  forebay erase hex:00ff10 --kind device --json
Deletes every view of the entity, and its diagnoses with snapshots, predictions and outcomes.
Asks nothing. No read gives them from then on; the bytes leave the files as segments are removed.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Entity id: text, or hex:... for bytes
    #[arg(value_parser = arguments::entity)]
    entity: Bytes,
    /// Only views of this entity kind; default: of every kind
    #[arg(long, default_value = "", value_name = "KIND")]
    kind: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let request = EraseEntityRequest { entity: args.entity, entity_kind: args.kind };
    let answer = connection.client().await?.erase_entity(request, None).await?;
    let positions = output::vector_json(&answer.positions.unwrap_or_default());
    let (tombstones, diagnoses) = (answer.tombstones, answer.diagnoses);
    match args.json {
        true => output::json_line(&json!({
            "tombstones": tombstones, "diagnoses": diagnoses, "positions": positions,
        }))?,
        false => output::line(format_args!("erased {diagnoses} diagnoses with {tombstones} tombstones"))?,
    }
    Ok(())
}
