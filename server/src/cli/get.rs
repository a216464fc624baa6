//! `forebay get`: features of entities, as a table per entity or as JSON.

use std::time::Duration;

use bytes::Bytes;
use forebay_client::{Query, Rows};
use serde_json::json;

use super::arguments::{self, Connection, ViewArgument};
use super::output::{self, Object};
use super::rows;
use crate::clock::Clock;

const EXAMPLES: &str = "\
Examples:
  forebay get customer-1 --view modem_health
  forebay get customer-1 customer-2 --view modem_health:snr,firmware
  forebay get customer-1 --service experience@2 --json
  forebay get hex:00ff10 --view scans --as-of 2026-01-31T12:00:00Z
  forebay get customer-1 --view modem_health --max-staleness 2s
Statuses: PRESENT, NULL, NOT_FOUND, EXPIRED, DELETED, INVALID (not of its declared type) and
UNAVAILABLE (its shard cannot answer: the reason is printed last and the exit code is 1).";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["view", "service"])))]
pub struct Args {
    /// Entity ids: text, or hex:... for bytes
    #[arg(required = true, value_parser = arguments::entity)]
    entities: Vec<Bytes>,
    /// A view, whole or with fields (which are typed); may be given several times
    #[arg(long, value_name = "VIEW[:FIELD,...]", value_parser = arguments::view, conflicts_with = "service")]
    view: Vec<ViewArgument>,
    /// A feature service: NAME for its highest version, or NAME@VERSION
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// As of this event time: ms since the epoch, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, allow_hyphen_values = true)]
    as_of: Option<i64>,
    /// With --as-of: only what had arrived by this time
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, allow_hyphen_values = true)]
    known_at: Option<i64>,
    /// Values of shards further behind than this are UNAVAILABLE
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    max_staleness: Option<Duration>,
    /// Show expired values too
    #[arg(long)]
    include_expired: bool,
    /// Typed fields instead of the original JSON
    #[arg(long)]
    typed: bool,
    /// One JSON document instead of tables
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let rows = client.get(query(&args)).await?;
    match args.json {
        true => output::json_line(&document(&args.entities, &rows))?,
        false => print_tables(&args.entities, &rows)?,
    }
    unavailable(&rows)
}

fn query(args: &Args) -> Query {
    let mut query = Query::new(&args.entities);
    for view in &args.view {
        query = query.view(&view.view, &view.fields);
    }
    if let Some(service) = &args.service {
        query = query.feature_service(service);
    }
    if args.typed || args.view.iter().any(|view| !view.fields.is_empty()) {
        query = query.typed();
    }
    if let Some(as_of) = args.as_of {
        query = query.as_of_ms(as_of);
    }
    if let Some(known_at) = args.known_at {
        query = query.known_at_ms(known_at);
    }
    if let Some(staleness) = args.max_staleness {
        query = query.max_staleness_ms(staleness.as_millis() as u64);
    }
    if args.include_expired { query.include_expired() } else { query }
}

fn document(entities: &[Bytes], rows: &Rows) -> Object {
    let entities: Vec<Object> =
        entities.iter().enumerate().map(|(row, entity)| entity_json(entity, rows, row)).collect();
    let unavailable = rows.unavailable().iter();
    let unavailable = unavailable
        .map(|shard| json!({"lane": shard.lane, "partition": shard.partition, "reason": shard.reason}));
    let mut document = Object::default();
    document.push("entities", entities);
    document.push("read_at", rows.read_at().map(output::vector_json));
    document.push("unavailable", unavailable.collect::<Vec<_>>());
    document
}

fn entity_json(entity: &[u8], rows: &Rows, row: usize) -> Object {
    let mut views = Object::default();
    for view in &rows.response().views {
        views.push(&view.view, rows::row_json(rows, &view.view, row));
    }
    let mut object = Object::default();
    object.push("entity", output::id(entity));
    object.push("views", views);
    object
}

fn print_tables(entities: &[Bytes], rows: &Rows) -> anyhow::Result<()> {
    let now_ms = Clock::system().now_ms();
    for (row, entity) in entities.iter().enumerate() {
        let headings: Vec<&str> = ["view"].into_iter().chain(rows::HEADINGS).collect();
        let mut table = output::table(&headings);
        for view in &rows.response().views {
            rows::table_row(&mut table, &view.view, rows, &view.view, row, now_ms);
        }
        output::line(format_args!("{}\n{}\n", output::id(entity), output::rendered(&table)))?;
    }
    Ok(())
}

/// Values that could not be read are a failure, told after those that could.
fn unavailable(rows: &Rows) -> anyhow::Result<()> {
    let reasons = rows.unavailable().iter();
    let reasons = reasons.map(|shard| format!("{}/{}: {}", shard.lane, shard.partition, shard.reason));
    let reasons: Vec<String> = reasons.collect();
    anyhow::ensure!(reasons.is_empty(), "UNAVAILABLE: {}", reasons.join("; "));
    Ok(())
}
