//! The settings in force, each with its value, where it is from and why: what `forebay status --explain` shows. Called by
//! `admin`; reads the configuration, what `tuning` decided and what lanes show, and changes nothing.

use std::fmt::Display;
use std::sync::atomic::Ordering;

use forebay_proto::v1::Setting;

use super::Context;
use crate::config::units::{show_duration, show_size};
use crate::config::{Config, Origin, Origins};
use crate::lane::Lane;
use crate::tuning::{self, Choice, QUEUED, TunedLane};

/// librdkafka's settings whose names have one of these may be secret.
const SECRET: [&str; 6] = ["password", "secret", "token", "key", "oauth", "sasl.username"];

/// Every setting; of lanes only those whose name is asked for, or of all.
pub(super) fn settings(context: &Context, lane: &str) -> Vec<Setting> {
    let mut told = Told { origins: &context.config.origins, settings: Vec::new() };
    of_server(&context.config, &mut told);
    of_kafka(&context.config, &mut told);
    of_storage(context, &mut told);
    of_ingest(&context.config, &mut told);
    of_reads(context, &mut told);
    of_others(&context.config, &mut told);
    let lanes = context.lanes.iter().zip(&context.tuned.lanes);
    for (lane, tuned) in lanes.filter(|(known, _)| lane.is_empty() || known.definition.name == lane) {
        of_lane(lane, tuned, &mut told);
    }
    told.settings
}

/// What is told so far.
struct Told<'c> {
    origins: &'c Origins,
    settings: Vec<Setting>,
}

impl Told<'_> {
    /// A key with a fixed default.
    fn key(&mut self, key: &str, value: impl Display) {
        let (origin, reason) = self.origin(key).unwrap_or(("default", String::new()));
        self.push(key, value, origin, reason);
    }

    /// A key that is tuned if it is not given.
    fn tuned<T>(&mut self, key: &str, choice: &Choice<T>, show: impl Fn(&T) -> String) {
        let tuned = || ("tuned", choice.reason.clone().unwrap_or_default());
        let (origin, reason) = self.origin(key).unwrap_or_else(tuned);
        self.push(key, show(&choice.value), origin, reason);
    }

    fn origin(&self, key: &str) -> Option<(&'static str, String)> {
        self.origins.of(key).map(|origin| match origin {
            Origin::File => ("file", String::new()),
            Origin::Environment(variable) => ("environment", variable.clone()),
        })
    }

    fn push(&mut self, key: impl Into<String>, value: impl Display, origin: &str, reason: String) {
        let (key, value) = (key.into(), value.to_string());
        self.settings.push(Setting { key, value, origin: origin.into(), reason });
    }
}

