//! `forebay diagnosis`: what was decided, on what, and whether it was right; and the diagnoses of an entity.

use bytes::Bytes;
use forebay_client::v1::{DiagnosisEntry, GetDiagnosisRequest, ListDiagnosesRequest};

use super::arguments::{self, Connection};
use super::output::Object;
use super::{diagnosed, output};

const EXAMPLES: &str = "\
Examples:
  forebay diagnosis show 7f0c1d9a
  forebay diagnosis show 7f0c1d9a --json
  forebay diagnosis list --entity customer-1
  forebay diagnosis list --entity customer-1 --from 2026-01-31T00:00:00Z --all --json";

/// Entries per call when all are wanted, and entries shown when nothing is said.
const PAGE: u32 = 1_000;
const FEW: u32 = 100;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// One diagnosis: its snapshot, its prediction, its outcome
    Show(Show),
    /// The diagnoses of an entity, newest first
    List(List),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The diagnosis
    id: String,
    /// One JSON document, with the snapshot as it is stored
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Entity id: text, or hex:... for bytes
    #[arg(long, value_parser = arguments::entity)]
    entity: Bytes,
    /// Of moments from this event time on: ms since the epoch, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    from: Option<i64>,
    /// Of moments before this event time
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    to: Option<i64>,
    /// At most so many (default 100); with --all, so many per call
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "COUNT")]
    limit: Option<u32>,
    /// All of them, page by page
    #[arg(long)]
    all: bool,
    /// JSON lines, with snapshots, predictions and outcomes
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    match args.action {
        Action::Show(args) => show(args, connection).await,
        Action::List(args) => list(args, connection).await,
    }
}

async fn show(args: Show, connection: Connection) -> anyhow::Result<()> {
    let request = GetDiagnosisRequest { diagnosis_id: args.id, wait_for: None };
    let diagnosis = connection.client().await?.get_diagnosis(request, None).await?;
    match args.json {
        true => output::json_line(&diagnosed::json(&diagnosis))?,
        false => output::line(diagnosed::text(&diagnosis))?,
    }
    Ok(())
}

async fn list(args: List, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let mut request = ListDiagnosesRequest {
        entity: args.entity.clone(),
        from_ms: args.from,
        to_ms: args.to,
        limit: args.limit.unwrap_or(if args.all { PAGE } else { FEW }),
        page_token: Bytes::new(),
        full: args.json,
    };
    let mut listed = 0;
    loop {
        let page = client.list_diagnoses(request.clone(), None).await?;
        listed += page.entries.len();
        print(&page.entries, args.json)?;
        request.page_token = page.next_page_token;
        if !args.all || request.page_token.is_empty() {
            break;
        }
    }
    if listed == 0 && !args.json {
        output::line("no diagnoses")?;
    }
    Ok(())
}

fn print(entries: &[DiagnosisEntry], json: bool) -> anyhow::Result<()> {
    if json {
        for entry in entries {
            output::json_line(&entry_json(entry))?;
        }
        return Ok(());
    }
    if entries.is_empty() {
        return Ok(());
    }
    let mut table = output::table(&["as of", "diagnosis", "features", "cause"]);
    for entry in entries {
        let cause = entry.cause.as_ref().map(diagnosed::cause_text).unwrap_or_default();
        let at = output::rfc3339(entry.as_of_ms);
        table.add_row([at, entry.diagnosis_id.clone(), entry.feature_service.clone(), cause]);
    }
    output::line(output::rendered(&table))?;
    Ok(())
}

fn entry_json(entry: &DiagnosisEntry) -> Object {
    entry.diagnosis.as_ref().map(diagnosed::json).unwrap_or_default()
}
