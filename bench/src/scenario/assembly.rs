//! Features by Kafka: requests on a topic, answers on another. How many are answered a second when all are there at once, and
//! how long an answer takes at a rate; broker, server and load share the machine's cores.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use forebay_tests::{Broker, Kafka, Server, ServerConfig, event_now, run_dir};
use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message};
use serde_json::json;

use super::{Schedule, applied, behind, progress, send_patiently};
use crate::cpu;
use crate::report::{Report, Row};

/// What `forebay-bench assembly` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Requests that are there at once.
    #[arg(long, default_value_t = 400_000)]
    count: u64,
    /// Requests a second, for how long an answer takes.
    #[arg(long, default_value_t = 10_000.0)]
    rate: f64,
    /// Seconds of that.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Entities with a value.
    #[arg(long, default_value_t = 10_000)]
    entities: u64,
    /// Bytes of each value's text.
    #[arg(long, default_value_t = 200)]
    bytes: usize,
    /// Partitions of each topic. More cost the broker more, and bring nothing where there are two cores.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Threads of the server that answer.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What answers are: rows of JSON, or typed columns.
    #[arg(long, default_value = "json", value_parser = ["json", "typed"])]
    format: String,
}

const GROUP: &str = "assembly";
const POINTS: &str = "assembly.points";
const REQUESTS: &str = "assembly.requests";
const REPLIES: &str = "assembly.replies";
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers to what was asked before do not count among the times: connections begin then.
const FIRST_US: u64 = 1_000_000;

const DEFINITIONS: &str = r#"
[[lane]]
name = "main"
dead_letter_topic = "assembly.dlq"
[[lane.topic]]
name = "assembly.points"

[[view]]
id = 1
name = "points"
lane = "main"
entity = "entity"
topics = ["assembly.points"]
event_time = { path = "ts" }
history = "latest"
[[view.field]]
name = "level"
type = "double"
[[view.field]]
name = "text"
type = "string"
"#;

/// What came back.
struct Answered {
    seconds: f64,
    /// From when it was to be sent to reading, µs.
    took_us: Histogram<u64>,
    bytes: u64,
    behind_ms: f64,
}

/// The scenario.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let step = progress("starting broker and server");
    let broker = Broker::start(GROUP).await;
    let (kafka, broker_pid) = (broker.kafka(), broker.pid().await.context("the broker has no pid")?);
    kafka.create_topics(&[POINTS, REQUESTS, REPLIES], options.partitions).await;
    kafka.create_topics(&["assembly.requests.dlq", "assembly.dlq"], 1).await;
    let more = format!("[assembly]\nrequests_topic = \"{REQUESTS}\"\nthreads = {}\n", options.threads);
    let dir = run_dir().join(GROUP);
    let server = ServerConfig::write(&dir, &kafka.bootstrap, GROUP, DEFINITIONS, &more).start().await;
    server.wait_ready().await;
    write_points(&kafka, &server, options).await?;
    let pids = [("broker", broker_pid), ("server", server.pid()), ("load", std::process::id())];
    let cpus = || pids.map(|(_, pid)| cpu::of_process(pid));
    let load = async |count: u64, rate: f64| {
        let (bootstrap, options) = (kafka.bootstrap.clone(), options.clone());
        let ends = kafka.end_offsets(REPLIES).await;
        tokio::task::spawn_blocking(move || ask(&bootstrap, &options, &ends, count, rate)).await?
    };
    step.set_message("warming up");
    load(options.count / 4 + 1, f64::INFINITY).await?;
    step.set_message("all at once");
    let before = cpus();
    let burst = load(options.count, f64::INFINITY).await?;
    let after = cpus();
    step.set_message("at a rate");
    let paced = load((options.rate * options.seconds) as u64, options.rate).await?;
    step.finish_and_clear();
    let mut report = Report::new("assembly");
    report.data.insert("requests", json!(options.count));
    report.data.insert("format", json!(options.format));
    report.data.insert("answer_bytes", json!(burst.bytes / options.count));
    report.data.insert("paced_per_s", json!(options.rate));
    let ms = |at: f64| paced.took_us.value_at_quantile(at) as f64 / 1e3;
    report.rows = vec![
        Row::alone("answers", "/s", options.count as f64 / burst.seconds, ">= 20000"),
        Row::alone("request to answer at the rate, p50", "ms", ms(0.5), ""),
        Row::alone("request to answer at the rate, p99", "ms", ms(0.99), "< 100"),
        Row::alone("sent behind the schedule, most", "ms", paced.behind_ms, ""),
    ];
    for ((name, _), (before, after)) in pids.into_iter().zip(before.into_iter().zip(after)) {
        let each = after.saturating_sub(before) as f64 / options.count as f64;
        report.rows.push(Row::alone(format!("CPU, {name}"), "µs/request", each, ""));
    }
    Ok(report)
}

