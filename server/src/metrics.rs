//! Everything `/metrics` shows, in the text format of Prometheus. Counts are read where they are kept, when they are
//! asked for; only the times of calls are kept here. Called by `rest`; RPC handlers call `observe`.
//!
//! | Name | Labels | Unit, meaning |
//! |---|---|---|
//! | `forebay_build_info` | version | 1 |
//! | `forebay_uptime_seconds` | | since the server began to serve |
//! | `forebay_ready` | lane | 1 when every shard of the lane serves |
//! | `forebay_registry_offset` | | last offset of the registry that was read, -1: none |
//! | `forebay_registry_reading` | | 1 while the registry is being read, 0 when something keeps it from that |
//! | `forebay_registry_held_back` | | definitions of the registry that are not in force as they stand there |
//! | `forebay_assembly_requests_total` | | requests taken from the topic of requests |
//! | `forebay_assembly_replies_total` | | answers that Kafka has |
//! | `forebay_assembly_errors_total` | | answers that say an error |
//! | `forebay_assembly_dead_lettered_total` | | requests that cannot be answered, put aside |
//! | `forebay_applied_total` | lane | data points that became the current version of their key |
//! | `forebay_late_total` | lane | older than the current version, kept as history |
//! | `forebay_duplicate_total` | lane | same event time and bytes as the version they replaced |
//! | `forebay_dead_lettered_total` | lane | sent to the dead-letter topic |
//! | `forebay_expired_total` | lane | older than their TTL on arrival, dropped |
//! | `forebay_replayed_total` | lane | delivered again, already in the shard |
//! | `forebay_wrong_partition_total` | lane | on a partition the partitioner would not choose |
//! | `forebay_consumed_bytes_total` | lane | payload bytes consumed |
//! | `forebay_dead_letter_failures_total` | lane | dead letters not taken by their topic and sent again |
//! | `forebay_ingest_pauses_total` | lane | times ingest stopped to wait |
//! | `forebay_trigger_evaluations_total` | lane | values judged, each by one trigger |
//! | `forebay_trigger_interpreted_total` | lane | conditions of rules outside the fast path |
//! | `forebay_edges_total` | lane | edges told |
//! | `forebay_edge_failures_total` | lane | transactions of edges that failed and are tried again |
//! | `forebay_edges_waiting` | lane | edges that wait to be durable, or to be told |
//! | `forebay_freshness_seconds` | lane | histogram: Kafka timestamp to readable |
//! | `forebay_shard_state` | lane, partition, state | 1 for the state the shard is in |
//! | `forebay_shard_keys` | lane, partition | (entity, view) keys in the index |
//! | `forebay_shard_disk_bytes` | lane, partition | segment files and codings |
//! | `forebay_shard_index_bytes` | lane, partition | memory of the index |
//! | `forebay_shard_hot_bytes` | lane, partition | window of newest data that is held in memory |
//! | `forebay_shard_cold_reads_total` | lane, partition | records read from older data |
//! | `forebay_memory_limit_bytes` | | `storage.memory`: for the indexes and windows of all shards |
//! | `forebay_memory_resident_bytes` | kind | of this process: anonymous (its own), file (mapped files), shared |
//! | `forebay_shard_lag_seconds` | lane, partition | at most this far behind its logs |
//! | `forebay_applied_offset` | lane, partition, topic | last offset reads see, -1: none |
//! | `forebay_durable_offset` | lane, partition, topic | last offset on stable storage, -1: none |
//! | `forebay_end_offset` | lane, partition, topic | offset of the next message of the log, -1: not known |
//! | `forebay_lag_offsets` | lane, partition, topic | messages between applied and end |
//! | `forebay_request_seconds` | rpc | histogram: time in the handler; for StreamFeatures per request |
//! | `forebay_request_failures_total` | rpc | calls that failed |
//! | `forebay_reads_in_flight` | | reads that have arrived and have no answer yet |
//! | `forebay_unsent_answer_bytes` | | bytes of answers that are made and not sent |
//! | `forebay_reads_shed_total` | reason | reads refused: in_flight, unsent, queue (waited too long), deadline (passed) |
//! | `process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds` | | of this process |

mod latency;
mod process;
pub(crate) mod text;

use std::sync::atomic::{AtomicU64, Ordering};

pub use latency::{Rpc, observe};

use crate::lane::{Counters, ShardHandle};
use crate::service::{Admission, Context, Shed, not_ready};
use text::{Kind, Page};

