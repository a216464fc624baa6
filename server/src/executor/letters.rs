//! Records that no diagnosis can be made of, on their way to the executor's dead-letter topic, with the reason. A record is
//! done only when its letter is acknowledged. Called by `run`.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::pace::Backoff;
use super::source::Record;
use crate::config::KafkaConfig;
use crate::kafka::producer_config;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };

/// The way to the dead-letter topic.
pub(super) struct DeadLetters {
    topic: String,
    producer: FutureProducer,
}

impl DeadLetters {
    /// Fails only if a setting is wrong.
    pub(super) fn new(kafka: &KafkaConfig, topic: &str) -> anyhow::Result<DeadLetters> {
        let mut config = producer_config(kafka);
        config.set("message.timeout.ms", "5000").set("topic.metadata.propagation.max.ms", "1000");
        Ok(DeadLetters { topic: topic.to_owned(), producer: config.create().context("[kafka] settings")? })
    }

    /// Puts a record aside: tried until Kafka has it.
    pub(super) async fn put(&self, record: &Record, reason: &str, detail: &str) {
        let Record { topic, partition, offset, .. } = record;
        tracing::warn!(topic, partition, offset, reason, detail, "put aside");
        for failures in 1.. {
            let headers = headers(record, reason, detail);
            let letter = FutureRecord::<[u8], [u8]>::to(&self.topic)
                .key(&record.key)
                .payload(&record.payload)
                .headers(headers);
            match self.producer.send(letter, Duration::from_secs(5)).await {
                Ok(_) => return,
                Err((error, _)) if failures == 3 => {
                    tracing::error!(topic = self.topic, %error, "dead letters wait for their topic");
                }
                Err(_) => {}
            }
            let pause = BACKOFF.pause(failures, &mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }
}

fn headers(record: &Record, reason: &str, detail: &str) -> OwnedHeaders {
    let own = [
        ("forebay-dlq-reason", reason.to_owned()),
        ("forebay-dlq-detail", detail.to_owned()),
        ("forebay-dlq-topic", record.topic.clone()),
        ("forebay-dlq-partition", record.partition.to_string()),
        ("forebay-dlq-offset", record.offset.to_string()),
        ("forebay-dlq-timestamp", record.timestamp_ms.to_string()),
    ];
    let empty = OwnedHeaders::new_with_capacity(own.len());
    own.iter().fold(empty, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}
