//! librdkafka as this server uses it: the settings of its consumers and producers, the consumer's event queue, and
//! what the broker says about topics. Called by `ingest` and `serve`; knows nothing of views, shards or storage.

pub mod consumer;
mod ffi;
pub mod topics;

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::config::KafkaConfig;

/// A consumer that logs as this server does.
type Consumer = BaseConsumer<ClientLog>;

/// What librdkafka says, in our log. It repeats itself while brokers are away; those who use a client say once what that
/// means.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientLog;

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, message, "librdkafka");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning if facility != "FAIL" => {
                tracing::warn!(facility, message, "librdkafka");
            }
            _ => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ConsumerContext for ClientLog {}

/// `max.message.bytes` of a dead-letter topic created here: room for the largest record a topic is likely to allow, with
/// the headers that say why it is a dead letter.
pub const DEAD_LETTER_MAX_BYTES: &str = "17825792";

/// Settings of every client: how to reach the brokers, and how fast to come back to them.
fn client_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap);
    config.set("client.id", "forebay");
    // A broker that comes back is found within a second, whatever the length of its absence.
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
    config.set("topic.metadata.refresh.interval.ms", "30000");
    config
}

fn set_all(config: &mut ClientConfig, settings: &BTreeMap<String, String>) {
    for (key, value) in settings {
        config.set(key, value);
    }
}

/// Settings of a consumer without a group: for questions about topics.
pub fn consumer_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = client_config(kafka);
    // A consumer slower than its fetcher would lose two thirds of its rate with the default of 1000.
    config.set("fetch.queue.backoff.ms", "2").set("fetch.wait.max.ms", "100");
    config.set("queued.max.messages.kbytes", "32768");
    config.set("check.crcs", "true");
    set_all(&mut config, &kafka.settings);
    set_all(&mut config, &kafka.consumer);
    // What the promises rest on is not for settings to change.
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error").set("isolation.level", "read_committed");
    config.set("enable.partition.eof", "true");
    config
}

/// Settings of a client that asks for the offsets of a lane's consumer group and is no member of it.
pub fn group_config(kafka: &KafkaConfig, lane: &str) -> ClientConfig {
    let mut config = consumer_config(kafka);
    config.set("group.id", format!("{}.{lane}", kafka.group));
    config
}

/// Settings of the producer that tells the edges of one member of a lane's consumer group. A transaction left behind by
/// a crash holds readers of edges up until it times out, or until the next producer of the same name begins.
pub fn transactional_config(kafka: &KafkaConfig, lane: &str, instance: &str, thread: usize) -> ClientConfig {
    let mut config = producer_config(kafka);
    // As Java's clients do, so that whoever joins edges with values finds them on the same partitions.
    config.set("partitioner", "murmur2_random").set("linger.ms", "0");
    config.set("transaction.timeout.ms", "10000").set("message.timeout.ms", "8000");
    // A coordinator that still ends the transaction before says so; it is done in milliseconds.
    let backoff = [("retry.backoff.ms", "5"), ("retry.backoff.max.ms", "200")];
    set_unless_said(&mut config, [&kafka.settings, &kafka.producer], &backoff);
    config.set("transactional.id", format!("{}.{lane}.{instance}.{thread}", kafka.group));
    config
}

/// Sets what the configuration does not say.
fn set_unless_said(
    config: &mut ClientConfig,
    said: [&BTreeMap<String, String>; 2],
    defaults: &[(&str, &str)],
) {
    for (key, value) in defaults {
        if said.iter().all(|said| !said.contains_key(*key)) {
            config.set(*key, *value);
        }
    }
}

/// The same of consumers.
fn set_unless_said_of_consumers(config: &mut ClientConfig, kafka: &KafkaConfig, defaults: &[(&str, &str)]) {
    set_unless_said(config, [&kafka.settings, &kafka.consumer], defaults);
}

