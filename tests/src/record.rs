//! Records as tests make and find them: what is produced, where it landed, what was read back. Knows the names of Forebay's
//! record headers and nothing of connections.

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use crate::v1;

/// A record to produce: built by what differs from a plain one.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Topic; a `Bed` puts its namespace before it.
    pub topic: String,
    /// Kafka key: the entity id.
    pub key: Option<Vec<u8>>,
    /// Payload; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Name and value, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Kafka timestamp in ms; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// `None`: where murmur2 of the key says.
    pub partition: Option<i32>,
}

/// Where a record landed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Full topic name.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Offset.
    pub offset: i64,
}

/// A record read back.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// Where it is.
    pub place: Place,
    /// Kafka key.
    pub key: Option<Vec<u8>>,
    /// Payload.
    pub value: Option<Vec<u8>>,
    /// In order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Kafka timestamp in ms.
    pub timestamp_ms: i64,
}

impl Consumed {
    /// A copy of a message.
    pub fn of(message: &BorrowedMessage<'_>) -> Consumed {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Consumed {
            place: Place {
                topic: message.topic().into(),
                partition: message.partition() as u32,
                offset: message.offset(),
            },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        }
    }
}

impl Record {
    /// A data point with its Kafka timestamp of now.
    pub fn new(topic: &str, key: &[u8], value: impl Into<Vec<u8>>) -> Self {
        Record {
            topic: topic.into(),
            key: Some(key.to_vec()),
            value: Some(value.into()),
            ..Record::default()
        }
    }

    /// A record with a null value.
    pub fn tombstone(topic: &str, key: &[u8]) -> Self {
        Record { topic: topic.into(), key: Some(key.to_vec()), ..Record::default() }
    }

    /// The same without a key.
    pub fn keyless(mut self) -> Self {
        self.key = None;
        self
    }

    /// The same with one header more.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// The same with this Kafka timestamp.
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The same on this partition whatever its key says.
    pub fn on(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    pub(crate) fn owned_headers(&self) -> OwnedHeaders {
        self.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        })
    }
}

impl Consumed {
    /// The last header of this name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().rev().find(|(key, _)| key == name)?;
        found.1.as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Of a dead letter: where the record was, from its headers.
    pub(crate) fn original(&self) -> Option<Place> {
        Some(Place {
            topic: self.header("forebay-dlq-topic")?,
            partition: self.header("forebay-dlq-partition")?.parse().ok()?,
            offset: self.header("forebay-dlq-offset")?.parse().ok()?,
        })
    }
}

/// An offset vector that includes these records and everything before them.
impl FromIterator<Place> for v1::OffsetVector {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Self {
        let mut last: std::collections::BTreeMap<String, std::collections::BTreeMap<u32, i64>> =
            Default::default();
        for place in places {
            let at = last.entry(place.topic).or_default().entry(place.partition).or_insert(place.offset);
            *at = place.offset.max(*at);
        }
        let columns = |(topic, offsets): (String, std::collections::BTreeMap<u32, i64>)| v1::TopicOffsets {
            topic,
            partitions: offsets.keys().copied().collect(),
            offsets: offsets.values().copied().collect(),
        };
        v1::OffsetVector { topics: last.into_iter().map(columns).collect() }
    }
}
