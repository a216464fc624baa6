//! Kafka to Redis as one would write it for speed: consumers as in raw consumption, each with a connection of its own to
//! Redis, on which it pipelines. In its favour: the payload is not looked at, and the last to come is what stays, whatever
//! its event time.

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};

use super::raw_kafka::{self, Consumed};
use super::redis::{self, Pipeline};

/// A week, as the mix's views live.
const TTL_S: &[u8] = b"604800";

/// Sets the value of every message of the topics in the Redis at `address`; done when the last one is answered.
pub fn copy(bootstrap: &str, topics: &[String], threads: usize, address: &str) -> anyhow::Result<Consumed> {
    raw_kafka::consume_by(bootstrap, topics, threads, || {
        let (mut pipeline, mut name) = (Pipeline::connect(address)?, Vec::new());
        Ok(move |message: Option<&BorrowedMessage<'_>>| {
            let Some(message) = message else { return pipeline.finish() };
            let Some(key) = message.key() else { return Ok(()) };
            name_of(message, key, &mut name);
            pipeline.add(|out| match message.payload() {
                Some(value) => redis::command(out, &[b"SET", &name, value, b"EX", TTL_S]),
                None => redis::command(out, &[b"DEL", &name]),
            })
        })
    })
}

/// View (or topic, where it feeds one view only) and entity.
fn name_of(message: &BorrowedMessage<'_>, key: &[u8], name: &mut Vec<u8>) {
    let headers = message.headers().map(|headers| headers.iter());
    let view = headers.into_iter().flatten().find(|header| header.key == "forebay-view");
    name.clear();
    name.extend_from_slice(view.and_then(|header| header.value).unwrap_or(message.topic().as_bytes()));
    name.push(b':');
    name.extend_from_slice(key);
}
