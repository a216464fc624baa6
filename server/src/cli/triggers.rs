//! `forebay triggers`: lists the triggers of the definitions, and tries a rule on the history that Kafka has, beside the
//! rule in force. Changes nothing anywhere.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::output::BadInput;
use super::{arguments, output, sources};
use crate::config::Config;
use crate::definitions::{Definitions, LaneDefinition, Trigger, triggers_over};
use crate::ingest::decode::{Decision, Known, Record, Rules, decode};
use crate::json::Slots;
use crate::kafka;
use crate::kafka::consumer::{Event, Member, RawMessage, Step};
use crate::kafka::topics::TopicAdmin;
use crate::trigger::replay::{Change, Difference, Outcome, Place, Replay};

/// The longest Kafka may give nothing while there is something to read.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  forebay triggers list --config forebay.toml
  forebay triggers replay --config forebay.toml --from 2026-01-31T12:00:00Z --rule stricter.toml
  forebay triggers replay --config forebay.toml --from 2026-01-31T12:00:00Z --rule all.toml --trigger modem_snr --json
The rule's file has the [[trigger]] as it would be in the definitions. Both rules, that one and the
one of its name in force, are run over the lane's topics from the time on; entities begin unknown
there. Nothing is written.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the triggers of the definitions
    List(List),
    /// Run a rule over the topics' history and show how its edges differ
    #[command(after_help = EXAMPLES)]
    Replay(ReplayArgs),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Records from this Kafka timestamp on: ms since the epoch or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = arguments::moment, allow_hyphen_values = true)]
    from: i64,
    /// File with the [[trigger]]
    #[arg(long, value_name = "FILE")]
    rule: PathBuf,
    /// Which trigger of the file, if it has several
    #[arg(long, value_name = "NAME")]
    trigger: Option<String>,
    /// Most differences to list
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    limit: usize,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List(args) => list(&args),
        Action::Replay(args) => replay(&args),
    }
}

fn list(args: &List) -> anyhow::Result<()> {
    let (_, definitions) = sources::both(&args.config)?;
    if args.json {
        let all: Vec<Value> = definitions.triggers.iter().map(|trigger| trigger_json(trigger)).collect();
        return Ok(output::json_line(&json!({ "triggers": all }))?);
    }
    let mut table = output::table(&["trigger", "id", "version", "view", "rules", "edges to"]);
    for trigger in &definitions.triggers {
        let (id, version) = (trigger.id.to_string(), trigger.version.to_string());
        let meaning = trigger.meaning();
        table.add_row([&trigger.name, &id, &version, &trigger.view.name, &meaning, &trigger.edges_topic]);
    }
    Ok(output::line(output::rendered(&table))?)
}

fn trigger_json(trigger: &Trigger) -> Value {
    let rule = |rule: &crate::definitions::StateRule| {
        let until = rule.until.as_ref().map(|until| &until.text);
        json!({"state": rule.state, "when": rule.when.text, "until": until, "hold_ms": rule.hold_ms,
            "interpreted": !rule.when.is_fast()})
    };
    json!({
        "name": trigger.name,
        "id": trigger.id,
        "version": trigger.version,
        "view": trigger.view.name,
        "lane": trigger.view.lane_name,
        "rules": trigger.rules.iter().map(rule).collect::<Vec<_>>(),
        "otherwise": trigger.otherwise,
        "first_sight": trigger.first_sight.as_str(),
        "edges_topic": trigger.edges_topic,
    })
}

fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let (config, definitions) = sources::both(&args.config)?;
    let new = rule(args, &definitions)?;
    let old = definitions.triggers.iter().find(|old| old.name == new.name && old.view.id == new.view.id);
    let lane = definitions.lane(&new.view.lane_name).map_err(|unknown| BadInput(unknown.0))?;
    let mut log = Log::open(&config, lane, &new, args.from)?;
    let mut replay = Replay::new(old.cloned(), new.clone());
    log.read(|place, now_ms, message, slots| {
        judge(&mut replay, lane, &new, (place, now_ms), message, slots)
    })?;
    let outcome = replay.finish();
    let known = old.map(|old| &**old);
    match args.json {
        true => output::json_line(&document(&outcome, known, &new, lane, args.limit))?,
        false => print(&outcome, known, &new, lane, args.limit)?,
    }
    Ok(())
}

fn rule(args: &ReplayArgs, definitions: &Definitions) -> anyhow::Result<Arc<Trigger>> {
    let file = args.rule.display().to_string();
    let text = std::fs::read_to_string(&args.rule)
        .map_err(|error| BadInput(format!("{file}: cannot be read: {error}")))?;
    let found = triggers_over(&file, &text, definitions).map_err(|errors| BadInput(errors.to_string()))?;
    let wanted = |trigger: &&Arc<Trigger>| args.trigger.as_ref().is_none_or(|name| *name == trigger.name);
    let mut wanted = found.iter().filter(wanted);
    match (wanted.next(), wanted.next()) {
        (Some(trigger), None) => Ok(trigger.clone()),
        (None, _) => anyhow::bail!(BadInput(format!("{file}: no such [[trigger]]"))),
        (Some(_), Some(_)) => {
            anyhow::bail!(BadInput(format!("{file}: several triggers: name one with --trigger")))
        }
    }
}