/// Everything, as Prometheus reads it.
pub fn render(context: &Context) -> String {
    let mut page = Page::new();
    server(&mut page, context);
    registry(&mut page, context);
    assembly(&mut page, context);
    lanes(&mut page, context);
    shards(&mut page, context);
    topics(&mut page, context);
    latency::write(&mut page);
    reads(&mut page, &context.admission);
    process::write(&mut page);
    page.finish()
}

fn server(page: &mut Page, context: &Context) {
    page.family("forebay_build_info", Kind::Gauge, "The version that runs.");
    page.sample("forebay_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("forebay_uptime_seconds", Kind::Gauge, "Seconds since the server began to serve.");
    page.sample("forebay_uptime_seconds", &[], context.started.elapsed().as_secs_f64());
    page.family("forebay_memory_limit_bytes", Kind::Gauge, "For the indexes and windows of all shards.");
    page.sample("forebay_memory_limit_bytes", &[], context.tuned.memory_bytes.value);
    page.family("forebay_ready", Kind::Gauge, "Whether every shard of the lane serves.");
    for lane in &context.lanes {
        let name = lane.definition.name.as_str();
        let ready = not_ready(context, Some(name)).is_some_and(|reasons| reasons.is_empty());
        page.sample("forebay_ready", &[("lane", name)], u8::from(ready));
    }
}

fn registry(page: &mut Page, context: &Context) {
    let Some(registry) = &context.registry else { return };
    let mut gauge = |name, help, value: i64| {
        page.family(name, Kind::Gauge, help);
        page.sample(name, &[], value);
    };
    gauge("forebay_registry_offset", "Last offset read, -1: none.", registry.offset());
    let reading = registry.trouble().is_none();
    gauge("forebay_registry_reading", "Whether the registry is being read.", reading.into());
    let held = registry.held_back().len() as i64;
    gauge("forebay_registry_held_back", "Definitions that are not in force as they stand there.", held);
}

fn assembly(page: &mut Page, context: &Context) {
    if context.config.assembly.requests_topic.is_none() {
        return;
    }
    let counts = &crate::assembly::COUNTS;
    for (name, help, counter) in [
        ("forebay_assembly_requests_total", "Requests taken.", &counts.requests),
        ("forebay_assembly_replies_total", "Answers that Kafka has.", &counts.replies),
        ("forebay_assembly_errors_total", "Answers that say an error.", &counts.errors),
        ("forebay_assembly_dead_lettered_total", "Requests put aside.", &counts.dead_lettered),
    ] {
        page.family(name, Kind::Counter, help);
        page.sample(name, &[], counter.load(Ordering::Relaxed));
    }
}

/// Name, meaning and place of a counter of a lane.
type LaneCounter = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);

const LANE_COUNTERS: [LaneCounter; 14] = [
    ("forebay_applied_total", "Data points that became the current version of their key.", |c| &c.applied),
    ("forebay_late_total", "Data points older than the current version, kept as history.", |c| &c.late),
    ("forebay_duplicate_total", "Data points like the version they replaced.", |c| &c.duplicate),
    ("forebay_dead_lettered_total", "Data points sent to the dead-letter topic.", |c| &c.dead_lettered),
    ("forebay_expired_total", "Data points older than their TTL on arrival.", |c| &c.expired),
    ("forebay_replayed_total", "Data points delivered again.", |c| &c.replayed),
    ("forebay_wrong_partition_total", "Data points on an unexpected partition.", |c| &c.wrong_partition),
    ("forebay_consumed_bytes_total", "Payload bytes consumed.", |c| &c.bytes),
    ("forebay_dead_letter_failures_total", "Dead letters sent again.", |c| &c.dead_letter_failures),
    ("forebay_ingest_pauses_total", "Times ingest stopped to wait.", |c| &c.pauses),
    ("forebay_trigger_evaluations_total", "Values judged, each by one trigger.", |c| &c.evaluations),
    ("forebay_trigger_interpreted_total", "Conditions outside the fast path.", |c| &c.interpreted),
    ("forebay_edges_total", "Edges told.", |c| &c.edges),
    ("forebay_edge_failures_total", "Transactions of edges that failed.", |c| &c.edge_failures),
];

