//! `forebay dlq`: the dead letters of a lane: listed, shown whole, sent back to where they came from. Reads and writes
//! Kafka directly, so that it works beside a running server and without one.

mod letters;
mod redrive;

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;

use super::output::{self, BadInput, Object};
use super::{arguments, sources};
use crate::config::Config;
use crate::definitions::Definitions;
use letters::{Letter, Place, Reader, Wanted};

const EXAMPLES: &str = "\
Examples:
  forebay dlq list --config forebay.toml
  forebay dlq list --config forebay.toml --lane standard --reason not_json --limit 20
  forebay dlq show 0:42 --config forebay.toml
  forebay dlq redrive --config forebay.toml --reason unknown_view --dry-run
  forebay dlq redrive --config forebay.toml --at 0:42 --at 0:43
  forebay dlq redrive --config forebay.toml --from 0:44
Reasons: null_key empty_key key_too_long unknown_view too_large not_json too_deep not_object
no_event_time bad_event_time future bad_header wrong_partition entity_collision.";

const REDRIVE: &str = "\
Sends letters back, all or those named: the original key, value and headers to the original topic,
on the partition the lane's partitioner chooses and with the original Kafka timestamp. What is
still bad comes back as a new dead letter. At least once: if it is interrupted, some letters may
have been sent without being counted; sending a data point twice is harmless, it counts once.
Letters stay in the dead-letter topic; the ranges printed at the end are the --from of the next time.
Examples:
  forebay dlq redrive --config forebay.toml --reason unknown_view --dry-run
  forebay dlq redrive --config forebay.toml --reason future --now --json
  forebay dlq redrive --config forebay.toml --from 0:44 --limit 1000";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// A line for each dead letter
    List(List),
    /// One dead letter, whole
    Show(Show),
    /// Send dead letters back to the topics they came from
    #[command(after_help = REDRIVE)]
    Redrive(redrive::Args),
}

/// Which lane's dead letters, and which of them.
#[derive(Debug, clap::Args)]
struct Selection {
    /// The server's configuration: where Kafka is, and the definitions
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The lane; needed if there are several
    #[arg(long)]
    lane: Option<String>,
    /// Only letters with this reason; may be given several times
    #[arg(long)]
    reason: Vec<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u64>,
    /// Only letters written from this time on: ms since the epoch, or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, alias = "from-ms")]
    from_time: Option<i64>,
    /// Only from this position of the dead-letter topic on; one per partition
    #[arg(long, value_name = "PARTITION:OFFSET", value_parser = place)]
    from: Vec<Place>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    selection: Selection,
    /// JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The letter's position in the dead-letter topic, as `list` shows it
    #[arg(value_name = "PARTITION:OFFSET", value_parser = place)]
    at: Place,
    #[command(flatten)]
    selection: Selection,
    /// One JSON document; bytes that are no text as hex:...
    #[arg(long)]
    json: bool,
}

/// Where the letters of a selection are.
struct Source {
    config: Config,
    definitions: Definitions,
    lane: usize,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List(args) => list(&args),
        Action::Show(args) => show(&args),
        Action::Redrive(args) => redrive::run(args).await,
    }
}

fn list(args: &List) -> anyhow::Result<()> {
    let source = args.selection.source()?;
    let mut reader = source.reader(args.selection.wanted(&[]))?;
    let mut table = output::table(&["at", "reason", "from", "key", "size", "time", "detail"]);
    while let Some(letter) = reader.next()? {
        match args.json {
            true => output::json_line(&summary(&letter))?,
            false => drop(table.add_row(row(&letter))),
        }
    }
    if !args.json {
        match table.is_empty() {
            true => output::line("no dead letters")?,
            false => output::line(output::rendered(&table))?,
        }
    }
    Ok(())
}

fn show(args: &Show) -> anyhow::Result<()> {
    let source = args.selection.source()?;
    let mut reader = source.reader(args.selection.wanted(&[args.at]))?;
    let letter = reader.next()?.with_context(|| format!("no dead letter of this lane at {}", args.at))?;
    if args.json {
        let mut object = summary(&letter);
        object.push("headers", letter.headers.iter().map(header_json).collect::<Vec<_>>());
        object.push("payload", letter.payload.as_deref().map(output::id));
        return Ok(output::json_line(&object)?);
    }
    let mut table = output::table(&["dead letter", &args.at.to_string()]);
    let labels = ["reason", "from", "key", "size", "time", "detail"];
    for (label, value) in labels.into_iter().zip(row(&letter).into_iter().skip(1)) {
        table.add_row([label.to_owned(), value]);
    }
    for (name, value) in &letter.headers {
        table.add_row([
            format!("header {}", output::id(name)),
            value.as_deref().map(output::id).unwrap_or_default(),
        ]);
    }
    output::line(output::rendered(&table))?;
    Ok(output::line(format_args!("\n{}", payload_text(&letter)))?)
}