/// Gives a record of the view to the replay.
fn judge(
    replay: &mut Replay,
    lane: &LaneDefinition,
    trigger: &Trigger,
    (place, now_ms): (Place, i64),
    message: &RawMessage,
    slots: &mut Slots,
) {
    let headers = message.headers();
    let record = Record {
        key: message.key(),
        payload: message.payload(),
        headers: &headers,
        timestamp_ms: message.timestamp_ms(),
        partition: message.partition() as u32,
    };
    let views = [trigger.view.clone()];
    // Other views of a topic need the header, and are refused by it here.
    let alone = lane.topics[place.0].views.len() == 1;
    let named = headers.iter().any(|(name, _)| *name == crate::ingest::decode::VIEW_HEADER);
    if !alone && !named {
        return;
    }
    let rules = Rules { lane, views: &views, partitions: 1, ingest_time_ms: now_ms };
    if let Decision::Put(point) = decode(&record, &rules, slots, |_, _| Known::Nothing) {
        replay.take(place, now_ms, &point, slots);
    }
}

/// The topics of a view, from a time on to where they end now.
struct Log {
    member: Member,
    /// Name and number in the lane, partition, next offset, end; the first is being read.
    rest: VecDeque<(String, usize, i32, i64, i64)>,
}

impl Log {
    fn open(config: &Config, lane: &LaneDefinition, trigger: &Trigger, from_ms: i64) -> anyhow::Result<Log> {
        let settings = kafka::group_config(&config.kafka, "replay");
        let admin = TopicAdmin::new(&settings).context("the Kafka settings")?;
        let mut rest = VecDeque::new();
        for (number, topic) in lane.topics.iter().enumerate() {
            if !trigger.view.topics.contains(&topic.name) {
                continue;
            }
            let facts = admin.describe(&[&topic.name], ASK)?.remove(0);
            for partition in 0..facts.partitions {
                let (_, end) = admin.bounds(&topic.name, partition, ASK)?;
                let next = admin.offset_at(&topic.name, partition, from_ms, ASK)?.unwrap_or(end);
                if next < end {
                    rest.push_back((topic.name.clone(), number, partition as i32, next, end));
                }
            }
        }
        Ok(Log { member: Member::new(&settings).context("the Kafka settings")?, rest })
    }

    /// Gives every record with its place and its partition's clock.
    fn read(&mut self, mut each: impl FnMut(Place, i64, &RawMessage, &mut Slots)) -> anyhow::Result<()> {
        let mut slots = Slots::new();
        while let Some((topic, number, partition, mut next, end)) = self.rest.pop_front() {
            self.member.assign([(topic.as_str(), partition, next)].into_iter())?;
            let (mut now_ms, mut heard) = (0, Instant::now());
            while next < end {
                let mut batch = Vec::new();
                let event = self.member.fill(&mut batch, 1000, Duration::from_millis(100), Duration::ZERO);
                if let Some(Event::OffsetLost(_) | Event::TopicChanged(_) | Event::Fatal(_)) = event {
                    anyhow::bail!("{topic}/{partition}: offset {next} is not there any more; ask again");
                }
                if !batch.is_empty() {
                    heard = Instant::now();
                }
                anyhow::ensure!(
                    heard.elapsed() < PATIENCE,
                    "{topic}/{partition}: Kafka gives nothing from {next} on"
                );
                for step in &batch {
                    match step {
                        Step::Message(message)
                            if message.partition() == partition && message.topic() == topic =>
                        {
                            next = message.offset() + 1;
                            now_ms = message.timestamp_ms().max(now_ms);
                            if message.offset() < end {
                                each((number, partition, message.offset()), now_ms, message, &mut slots);
                            }
                        }
                        Step::End((name, of, at)) if *of == partition && *name == topic => {
                            next = next.max(*at)
                        }
                        // A leftover of the partition read before.
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

fn shown(change: Option<&Change>) -> String {
    change.map_or_else(|| "-".into(), |change| format!("{} to {}", change.from, change.to))
}

fn print(
    outcome: &Outcome,
    old: Option<&Trigger>,
    new: &Trigger,
    lane: &LaneDefinition,
    limit: usize,
) -> anyhow::Result<()> {
    let in_force =
        old.map_or_else(|| "not in force yet".into(), |old| format!("version {} in force", old.version));
    output::line(format_args!(
        "{} over {} data points of {}: {} edges ({in_force}), {} with the new rule, {} differ",
        new.name,
        outcome.judged,
        new.view.name,
        outcome.old,
        outcome.new,
        outcome.differences.len()
    ))?;
    let mut table = output::table(&["entity", "event time", "position", "in force", "new rule"]);
    for (place, difference) in outcome.differences.iter().take(limit) {
        let position = format!("{}/{}@{}", lane.topics[place.0].name, place.1, place.2);
        table.add_row([
            output::short_id(&difference.entity),
            output::rfc3339(difference.event_time_ms),
            position,
            shown(difference.old.as_ref()),
            shown(difference.new.as_ref()),
        ]);
    }
    if !outcome.differences.is_empty() {
        output::line(output::rendered(&table))?;
    }
    if outcome.differences.len() > limit {
        output::line(format_args!("... and {} more; --limit shows more", outcome.differences.len() - limit))?;
    }
    Ok(())
}

fn document(
    outcome: &Outcome,
    old: Option<&Trigger>,
    new: &Trigger,
    lane: &LaneDefinition,
    limit: usize,
) -> Value {
    let change =
        |change: &Option<Change>| change.as_ref().map(|change| json!({"from": change.from, "to": change.to}));
    let difference = |(place, difference): (&Place, &Difference)| {
        json!({
            "entity": output::id(&difference.entity),
            "event_time_ms": difference.event_time_ms,
            "position": {"topic": lane.topics[place.0].name, "partition": place.1, "offset": place.2},
            "in_force": change(&difference.old),
            "new": change(&difference.new),
        })
    };
    json!({
        "trigger": new.name,
        "version_in_force": old.map(|old| old.version),
        "data_points": outcome.judged,
        "edges_in_force": outcome.old,
        "edges_new": outcome.new,
        "different": outcome.differences.len(),
        "differences": outcome.differences.iter().take(limit).map(difference).collect::<Vec<_>>(),
    })
}