/// Gives every entity its value.
async fn write_points(kafka: &Kafka, server: &Server, options: &Options) -> anyhow::Result<()> {
    let (bootstrap, count, text) = (kafka.bootstrap.clone(), options.entities, "x".repeat(options.bytes));
    tokio::task::spawn_blocking(move || {
        let producer = producer(&bootstrap)?;
        for entity in 0..count {
            let value = format!(r#"{{"ts":{},"level":{entity}.25,"text":"{text}"}}"#, event_now());
            send_patiently(&producer, BaseRecord::to(POINTS).key(&key(entity)).payload(&value))?;
        }
        anyhow::Ok(producer.flush(PATIENCE)?)
    })
    .await??;
    applied(&server.connect().await, "main", count, PATIENCE).await
}

/// Sends requests at a rate, and reads their answers: what comes behind these ends, by partition.
fn ask(bootstrap: &str, options: &Options, ends: &[i64], count: u64, rate: f64) -> anyhow::Result<Answered> {
    let (consumer, producer) = (follow(bootstrap, ends)?, producer(bootstrap)?);
    // Connected before it counts.
    producer.client().fetch_metadata(Some(REQUESTS), PATIENCE)?;
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_requests(&producer, options, count, rate, begin));
        let answered = read_answers(&consumer, count, begin);
        let behind_ms = sender.join().expect("no panic")?;
        Ok(Answered { behind_ms, ..answered? })
    })
}

/// Gives how late the latest was, ms.
fn send_requests(
    producer: &BaseProducer,
    options: &Options,
    count: u64,
    rate: f64,
    begin: Instant,
) -> anyhow::Result<f64> {
    let mut schedule = Schedule::new(begin, rate);
    for number in 0..count {
        // When it should be sent counts, whenever it is.
        let sent = schedule.wait_for(number).as_micros().to_string();
        let key = key(number % options.entities);
        let body = format!(r#"{{"entity":"{key}","views":["points"],"format":"{}"}}"#, options.format);
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "correlation-id", value: Some(&sent) })
            .insert(Header { key: "reply-topic", value: Some(REPLIES) });
        send_patiently(producer, BaseRecord::to(REQUESTS).key(&key).payload(&body).headers(headers))?;
    }
    producer.flush(PATIENCE)?;
    Ok(schedule.behind_ms())
}

fn read_answers(consumer: &BaseConsumer, count: u64, begin: Instant) -> anyhow::Result<Answered> {
    let took_us = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let mut answered = Answered { seconds: 0.0, took_us, bytes: 0, behind_ms: 0.0 };
    let mut first = None;
    for got in 0..count {
        let since = Instant::now();
        let answer = loop {
            // Nothing is also what it gives when it had something else to do.
            if let Some(answer) = consumer.poll(Duration::from_secs(1)) {
                break answer?;
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "{got} of {count} answers came, and no more within {PATIENCE:?}"
            );
        };
        let header = |name: &str| {
            let found = answer.headers()?.iter().find(|header| header.key == name);
            found.and_then(|header| header.value).and_then(|value| std::str::from_utf8(value).ok())
        };
        let now = begin.elapsed();
        first.get_or_insert(now);
        let asked_us: u64 = header("correlation-id").and_then(|id| id.parse().ok()).context("a number")?;
        if asked_us >= FIRST_US {
            answered.took_us.saturating_record((now.as_micros() as u64).saturating_sub(asked_us).max(1));
        }
        let status = header("forebay-status");
        ensure!(
            status == Some("OK"),
            "answered {status:?}: {:?}",
            answer.payload().map(String::from_utf8_lossy)
        );
        answered.bytes += answer.payload_len() as u64;
    }
    answered.seconds = (begin.elapsed() - first.unwrap_or_default()).as_secs_f64();
    ensure!(answered.seconds > 0.0, "no time passed between the answers");
    Ok(answered)
}

/// Reads what is answered behind these ends.
fn follow(bootstrap: &str, ends: &[i64]) -> anyhow::Result<BaseConsumer> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("group.id", "forebay-bench-assembly");
    // It only looks on, and must not be what the broker is busy with.
    settings.set("fetch.min.bytes", "65536").set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = settings.create()?;
    consumer.assign(&behind(REPLIES, ends)?)?;
    Ok(consumer)
}

fn key(entity: u64) -> String {
    format!("entity-{entity:08}")
}

fn producer(bootstrap: &str) -> anyhow::Result<BaseProducer> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("partitioner", "murmur2_random");
    Ok(settings.set("linger.ms", "5").set("compression.type", "lz4").create()?)
}