fn show_optional(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn ms(ms: u64) -> String {
    show_duration(ms as i64)
}

fn bytes(bytes: &u64) -> String {
    show_size(*bytes)
}

fn of_server(config: &Config, told: &mut Told<'_>) {
    let server = &config.server;
    told.key("server.instance", &server.instance);
    told.key("server.listen", server.listen);
    told.key("server.http_listen", server.http_listen);
    told.key("server.definitions", server.definitions.display());
    told.key("server.insecure", server.insecure);
    let tls = server.tls.as_ref();
    told.key("server.tls.cert", show_optional(tls.map(|tls| tls.cert.display())));
    told.key("server.tls.key", show_optional(tls.map(|tls| tls.key.display())));
    let client_ca = tls.and_then(|tls| tls.client_ca.as_ref());
    told.key("server.tls.client_ca", show_optional(client_ca.map(|path| path.display())));
}

fn of_kafka(config: &Config, told: &mut Told<'_>) {
    let kafka = &config.kafka;
    told.key("kafka.bootstrap", &kafka.bootstrap);
    told.key("kafka.group", &kafka.group);
    told.key("kafka.topics_check_interval", ms(kafka.topics_check_interval_ms));
    for (section, set) in
        [("settings", &kafka.settings), ("consumer", &kafka.consumer), ("producer", &kafka.producer)]
    {
        for (name, value) in set {
            let secret = SECRET.iter().any(|word| name.contains(word));
            let value = if secret { "(given)" } else { value };
            told.key(&format!("kafka.{section}.{name}"), value);
        }
    }
}

fn of_storage(context: &Context, told: &mut Told<'_>) {
    let storage = &context.config.storage;
    told.key("storage.dir", storage.dir.display());
    told.key("storage.segment", show_size(storage.segment_bytes));
    let shards = context.lanes.iter().filter_map(|lane| lane.partition_count()).max().unwrap_or(0);
    let interval = tuning::sync_interval_ms(storage.sync_interval_ms, shards);
    told.tuned("storage.sync_interval", &interval, |interval| ms(*interval));
    told.key("storage.sync_bytes", show_size(storage.sync_bytes));
    told.key("storage.checkpoint", show_size(storage.checkpoint_bytes));
    told.tuned("storage.memory", &context.tuned.memory_bytes, bytes);
    told.key("storage.preload", show_size(storage.preload_bytes));
}

fn of_ingest(config: &Config, told: &mut Told<'_>) {
    let (ingest, triggers) = (&config.ingest, &config.triggers);
    told.key("ingest.batch_max", ingest.batch_max);
    told.key("ingest.batch_wait", ms(ingest.batch_wait_ms));
    told.key("ingest.ready_max_lag", ingest.ready_max_lag);
    told.key("triggers.emit", triggers.emit);
    told.key("triggers.transaction_interval", ms(triggers.transaction_interval_ms));
}

fn of_reads(context: &Context, told: &mut Told<'_>) {
    let (read, tuned) = (&context.config.read, &context.tuned);
    told.key("read.max_entities", read.max_entities);
    told.key("read.max_message", show_size(read.max_message_bytes as u64));
    told.key("read.default_wait", ms(read.default_wait_ms));
    told.tuned("read.threads", &tuned.read_threads, usize::to_string);
    told.tuned("read.max_in_flight", &tuned.in_flight, u64::to_string);
    told.tuned("read.max_unsent", &tuned.unsent_bytes, bytes);
    told.key("read.max_queue", ms(read.max_queue_ms));
    told.tuned("read.cold_reads", &tuned.cold_reads, usize::to_string);
}

fn of_others(config: &Config, told: &mut Told<'_>) {
    told.key("registry.topic", show_optional(config.registry.topic.as_ref()));
    let assembly = &config.assembly;
    told.key("assembly.requests_topic", show_optional(assembly.requests_topic.as_ref()));
    told.key("assembly.group", &assembly.group);
    told.key("assembly.threads", assembly.threads);
    told.key("assembly.max_in_flight", assembly.max_in_flight);
    let letters = assembly.requests_topic.as_ref().map(|topic| assembly.dead_letter_topic(topic));
    told.key("assembly.dead_letter_topic", show_optional(letters));
}

/// What a lane is bounded by.
fn of_lane(lane: &Lane, tuned: &TunedLane, told: &mut Told<'_>) {
    let definition = &lane.definition;
    let key = |name: &str| format!("lane.{}.{name}", definition.name);
    let partitions = lane.partitions.load(Ordering::Acquire);
    let shards = tuning::shards_of_threads(lane.threads, partitions);
    let (origin, reason) = match &tuned.threads.reason {
        None => ("definitions", shards),
        Some(reason) => ("tuned", format!("{reason}; {shards}")),
    };
    told.push(key("threads"), lane.threads, origin, reason);
    let origin = if definition.nice > 0 { "definitions" } else { "default" };
    told.push(key("nice"), definition.nice, origin, "of all its threads".into());
    of_lanes_fetch(key("fetch"), lane, tuned, told);
    let used = Used::of(lane);
    let (value, origin) = match definition.disk_bytes {
        Some(limit) => (show_size(limit), "definitions"),
        None => (String::new(), "default"),
    };
    told.push(key("disk"), value, origin, format!("{} used now", mib(used.disk)));
    let memory = format!("{} of index, the newest {} of data", mib(used.index), mib(used.hot));
    told.push(key("memory"), mib(used.index + used.hot), "tuned", format!("of storage.memory now: {memory}"));
}

/// What its threads may have fetched ahead, all together.
fn of_lanes_fetch(key: String, lane: &Lane, tuned: &TunedLane, told: &mut Told<'_>) {
    let each = &tuned.fetch_bytes;
    let given = ["consumer", "settings"].map(|section| format!("kafka.{section}.{QUEUED}"));
    let (origin, why) = match given.iter().find_map(|key| Some((key, told.origin(key)?.0))) {
        Some((key, origin)) => (origin, key.clone()),
        None => ("tuned", each.reason.clone().unwrap_or_default()),
    };
    let reason = format!("{} for each of its threads: {why}", show_size(each.value));
    told.push(key, show_size(each.value * lane.threads as u64), origin, reason);
}

/// What the shards of a lane take now, in bytes.
#[derive(Default)]
struct Used {
    disk: u64,
    index: u64,
    hot: u64,
}

impl Used {
    fn of(lane: &Lane) -> Used {
        let mut used = Used::default();
        for stats in lane.shards().iter().filter_map(|shard| Some(shard.reader.as_ref()?.stats())) {
            used.disk += stats.disk_bytes;
            used.index += stats.index_bytes;
            used.hot += stats.hot_bytes;
        }
        used
    }
}

/// Of what changes all the time whole units are enough.
fn mib(bytes: u64) -> String {
    show_size(bytes.next_multiple_of(1 << 20))
}
