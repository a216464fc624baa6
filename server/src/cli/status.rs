//! `forebay status`: every shard of every server, as a table or as JSON.

use comfy_table::{CellAlignment, Table};
use forebay_client::ServerStatus;
use forebay_client::v1::{
    GetStatusResponse, LaneCounters, LaneStatus, RegistryStatus, Setting, ShardState, ShardStatus,
    TopicStatus,
};
use serde_json::{Value, json};

use super::arguments::Connection;
use super::output;

const EXAMPLES: &str = "\
Examples:
  forebay status
  forebay status --lane standard
  forebay status --explain                 every setting in force, where it is from, and why
  forebay status --explain --json | jq '.servers[].settings[] | select(.origin != \"default\")'
  forebay status --json | jq '.servers[].lanes[].shards[] | select(.state != \"READY\")'
Exit code 0 if every server answered, whatever it said.";

const HEADINGS: [&str; 9] =
    ["lane", "shard", "state", "topic", "applied", "durable", "end", "lag", "keys / disk"];

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this lane
    #[arg(long, default_value = "", hide_default_value = true)]
    lane: String,
    /// The settings in force too, each with its origin and reason, and what lanes are bounded by
    #[arg(long)]
    explain: bool,
    /// One JSON document instead of tables
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, connection: Connection) -> anyhow::Result<()> {
    let client = connection.client().await?;
    let servers = match args.explain {
        true => client.explain(&args.lane).await,
        false => client.status(&args.lane).await,
    };
    match args.json {
        true => output::json_line(&json!({"servers": servers.iter().map(server_json).collect::<Vec<_>>()}))?,
        false => servers
            .iter()
            .filter(|server| server.status.is_ok() || servers.len() > 1)
            .try_for_each(|server| output::line(server_text(server)))?,
    }
    let silent: Vec<_> = servers.iter().filter_map(|server| server.status.as_ref().err()).collect();
    match silent.first() {
        None => Ok(()),
        Some(error) => Err((*error).clone().into()),
    }
}

fn server_text(server: &ServerStatus) -> String {
    match &server.status {
        Ok(status) => status_text(&server.server, status),
        Err(error) => format!("{}: {error}\n", server.server),
    }
}

fn status_text(server: &str, status: &GetStatusResponse) -> String {
    let up = output::span(status.uptime_ms as i64);
    let mut text = format!("{server}  {}  forebay {}, up {up}\n\n", status.instance, status.version);
    let mut table = output::table(&HEADINGS);
    for column in [1, 4, 5, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for lane in &status.lanes {
        lane.shards.iter().for_each(|shard| shard_rows(&mut table, lane, shard));
    }
    text.push_str(&output::rendered(&table));
    text.push('\n');
    for lane in &status.lanes {
        text.push_str(&lane_text(lane));
    }
    status.registry.iter().for_each(|registry| text.push_str(&registry_text(registry)));
    if !status.settings.is_empty() {
        text.push_str(&format!("\n\n{}\n", settings_text(&status.settings)));
    }
    text
}

fn settings_text(settings: &[Setting]) -> String {
    let mut table = output::table(&["setting", "value", "from", "why"]);
    for Setting { key, value, origin, reason } in settings {
        let value = if value.is_empty() { "-" } else { value };
        table.add_row([key, value, origin, reason]);
    }
    output::rendered(&table)
}

fn registry_text(registry: &RegistryStatus) -> String {
    let mut text = format!("registry {}: read to offset {}\n", registry.topic, registry.offset);
    if !registry.reason.is_empty() {
        text += &format!("  not being read: {}\n", registry.reason);
    }
    for held in &registry.held_back {
        text += &format!("  held back: {}\n", held.replace('\n', "\n    "));
    }
    text
}

/// A line per topic; what is the shard's own stands in the first.
fn shard_rows(table: &mut Table, lane: &LaneStatus, shard: &ShardStatus) {
    for (index, topic) in shard.topics.iter().enumerate() {
        let first = |text: String| if index == 0 { text } else { String::new() };
        let lag = format!("{} / {}", topic.lag_offsets, output::span(shard.lag_ms as i64));
        table.add_row([
            first(lane.lane.clone()),
            first(shard.partition.to_string()),
            first(state(shard.state()).to_owned()),
            topic.topic.clone(),
            offset(topic.applied_offset),
            offset(topic.durable_offset),
            offset(topic.end_offset),
            lag,
            first(format!("{} / {}", shard.keys, output::size(shard.disk_bytes))),
        ]);
    }
    if shard.topics.is_empty() {
        table.add_row([lane.lane.clone(), shard.partition.to_string(), state(shard.state()).to_owned()]);
    }
}

fn lane_text(lane: &LaneStatus) -> String {
    let mut text = String::new();
    if !lane.shards.is_empty() {
        text.push_str(&format!("\n{}: in memory {}", lane.lane, memory_text(&lane.shards)));
    }
    if let Some(counters) = &lane.counters {
        text.push_str(&format!("\n{}: since start {}", lane.lane, counters_text(counters)));
    }
    for shard in lane.shards.iter().filter(|shard| !shard.reason.is_empty()) {
        let state = state(shard.state());
        text.push_str(&format!("\n{}/{} {state}: {}", lane.lane, shard.partition, shard.reason));
    }
    text
}

fn memory_text(shards: &[ShardStatus]) -> String {
    let index: u64 = shards.iter().map(|shard| shard.index_bytes).sum();
    let hot: u64 = shards.iter().map(|shard| shard.hot_bytes).sum();
    format!("{} of index, newest {} of data", output::size(index), output::size(hot))
}

fn counters_text(counters: &LaneCounters) -> String {
    let named = [
        ("applied", counters.applied),
        ("late", counters.late),
        ("duplicate", counters.duplicate),
        ("dead-lettered", counters.dead_lettered),
        ("expired", counters.expired),
        ("replayed", counters.replayed),
        ("on a wrong partition", counters.wrong_partition),
    ];
    let shown = named.iter().enumerate().filter(|(index, (_, count))| *index == 0 || *count > 0);
    let shown = shown.map(|(_, (name, count))| format!("{count} {name}"));
    shown.collect::<Vec<_>>().join(", ")
}

fn state(state: ShardState) -> &'static str {
    state.as_str_name()
}