fn lanes(page: &mut Page, context: &Context) {
    for (name, help, counter) in LANE_COUNTERS {
        page.family(name, Kind::Counter, help);
        for lane in &context.lanes {
            let value = counter(&lane.counters).load(Ordering::Relaxed);
            page.sample(name, &[("lane", &lane.definition.name)], value);
        }
    }
    page.family("forebay_edges_waiting", Kind::Gauge, "Edges that wait to be told.");
    for lane in &context.lanes {
        let value = lane.counters.edges_waiting.load(Ordering::Relaxed);
        page.sample("forebay_edges_waiting", &[("lane", &lane.definition.name)], value);
    }
    page.family("forebay_freshness_seconds", Kind::Histogram, "Kafka timestamp to readable.");
    for lane in &context.lanes {
        let labels = [("lane", lane.definition.name.as_str())];
        page.histogram("forebay_freshness_seconds", &labels, &lane.freshness(), 1e3);
    }
}

fn reads(page: &mut Page, admission: &Admission) {
    page.family("forebay_reads_in_flight", Kind::Gauge, "Reads without an answer yet.");
    page.sample("forebay_reads_in_flight", &[], admission.in_flight());
    page.family("forebay_unsent_answer_bytes", Kind::Gauge, "Bytes of answers made and not sent.");
    page.sample("forebay_unsent_answer_bytes", &[], admission.unsent_bytes());
    page.family("forebay_reads_shed_total", Kind::Counter, "Reads refused.");
    for reason in Shed::ALL {
        page.sample("forebay_reads_shed_total", &[("reason", reason.as_str())], admission.shed(reason));
    }
}

const STATES: [&str; 5] = ["OPENING", "CATCHING_UP", "READY", "HALTED", "CLOSED"];

fn shards(page: &mut Page, context: &Context) {
    page.family("forebay_shard_state", Kind::Gauge, "1 for the state the shard is in.");
    each_shard(context, |labels, shard| {
        let current = shard.state();
        for state in STATES {
            let labels = [labels[0], labels[1], ("state", state)];
            page.sample("forebay_shard_state", &labels, u8::from(current.name() == state));
        }
    });
    let now_ms = context.clock.now_ms();
    let mut gauge = |name, help, value: &dyn Fn(&ShardHandle) -> f64| {
        page.family(name, Kind::Gauge, help);
        each_shard(context, |labels, shard| page.sample(name, &labels, value(shard)));
    };
    let stats = |shard: &ShardHandle| shard.reader.as_ref().map(|reader| reader.stats()).unwrap_or_default();
    gauge("forebay_shard_keys", "Keys in the index.", &|shard| stats(shard).keys as f64);
    gauge("forebay_shard_disk_bytes", "Bytes of segment files and codings.", &|shard| {
        stats(shard).disk_bytes as f64
    });
    gauge("forebay_shard_index_bytes", "Bytes of the index.", &|shard| stats(shard).index_bytes as f64);
    gauge("forebay_shard_hot_bytes", "Newest data held in memory.", &|shard| stats(shard).hot_bytes as f64);
    gauge("forebay_shard_lag_seconds", "At most this far behind its logs.", &|shard| {
        shard.staleness_ms(now_ms) as f64 / 1e3
    });
    page.family("forebay_shard_cold_reads_total", Kind::Counter, "Records read from older data.");
    each_shard(context, |labels, shard| {
        page.sample("forebay_shard_cold_reads_total", &labels, stats(shard).cold_reads);
    });
}

fn topics(page: &mut Page, context: &Context) {
    let mut gauge = |name, help, value: &dyn Fn(&ShardHandle, usize) -> i64| {
        page.family(name, Kind::Gauge, help);
        each_shard(context, |labels, shard| {
            for (i, topic) in shard.topics.iter().enumerate() {
                page.sample(name, &[labels[0], labels[1], ("topic", &topic.name)], value(shard, i));
            }
        });
    };
    gauge("forebay_applied_offset", "Last offset reads see, -1: none.", &|shard, topic| {
        shard.applied_offset(topic)
    });
    gauge("forebay_durable_offset", "Last offset on stable storage, -1: none.", &|shard, topic| {
        shard.durable_offset(topic)
    });
    gauge("forebay_end_offset", "Offset of the next message of the log.", &|shard, topic| {
        shard.topics[topic].end_offset.load(Ordering::Acquire)
    });
    gauge("forebay_lag_offsets", "Messages between applied and end.", &|shard, topic| {
        shard.lag_offsets(topic) as i64
    });
}

fn each_shard(context: &Context, mut each: impl FnMut([(&str, &str); 2], &ShardHandle)) {
    for lane in &context.lanes {
        for shard in lane.shards().iter() {
            let partition = shard.partition.to_string();
            each([("lane", &lane.definition.name), ("partition", &partition)], shard);
        }
    }
}
