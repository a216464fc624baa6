//! `forebay delete`: tombstones for views of entities, through Kafka.

use bytes::Bytes;
use serde_json::json;

use super::arguments::{self, Connection};
use super::{output, push};

const EXAMPLES: &str = "\
Examples:
  forebay delete customer-1 --view modem_health --wait
  forebay delete customer-1 customer-2 --view modem_health --view wifi_scan --json
  forebay delete hex:00ff10 --view scans --event-time 2026-01-31T12:00:00Z
From then on the views are DELETED for these entities, and no older value comes back. Asks
nothing; prints the positions of the tombstones.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Entity ids: text, or hex:... for bytes
    #[arg(required = true, value_parser = arguments::entity)]
    entities: Vec<Bytes>,
    /// A view to delete; may be given several times
    #[arg(long, required = true, value_name = "VIEW")]
    view: Vec<String>,
    /// Event time of the deletion; default: now, or the newest known event time if that is later
    #[arg(long, value_name = "TIME", value_parser = arguments::moment)]
    event_time: Option<i64>,
    /// Return only when reads see it
    #[arg(long)]
    wait: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let each =
        |view: &String| args.entities.iter().map(|entity| (view.clone(), entity.clone())).collect::<Vec<_>>();
    let keys = args.view.iter().filter(|_| args.wait).flat_map(each).collect();
    let receipt = client.delete(args.entities, args.view, args.event_time).await?;
    push::wait_for(&client, keys, &receipt).await?;
    let positions = output::vector_json(receipt.positions());
    match args.json {
        true => output::json_line(&json!({"positions": positions}))?,
        false => output::line(format_args!("deleted; positions {positions}"))?,
    }
    Ok(())
}