fn offset(offset: i64) -> String {
    if offset < 0 { "-".to_owned() } else { offset.to_string() }
}

fn server_json(server: &ServerStatus) -> Value {
    match &server.status {
        Err(error) => json!({"server": server.server, "error": error.to_string()}),
        Ok(status) => {
            let mut json = json!({
                "server": server.server,
                "instance": status.instance,
                "version": status.version,
                "uptime_ms": status.uptime_ms,
                "lanes": status.lanes.iter().map(lane_json).collect::<Vec<_>>(),
                "registry": status.registry.as_ref().map(registry_json),
            });
            if !status.settings.is_empty() {
                json["settings"] = status.settings.iter().map(setting_json).collect();
            }
            json
        }
    }
}

fn setting_json(setting: &Setting) -> Value {
    json!({
        "key": setting.key,
        "value": setting.value,
        "origin": setting.origin,
        "reason": setting.reason,
    })
}

fn registry_json(registry: &RegistryStatus) -> Value {
    json!({
        "topic": registry.topic,
        "offset": registry.offset,
        "reason": registry.reason,
        "held_back": registry.held_back,
    })
}

fn lane_json(lane: &LaneStatus) -> Value {
    let counters = lane.counters.unwrap_or_default();
    json!({
        "lane": lane.lane,
        "partitioner": lane.partitioner,
        "partitions": lane.partitions,
        "counters": {
            "applied": counters.applied,
            "late": counters.late,
            "duplicate": counters.duplicate,
            "dead_lettered": counters.dead_lettered,
            "expired": counters.expired,
            "replayed": counters.replayed,
            "wrong_partition": counters.wrong_partition,
        },
        "shards": lane.shards.iter().map(shard_json).collect::<Vec<_>>(),
    })
}

fn shard_json(shard: &ShardStatus) -> Value {
    json!({
        "partition": shard.partition,
        "state": state(shard.state()),
        "reason": shard.reason,
        "keys": shard.keys,
        "disk_bytes": shard.disk_bytes,
        "index_bytes": shard.index_bytes,
        "hot_bytes": shard.hot_bytes,
        "lag_ms": shard.lag_ms,
        "topics": shard.topics.iter().map(topic_json).collect::<Vec<_>>(),
    })
}

fn topic_json(topic: &TopicStatus) -> Value {
    json!({
        "topic": topic.topic,
        "applied_offset": topic.applied_offset,
        "durable_offset": topic.durable_offset,
        "end_offset": topic.end_offset,
        "lag_offsets": topic.lag_offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halted_shard_shows_its_reason_below_the_table() {
        let topic = TopicStatus {
            topic: "points".into(),
            applied_offset: 41,
            durable_offset: -1,
            end_offset: 42,
            lag_offsets: 0,
        };
        let shard = |partition, state: ShardState, reason: &str| ShardStatus {
            partition,
            state: state.into(),
            reason: reason.into(),
            topics: vec![topic.clone()],
            keys: 7,
            disk_bytes: 1 << 20,
            ..Default::default()
        };
        let shards =
            vec![shard(0, ShardState::Ready, ""), shard(1, ShardState::Halted, "the log is another")];
        let counters = Some(LaneCounters { applied: 5, late: 2, ..Default::default() });
        let lane = LaneStatus { lane: "main".into(), shards, counters, ..Default::default() };
        let status = GetStatusResponse { lanes: vec![lane], instance: "one".into(), ..Default::default() };
        let text = status_text("http://a:1", &status);
        let row = text.lines().find(|line| line.contains("READY")).expect("a row");
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(&cells[..7], ["main", "0", "READY", "points", "41", "-", "42"], "{text}");
        assert!(text.contains("main: since start 5 applied, 2 late"), "{text}");
        assert!(text.contains("main/1 HALTED: the log is another"), "{text}");
    }
}
