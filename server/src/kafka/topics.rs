//! What the broker says of a lane's topics: their ids and partition counts, and how far their logs reach. Asked at start,
//! at each assignment and now and then between. Knows nothing of shards.

use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{ClientLog, Consumer, ffi};

/// Asks brokers about topics; shared by the threads of a lane.
pub struct TopicAdmin {
    consumer: Consumer,
}

/// One topic as the broker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// The log's own id; zeros if the broker knows none.
    pub id: [u8; 16],
    /// Partitions.
    pub partitions: u32,
}

/// Why the topics could not be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// The topic is not there; it may be later.
    #[error("topic {0} does not exist; create it")]
    Missing(String),
    /// The broker did not answer, or refused; it may later.
    #[error("{0}")]
    Unreachable(String),
}

impl TopicAdmin {
    /// A client of its own; fails only if a setting is wrong.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        Ok(TopicAdmin { consumer: config.create_with_context(ClientLog)? })
    }

    /// Ids and partition counts of `names`, in their order.
    pub fn describe(&self, names: &[&str], timeout: Duration) -> Result<Vec<TopicFacts>, DescribeError> {
        // Errors of this client are of no interest to anyone, and would pile up on its queue.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        // Any broker knows; librdkafka would ask the controller, which a stand-in for Kafka does not have.
        let broker = names.first().and_then(|name| self.any_broker(name, timeout));
        let described = ffi::describe(&self.consumer, broker, names, timeout);
        let described = described.map_err(|text| {
            DescribeError::Unreachable(format!("Kafka does not describe the topics: {text}"))
        })?;
        let find = |name: &&str| {
            let found = described.iter().find(|topic| topic.name == **name);
            found.map(facts).unwrap_or_else(|| Err(DescribeError::Missing((*name).into())))
        };
        names.iter().map(find).collect()
    }

    fn any_broker(&self, topic: &str, timeout: Duration) -> Option<i32> {
        let metadata = self.consumer.fetch_metadata(Some(topic), timeout).ok()?;
        metadata.brokers().first().map(|broker| broker.id())
    }

    /// The offset that the client's group has of a partition, none if it has none. An offset whose transaction is not
    /// decided is waited for.
    pub fn committed(
        &self,
        topic: &str,
        partition: u32,
        timeout: Duration,
    ) -> Result<Option<i64>, DescribeError> {
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition(topic, partition as i32);
        let unreachable = |error: &dyn std::fmt::Display| {
            DescribeError::Unreachable(format!(
                "Kafka does not give the group's offset of {topic}/{partition}: {error}"
            ))
        };
        let found = self.consumer.committed_offsets(wanted, timeout).map_err(|error| unreachable(&error))?;
        let found = found.elements();
        let Some(element) = found.first() else { return Ok(None) };
        element.error().map_err(|error| unreachable(&error))?;
        match element.offset() {
            Offset::Offset(next) => Ok(Some(next)),
            _ => Ok(None),
        }
    }

    /// The first offset whose record is not older than a Kafka timestamp, none if there is no such record.
    pub fn offset_at(
        &self,
        topic: &str,
        partition: u32,
        timestamp_ms: i64,
        timeout: Duration,
    ) -> Result<Option<i64>, DescribeError> {
        let unreachable = |error: &dyn std::fmt::Display| {
            DescribeError::Unreachable(format!(
                "Kafka does not say where {topic}/{partition} is at {timestamp_ms} ms: {error}"
            ))
        };
        let mut wanted = TopicPartitionList::new();
        let asked = wanted.add_partition_offset(topic, partition as i32, Offset::Offset(timestamp_ms.max(0)));
        asked.map_err(|error| unreachable(&error))?;
        let found = self.consumer.offsets_for_times(wanted, timeout).map_err(|error| unreachable(&error))?;
        match found.elements().first().map(rdkafka::topic_partition_list::TopicPartitionListElem::offset) {
            Some(Offset::Offset(offset)) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }

    /// First offset of a partition's log and the offset its next record will have (of committed ones).
    pub fn bounds(
        &self,
        topic: &str,
        partition: u32,
        timeout: Duration,
    ) -> Result<(i64, i64), DescribeError> {
        self.consumer.fetch_watermarks(topic, partition as i32, timeout).map_err(|error| {
            DescribeError::Unreachable(format!(
                "Kafka does not give the ends of {topic}/{partition}: {error}"
            ))
        })
    }
}

fn facts(topic: &ffi::Described) -> Result<TopicFacts, DescribeError> {
    let name = topic.name.clone();
    match &topic.found {
        Ok((id, partitions @ 1..)) => Ok(TopicFacts { name, id: *id, partitions: *partitions }),
        Ok(_) | Err((RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, _)) => {
            Err(DescribeError::Missing(name))
        }
        Err((_, text)) => {
            Err(DescribeError::Unreachable(format!("Kafka does not describe topic {name}: {text}")))
        }
    }
}
