//! The records of the edges and requests topics, as a member of a consumer group of its own: one source per model, so that
//! a slow model keeps back its own records and nobody else's. Started by `run`; knows nothing of what records mean.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance, StreamConsumer,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::window::{Partition, Ticket, Windows};
use crate::config::KafkaConfig;
use crate::kafka::{ClientLog, consumer_config, gather, stay_in_touch};

/// How often offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// How long records are waited for by nobody before fetching is paused; until then polling is.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to rest after an error before the next poll.
const ERROR_PAUSE: Duration = Duration::from_millis(500);

/// A record, copied out of the client's memory.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, ms.
    pub timestamp_ms: i64,
    /// Its key; empty: none.
    pub key: Bytes,
    /// Its value; empty: none.
    pub payload: Bytes,
}

/// A member of a group.
pub(super) struct Source {
    group: String,
    consumer: StreamConsumer<Membership>,
    windows: Windows,
}

struct Membership(Windows);

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        ClientLog.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientLog.error(error, reason);
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(gone) = rebalance else { return };
        // What is done is not to be done again by whoever gets them; what is not will be.
        if let Ok(offsets) = list(&self.0.advance())
            && offsets.count() > 0
            && let Err(error) = consumer.commit(&offsets, CommitMode::Sync)
        {
            tracing::debug!(%error, "offsets at a rebalance");
        }
        let partition = |gone: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            (gone.topic().to_owned(), gone.partition())
        };
        self.0.forget(gone.elements().iter().map(partition));
    }
}

fn list(offsets: &std::collections::BTreeMap<Partition, i64>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// Settings of a member that begins where its group left off, and with the oldest records if there is no such place.
fn config(kafka: &KafkaConfig, group: &str, instance: &str, gather_ms: u32) -> ClientConfig {
    let mut config = consumer_config(kafka);
    stay_in_touch(&mut config, kafka);
    gather(&mut config, kafka, gather_ms);
    config.set("group.id", group);
    // A restart under the same name gets its partitions back at once.
    config.set("group.instance.id", instance);
    config.set("auto.offset.reset", "earliest").set("enable.partition.eof", "false");
    config.set("queued.max.messages.kbytes", "4096").set("allow.auto.create.topics", "false");
    config.set("topic.metadata.refresh.interval.ms", "5000");
    config
}

impl Source {
    /// Joins the group; fails only if a setting is wrong. `gather_ms`: how long brokers gather
    /// records for it.
    pub(super) fn join(
        kafka: &KafkaConfig,
        group: &str,
        instance: &str,
        topics: &[String],
        gather_ms: u32,
    ) -> anyhow::Result<Source> {
        let windows = Windows::default();
        let consumer: StreamConsumer<Membership> = config(kafka, group, instance, gather_ms)
            .create_with_context(Membership(windows.clone()))
            .context("[kafka] settings")?;
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).with_context(|| format!("subscribing to {}", topics.join(", ")))?;
        Ok(Source { group: group.to_owned(), consumer, windows })
    }

    /// Its records that are not done yet.
    pub(super) fn windows(&self) -> Windows {
        self.windows.clone()
    }

    /// Hands `each` every record with a slot of `slots`, until `stop`; then commits what is done. Records wait in Kafka
    /// while there is no slot. Ends early, with the reason, if this member is shut out for good.
    pub(super) async fn consume(
        &self,
        slots: &Arc<Semaphore>,
        mut stop: watch::Receiver<bool>,
        mut each: impl FnMut(Record, Ticket, OwnedSemaphorePermit),
    ) -> Result<(), String> {
        let mut held: VecDeque<(Record, Ticket)> = VecDeque::new();
        let (mut paused, mut impatient_at) = (false, Instant::now());
        let mut resting_until = Instant::now();
        let mut commits = tokio::time::interval(COMMIT_EVERY);
        let outcome = loop {
            if held.is_empty() && std::mem::take(&mut paused) {
                self.fetch(true);
            }
            let is_resting = Instant::now() < resting_until;
            tokio::select! {
                () = told(&mut stop) => break Ok(()),
                _ = commits.tick() => self.commit(CommitMode::Async),
                slot = slots.clone().acquire_owned(), if !held.is_empty() => {
                    let slot = slot.map_err(|_| "closed".to_owned())?;
                    if let Some((record, ticket)) = held.pop_front() {
                        each(record, ticket, slot);
                    }
                    impatient_at = Instant::now() + PATIENCE;
                }
                () = tokio::time::sleep_until(impatient_at), if !held.is_empty() && !paused => {
                    self.fetch(false);
                    paused = true;
                }
                // A member that does not poll is taken for dead: so polling goes on, without fetching.
                received = self.consumer.recv(), if !is_resting && (held.is_empty() || paused) => match received {
                    Ok(message) => {
                        if paused {
                            // Of a partition that was assigned since.
                            self.fetch(false);
                        }
                        held.push_back(self.take(&message));
                        impatient_at = Instant::now() + PATIENCE;
                    }
                    Err(error) => {
                        if let Some(fatal) = self.consumer.client().fatal_error() {
                            break Err(fatal.1);
                        }
                        tracing::warn!(group = self.group, %error, "Kafka");
                        resting_until = Instant::now() + ERROR_PAUSE;
                    }
                },
                () = tokio::time::sleep_until(resting_until), if is_resting => {}
            }
        };
        self.commit(CommitMode::Async);
        outcome
    }

    fn take(&self, message: &BorrowedMessage<'_>) -> (Record, Ticket) {
        let bytes = |bytes: Option<&[u8]>| Bytes::copy_from_slice(bytes.unwrap_or_default());
        let record = Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
            key: bytes(message.key()),
            payload: bytes(message.payload()),
        };
        let ticket = self.windows.begin(&record.topic, record.partition, record.offset);
        (record, ticket)
    }

    fn fetch(&self, fetch: bool) {
        let changed = self.consumer.assignment().and_then(|all| match fetch {
            true => self.consumer.resume(&all),
            false => self.consumer.pause(&all),
        });
        if let Err(error) = changed {
            tracing::debug!(group = self.group, %error, fetch, "pausing or resuming");
        }
    }

    /// Commits what is done.
    pub(super) fn commit(&self, mode: CommitMode) {
        let Ok(offsets) = list(&self.windows.advance()) else { return };
        if offsets.count() > 0
            && let Err(error) = self.consumer.commit(&offsets, mode)
        {
            tracing::debug!(group = self.group, %error, "committing");
        }
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error means that the executor is gone altogether.
    stop.wait_for(|stop| *stop).await.ok();
}