fn row(letter: &Letter) -> [String; 7] {
    [
        letter.at.to_string(),
        letter.reason.clone(),
        letter.origin.as_ref().map(ToString::to_string).unwrap_or_else(|| "?".into()),
        letter.key.as_deref().map(output::short_id).unwrap_or_else(|| "(null)".into()),
        letter.payload.as_ref().map_or_else(|| "(null)".into(), |payload| output::size(payload.len() as u64)),
        output::rfc3339(letter.timestamp_ms),
        letter.detail.clone(),
    ]
}

fn summary(letter: &Letter) -> Object {
    let mut object = Object::default();
    object.push("at", letter.at.to_string());
    object.push("time_ms", letter.timestamp_ms);
    object.push("reason", &letter.reason);
    object.push("detail", &letter.detail);
    if let Some(origin) = &letter.origin {
        object.push("topic", &origin.topic);
        object.push("partition", origin.at.partition);
        object.push("offset", origin.at.offset);
        object.push("timestamp_ms", origin.timestamp_ms);
    }
    object.push("key", letter.key.as_deref().map(output::id));
    object.push("size_bytes", letter.payload.as_ref().map(Vec::len));
    object
}

fn header_json((name, value): &(Vec<u8>, Option<Vec<u8>>)) -> serde_json::Value {
    json!({"name": output::id(name), "value": value.as_deref().map(output::id)})
}

/// Text as it is, other bytes as hex.
fn payload_text(letter: &Letter) -> String {
    match &letter.payload {
        None => "(null: a tombstone)".to_owned(),
        Some(payload) => match std::str::from_utf8(payload) {
            Ok(text) => text.to_owned(),
            Err(_) => output::id(payload),
        },
    }
}

impl Selection {
    fn source(&self) -> anyhow::Result<Source> {
        let (config, definitions) = sources::both(&self.config)?;
        let lane = lane(&definitions, self.lane.as_deref()).map_err(BadInput)?;
        Ok(Source { config, definitions, lane })
    }

    /// `at`: only these positions; none: all.
    fn wanted(&self, at: &[Place]) -> Wanted {
        Wanted {
            reasons: self.reason.clone(),
            limit: self.limit.unwrap_or(u64::MAX),
            from_time_ms: self.from_time,
            from: self.from.clone(),
            at: at.to_vec(),
        }
    }
}

impl Source {
    fn reader(&self, wanted: Wanted) -> anyhow::Result<Reader> {
        let lane = &self.definitions.lanes[self.lane];
        Reader::open(&self.config.kafka, lane, wanted)
    }
}

fn lane(definitions: &Definitions, name: Option<&str>) -> Result<usize, String> {
    let names: Vec<&str> = definitions.lanes.iter().map(|lane| lane.name.as_str()).collect();
    match name {
        Some(name) => names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| format!("there is no lane {name:?}; there are: {}", names.join(", "))),
        None if names.len() == 1 => Ok(0),
        None => Err(format!("which lane? name it with --lane; there are: {}", names.join(", "))),
    }
}

/// `PARTITION:OFFSET`, or an offset of partition 0.
fn place(text: &str) -> Result<Place, String> {
    let (partition, offset) = text.split_once(':').unwrap_or(("0", text));
    let parse = || {
        let place = Place { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
        Some(place).filter(|place| place.partition >= 0 && place.offset >= 0)
    };
    parse().ok_or_else(|| format!("{text:?} is not a position: expected PARTITION:OFFSET, like 0:42"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_partition_and_offset() {
        assert_eq!(place("3:42"), Ok(Place { partition: 3, offset: 42 }));
        assert_eq!(place("42"), Ok(Place { partition: 0, offset: 42 }));
        for bad in ["", "x", "3:", ":4", "a:1", "1:-1", "-1:1"] {
            assert!(place(bad).is_err_and(|error| error.contains("0:42")), "{bad}");
        }
    }

    #[test]
    fn one_lane_needs_no_name_and_an_unknown_one_is_told_the_known() {
        let definitions = Definitions::default();
        assert!(lane(&definitions, None).is_err());
        assert!(lane(&definitions, Some("x")).is_err_and(|error| error.contains("no lane \"x\"")));
    }
}
