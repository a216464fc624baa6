//! `forebay push`: data points through Kafka, one from the arguments or many as JSON lines from standard input.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use forebay_client::{Client, DataPoint, PushReceipt, Query};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::arguments::{self, Connection};
use super::output::{self, BadInput};

/// Data points per call, and bytes of payload after which a call is sent earlier.
const BATCH_COUNT: usize = 1_000;
const BATCH_BYTES: usize = 4 << 20;

const EXAMPLES: &str = "\
Examples:
  forebay push --view modem_health customer-1 '{\"ts\": 1769860800000, \"snr\": 31.5}' --wait
  forebay push --view wifi_scan customer-1 '{\"rssi\": -61}' --event-time 2026-01-31T12:00:00Z --ttl 1h
  forebay push --json < points.jsonl
A line of standard input is {\"entity\": \"customer-1\", \"view\": \"modem_health\", \"json\": {...}},
optionally with \"event_time_ms\" and \"ttl_ms\"; --view is for lines that name none. Prints the
positions written.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The view to write to
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// Entity id: text, or hex:... for bytes
    #[arg(requires = "value", value_parser = arguments::entity)]
    entity: Option<Bytes>,
    /// The data point: a JSON object
    #[arg(value_name = "JSON", requires = "view")]
    value: Option<String>,
    /// Event time, for views that do not have it in the payload
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, requires = "entity")]
    event_time: Option<i64>,
    /// Time to live, instead of the view's
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration, requires = "entity")]
    ttl: Option<Duration>,
    /// Return only when reads see it
    #[arg(long)]
    wait: bool,
    /// One JSON document with the positions
    #[arg(long)]
    json: bool,
}

/// A line of standard input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    entity: String,
    view: Option<String>,
    json: Box<RawValue>,
    event_time_ms: Option<i64>,
    ttl_ms: Option<u64>,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let pushed = match &args.entity {
        Some(entity) => {
            let point = single(&args, entity)?;
            push(&client, vec![point], args.wait).await?
        }
        None => push_lines(&args, &client).await?,
    };
    print(&args, &pushed)
}

fn single(args: &Args, entity: &Bytes) -> anyhow::Result<DataPoint> {
    let view = args.view.clone().context("clap requires --view")?;
    let json = args.value.clone().context("clap requires the JSON")?;
    Ok(DataPoint {
        entity: entity.clone(),
        view,
        json: json.into(),
        event_time_ms: args.event_time,
        ttl_ms: args.ttl.map(|ttl| ttl.as_millis() as u64),
    })
}

async fn push_lines(args: &Args, client: &Client) -> anyhow::Result<PushReceipt> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let bar = output::progress(0, "data points");
    let (mut pushed, mut batch, mut bytes, mut number) = (PushReceipt::default(), Vec::new(), 0, 0_u64);
    while let Some(text) = lines.next_line().await? {
        number += 1;
        if text.trim().is_empty() {
            continue;
        }
        batch.push(
            parse_line(&text, args.view.as_deref())
                .map_err(|why| BadInput(format!("line {number}: {why}")))?,
        );
        bytes += text.len();
        if batch.len() >= BATCH_COUNT || bytes >= BATCH_BYTES {
            pushed = send(client, &mut batch, pushed, args.wait, number).await?;
            bytes = 0;
            bar.set_position(pushed.data_points().len() as u64);
        }
    }
    if !batch.is_empty() {
        pushed = send(client, &mut batch, pushed, args.wait, number).await?;
    }
    bar.finish_and_clear();
    Ok(pushed)
}

async fn send(
    client: &Client,
    batch: &mut Vec<DataPoint>,
    pushed: PushReceipt,
    wait: bool,
    line: u64,
) -> anyhow::Result<PushReceipt> {
    let first = line.saturating_sub(batch.len() as u64) + 1;
    let receipt = push(client, std::mem::take(batch), wait).await;
    let done = pushed.data_points().len();
    let receipt =
        receipt.with_context(|| format!("about lines {first} to {line} ({done} data points are written)"))?;
    Ok(pushed.and(receipt))
}

fn parse_line(text: &str, view: Option<&str>) -> Result<DataPoint, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let view = line.view.as_deref().or(view).ok_or("no \"view\", and no --view is given")?;
    Ok(DataPoint {
        entity: arguments::entity(&line.entity)?,
        view: view.to_owned(),
        json: line.json.get().to_owned().into(),
        event_time_ms: line.event_time_ms,
        ttl_ms: line.ttl_ms,
    })
}

async fn push(client: &Client, points: Vec<DataPoint>, wait: bool) -> anyhow::Result<PushReceipt> {
    let mut keys: Vec<(String, Bytes)> = Vec::new();
    if wait {
        keys = points.iter().map(|point| (point.view.clone(), point.entity.clone())).collect();
    }
    let receipt = client.push(points).await?;
    wait_for(client, keys, &receipt).await?;
    Ok(receipt)
}

/// Reads what was written, view by view, after its positions.
pub(super) async fn wait_for(
    client: &Client,
    mut keys: Vec<(String, Bytes)>,
    receipt: &PushReceipt,
) -> anyhow::Result<()> {
    keys.sort();
    keys.dedup();
    for keys in keys.chunk_by(|a, b| a.0 == b.0) {
        let query = Query::new(keys.iter().map(|(_, entity)| entity)).whole_view(&keys[0].0);
        let rows = client.get(query.read_your_writes(receipt)).await?;
        if let Some(shard) = rows.unavailable().first() {
            let positions = receipt.positions();
            anyhow::bail!(
                "written at {}, but {}/{} does not show it yet: {}",
                output::vector_json(positions),
                shard.lane,
                shard.partition,
                shard.reason
            );
        }
    }
    Ok(())
}

fn print(args: &Args, pushed: &PushReceipt) -> anyhow::Result<()> {
    let points = pushed.data_points();
    if args.json {
        let positions = output::vector_json(pushed.positions());
        output::json_line(&json!({"pushed": points.len(), "positions": positions}))?;
    } else if args.entity.is_some() {
        for point in points {
            output::line(output::position(point))?;
        }
    } else {
        output::line(format_args!(
            "{} data points written; positions {}",
            points.len(),
            output::vector_json(pushed.positions())
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_payload_byte_for_byte() {
        let line = r#"{"entity":"hex:00ff","view":"v","json":{"a": 1.50 },"ttl_ms":5}"#;
        let point = parse_line(line, None).expect("a data point");
        assert_eq!(point.json, r#"{"a": 1.50 }"#);
        assert_eq!((&point.entity[..], point.ttl_ms), (&[0, 255][..], Some(5)));
    }

    #[test]
    fn a_line_without_view_takes_the_argument_and_errors_say_what_is_wrong() {
        let line = r#"{"entity":"c","json":{}}"#;
        assert_eq!(parse_line(line, Some("v")).expect("a data point").view, "v");
        assert!(parse_line(line, None).is_err_and(|error| error.contains("--view")));
        assert!(
            parse_line(r#"{"entity":"c","value":{}}"#, Some("v")).is_err_and(|error| error.contains("value"))
        );
        assert!(parse_line("{", Some("v")).is_err());
    }
}
