//! `forebay snapshot`: keeps the features of a moment under a diagnosis id, and shows them.

use bytes::Bytes;
use forebay_client::v1::{CreateSnapshotRequest, GetSnapshotRequest, Snapshot};

use super::arguments::{self, Connection};
use super::{diagnosed, output};

const EXAMPLES: &str = "\
Examples:
  forebay snapshot create d-1 --entity customer-1 --service experience
  forebay snapshot create d-2 --entity customer-1 --service experience@2 --as-of 2026-01-31T12:00:00Z
  forebay snapshot show d-1
  forebay snapshot show d-1 --json > d-1.json
The same again gives what was kept the first time; something else under the same id is refused.
--json prints the document as it is stored: the same bytes for ever.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Read the features of a moment and keep them
    Create(Create),
    /// What was kept
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Create {
    /// The diagnosis: any id that was not given before
    id: String,
    /// Entity id: text, or hex:... for bytes
    #[arg(long, value_parser = arguments::entity)]
    entity: Bytes,
    /// A feature service: NAME for its highest version, or NAME@VERSION
    #[arg(long, value_name = "NAME")]
    service: String,
    /// As of this event time: ms since the epoch, or RFC 3339; default: now
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    as_of: Option<i64>,
    /// Only what had arrived by this time
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    known_at: Option<i64>,
    /// The document as it is stored
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The diagnosis
    id: String,
    /// The document as it is stored
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    match args.action {
        Action::Create(args) => {
            let json = args.json;
            let answer = client.create_snapshot(request(args), None).await?;
            print(&answer.snapshot.unwrap_or_default(), json)
        }
        Action::Show(args) => {
            let request = GetSnapshotRequest { diagnosis_id: args.id, wait_for: None };
            print(&client.get_snapshot(request, None).await?, args.json)
        }
    }
}

fn request(args: Create) -> CreateSnapshotRequest {
    CreateSnapshotRequest {
        diagnosis_id: args.id,
        entity: args.entity,
        feature_service: args.service,
        as_of_ms: args.as_of,
        known_at_ms: args.known_at,
        assembled: None,
        wait_for: None,
        cause: None,
    }
}

fn print(snapshot: &Snapshot, json: bool) -> anyhow::Result<()> {
    match json {
        true => output::line(String::from_utf8_lossy(&snapshot.document))?,
        false => {
            let id = &snapshot.diagnosis_id;
            output::line(format_args!("diagnosis   {id}\n{}", diagnosed::snapshot_text(snapshot)))?;
        }
    }
    Ok(())
}
