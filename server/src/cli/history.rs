//! `forebay history`: the versions of one view of one entity, newest first.

use bytes::Bytes;
use forebay_client::v1::{Format, GetHistoryRequest};
use forebay_client::{Client, Rows};

use super::arguments::{self, Connection, ViewArgument};
use super::{output, rows};
use crate::clock::Clock;

/// Versions per call when all are wanted, and versions shown when nothing is said.
const PAGE: u32 = 1_000;
const FEW: u32 = 100;

const EXAMPLES: &str = "\
Examples:
  forebay history customer-1 --view modem_health
  forebay history customer-1 --view modem_health:snr --limit 10
  forebay history customer-1 --view modem_health --from 2026-01-31T00:00:00Z --to 2026-02-01T00:00:00Z --all
  forebay history customer-1 --view modem_health --all --json > versions.jsonl
With --json each version is a line. Only views with history = \"full\" promise more than the
current version.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Entity id: text, or hex:... for bytes
    #[arg(value_parser = arguments::entity)]
    entity: Bytes,
    /// The view, whole or with fields (which are typed)
    #[arg(long, value_name = "VIEW[:FIELD,...]", value_parser = arguments::view)]
    view: ViewArgument,
    /// From this event time on: ms since the epoch, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, allow_hyphen_values = true)]
    from: Option<i64>,
    /// Before this event time
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, allow_hyphen_values = true)]
    to: Option<i64>,
    /// Only what had arrived by this time
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, allow_hyphen_values = true)]
    known_at: Option<i64>,
    /// At most so many versions (default 100); with --all, so many per call
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "COUNT")]
    limit: Option<u32>,
    /// All versions, page by page
    #[arg(long)]
    all: bool,
    /// Expired versions that are still stored, too
    #[arg(long)]
    include_expired: bool,
    /// Typed fields instead of the original JSON
    #[arg(long)]
    typed: bool,
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let mut request = request(&args);
    let bar = output::progress(0, "versions");
    let mut read = 0;
    loop {
        let more = page(&client, &mut request, &args, &bar, &mut read).await?;
        if !(args.all && more) {
            break;
        }
    }
    bar.finish_and_clear();
    if read == 0 && !args.json {
        output::line("no versions")?;
    }
    Ok(())
}

/// Prints a page; true if there is another.
async fn page(
    client: &Client,
    request: &mut GetHistoryRequest,
    args: &Args,
    bar: &indicatif::ProgressBar,
    read: &mut u64,
) -> anyhow::Result<bool> {
    let mut page = client.history(request.clone(), None).await?;
    request.page_token = std::mem::take(&mut page.next_page_token);
    let versions = Rows::of_history(page);
    *read += versions.len() as u64;
    bar.suspend(|| print(&versions, args))?;
    bar.set_position(*read);
    Ok(!request.page_token.is_empty())
}

fn request(args: &Args) -> GetHistoryRequest {
    let typed = args.typed || !args.view.fields.is_empty();
    let format = if typed { Format::Typed } else { Format::Json };
    GetHistoryRequest {
        entity: args.entity.clone(),
        view: args.view.view.clone(),
        fields: args.view.fields.clone(),
        from_ms: args.from,
        to_ms: args.to,
        known_at_ms: args.known_at,
        limit: args.limit.unwrap_or(if args.all { PAGE } else { FEW }),
        format: format.into(),
        include_expired: args.include_expired,
        ..Default::default()
    }
}

fn print(versions: &Rows, args: &Args) -> anyhow::Result<()> {
    let view = &args.view.view;
    if args.json {
        for row in 0..versions.len() {
            output::json_line(&rows::row_json(versions, view, row))?;
        }
        return Ok(());
    }
    if versions.is_empty() {
        return Ok(());
    }
    let headings: Vec<&str> = ["ingest time"].into_iter().chain(rows::HEADINGS).collect();
    let mut table = output::table(&headings);
    let now_ms = Clock::system().now_ms();
    for row in versions.iter() {
        let ingested = row.meta(view).map(|meta| output::rfc3339(meta.ingest_time_ms)).unwrap_or_default();
        rows::table_row(&mut table, &ingested, versions, view, row.number(), now_ms);
    }
    output::line(output::rendered(&table))?;
    Ok(())
}