/// How soon a group notices that a member is gone.
pub fn stay_in_touch(config: &mut ClientConfig, kafka: &KafkaConfig) {
    let defaults = [("session.timeout.ms", "20000"), ("heartbeat.interval.ms", "2000")];
    set_unless_said_of_consumers(config, kafka, &defaults);
}

/// How long brokers gather, ms, for a consumer whose records somebody waits for, ...
pub const SOON_MS: u32 = 10;
/// ... and for one whose records nobody does.
pub const AT_LEISURE_MS: u32 = 100;

/// Has brokers wait a moment for more before they answer a fetch: where records trickle, an answer for each of them costs
/// the broker more than all else that is done about it, for it looks at all partitions it watches for the consumer.
pub fn gather(config: &mut ClientConfig, kafka: &KafkaConfig, wait_ms: u32) {
    let wait_ms = wait_ms.to_string();
    set_unless_said_of_consumers(
        config,
        kafka,
        &[("fetch.min.bytes", "65536"), ("fetch.wait.max.ms", &wait_ms)],
    );
}

/// Settings of one member of a lane's consumer group, which may have so many bytes fetched ahead.
pub fn member_config(
    kafka: &KafkaConfig,
    lane: &str,
    instance: &str,
    thread: usize,
    fetch_bytes: u64,
) -> ClientConfig {
    let mut config = consumer_config(kafka);
    stay_in_touch(&mut config, kafka);
    gather(&mut config, kafka, SOON_MS);
    // What one answer of a broker brings comes on top of what is queued.
    let most = fetch_bytes.clamp(1 << 20, 50 << 20).to_string();
    set_unless_said_of_consumers(&mut config, kafka, &[("fetch.max.bytes", &most)]);
    config.set("queued.max.messages.kbytes", (fetch_bytes >> 10).to_string());
    config.set("group.id", format!("{}.{lane}", kafka.group));
    // `range` gives partitions to members by the order of these names: by thread first, so that every server has its part
    // although there are more threads than partitions.
    config.set("group.instance.id", format!("{thread:03}.{instance}.{lane}"));
    // Gives the same partition number of every topic to the same member: a shard is a partition of all of them.
    config.set("partition.assignment.strategy", "range");
    config
}

/// Settings of a producer whose acknowledgement means that Kafka has the record, once and in order.
pub fn producer_config(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = client_config(kafka);
    config.set("linger.ms", "5").set("compression.type", "lz4");
    // What is too large is for the broker to say, which knows each topic's limit.
    config.set("message.max.bytes", "1000000000");
    set_all(&mut config, &kafka.settings);
    set_all(&mut config, &kafka.producer);
    config.set("enable.idempotence", "true").set("acks", "all");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_all_servers_come_in_turn_in_the_order_of_their_names() {
        let kafka =
            crate::config::Config::parse("test", "", std::path::Path::new(""), []).expect("good").kafka;
        let name = |instance: &str, thread| {
            let config = member_config(&kafka, "main", instance, thread, 8 << 20);
            config.get("group.instance.id").expect("static").to_owned()
        };
        let in_turn =
            [("a", 2), ("b", 2), ("a", 10), ("b", 10)].map(|(instance, thread)| name(instance, thread));
        assert!(in_turn.is_sorted(), "{in_turn:?}");
    }

    #[test]
    fn what_a_member_fetches_ahead_is_bounded_unless_it_is_said() {
        let member = |text: &str| {
            let config =
                crate::config::Config::parse("test", text, std::path::Path::new(""), []).expect("good");
            let config = member_config(&config.kafka, "main", "one", 0, 8 << 20);
            ["queued.max.messages.kbytes", "fetch.max.bytes"]
                .map(|key| config.get(key).expect("set").to_owned())
        };
        assert_eq!(member(""), ["8192", "8388608"]);
        assert_eq!(member("[kafka.consumer]\n\"fetch.max.bytes\" = 2000000"), ["8192", "2000000"]);
    }
}
