//! One request as it stands in the topic, and its answer as it will stand in another. What a request says is `rest::ask`'s,
//! what an answer says `rest::values`'s.

use std::time::Duration;

use bytes::Bytes;
use forebay_proto::v1::{GetFeaturesRequest, GetFeaturesResponse, RequestError};
use prost::Message as _;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _, OwnedHeaders};
use tonic::{Code, Status};

use crate::rest::ask::{Ask, Shape};
use crate::rest::{failure, values};

/// Names the request in its answer.
pub(super) const CORRELATION: &str = "correlation-id";

/// Names the topic of the answer.
const REPLY_TOPIC: &str = "reply-topic";

/// The gRPC code's name in an answer.
pub(super) const STATUS: &str = "forebay-status";

/// A record of the requests topic.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub payload: Option<Bytes>,
    pub headers: Option<OwnedHeaders>,
}

/// A request that can be answered.
#[derive(Debug)]
pub(super) struct Job {
    pub record: Record,
    pub reply_topic: String,
    pub correlation: Option<Bytes>,
    pub shape: Shape,
    /// What is asked, or why that cannot be asked.
    pub asked: Result<GetFeaturesRequest, Status>,
    pub timeout: Option<Duration>,
}

/// Why a record is put aside: a word for programs, words for people.
pub(super) type Poison = (&'static str, String);

impl Record {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Record {
        Record {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(Bytes::copy_from_slice),
            payload: message.payload().map(Bytes::copy_from_slice),
            headers: message.headers().map(|headers| headers.detach()),
        }
    }

    fn header(&self, name: &str) -> Option<Bytes> {
        let found = self.headers.as_ref()?.iter().find(|header| header.key == name)?;
        found.value.map(Bytes::copy_from_slice)
    }
}

impl Job {
    /// Reads a record. What has a topic for its answer is answered, be it with an error; the rest is poison.
    pub(super) fn read(record: Record) -> Result<Job, Box<(Record, Poison)>> {
        match Job::parts(&record) {
            Ok((ask, reply_topic)) => Ok(Job {
                correlation: record.header(CORRELATION).or(ask.id.clone().map(Bytes::from)),
                asked: ask.message(),
                shape: ask.format,
                timeout: ask.timeout_ms.map(|ms| Duration::from_millis(ms.into())),
                record,
                reply_topic,
            }),
            Err(poison) => Err(Box::new((record, poison))),
        }
    }

    /// What is asked, and the topic of the answer.
    fn parts(record: &Record) -> Result<(Ask, String), Poison> {
        let payload = record.payload.as_deref().unwrap_or_default();
        let ask: Ask = serde_json::from_slice(payload)
            .map_err(|error| ("malformed_request", format!("value: {error}")))?;
        let no_topic = |why: String| ("no_reply_topic", why);
        let header = record.header(REPLY_TOPIC).map(|name| String::from_utf8(name.to_vec()));
        let header =
            header.transpose().map_err(|_| no_topic(format!("header {REPLY_TOPIC} is not UTF-8")))?;
        let topic = header.or(ask.reply_topic.clone()).ok_or_else(|| {
            no_topic(format!("neither header {REPLY_TOPIC} nor reply_topic names a topic for the answer"))
        })?;
        match is_topic(&topic) {
            true => Ok((ask, topic)),
            false => Err(no_topic(format!("{topic:?} cannot be a Kafka topic"))),
        }
    }

    /// The answer's value and the name of its code.
    pub(super) fn value(&self, answer: &Result<GetFeaturesResponse, Status>) -> (Vec<u8>, &'static str) {
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        let value = match (answer, self.shape, &self.asked) {
            (Ok(answer), Shape::Proto, _) => answer.encode_to_vec(),
            (Ok(answer), _, Ok(asked)) => values::features(&asked.entities, answer),
            (Ok(_), _, Err(status)) => failure::error_json(status),
            (Err(status), Shape::Proto, _) => {
                RequestError { code: code as i32, message: status.message().to_owned(), retry_after_ms: 0 }
                    .encode_to_vec()
            }
            (Err(status), ..) => failure::error_json(status),
        };
        (value, failure::name(code))
    }
}

fn is_topic(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.len() <= 249 && ![".", ".."].contains(&name) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Header;

    use super::*;

    fn record(payload: &str, headers: &[(&str, &str)]) -> Record {
        let all = OwnedHeaders::new();
        let headers =
            headers.iter().fold(all, |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        Record {
            partition: 0,
            offset: 7,
            timestamp_ms: 1,
            key: Some("k".into()),
            payload: Some(payload.to_owned().into()),
            headers: Some(headers),
        }
    }

    #[test]
    fn headers_go_before_what_the_value_says() {
        let body = r#"{"id": "a", "entity": "k", "views": ["v"], "reply_topic": "t", "timeout_ms": 50}"#;
        let job = Job::read(record(body, &[])).expect("a request");
        assert_eq!((job.reply_topic.as_str(), job.correlation.as_deref()), ("t", Some(b"a".as_slice())));
        assert_eq!(job.timeout, Some(Duration::from_millis(50)));
        let job =
            Job::read(record(body, &[("reply-topic", "u"), ("correlation-id", "b")])).expect("a request");
        assert_eq!((job.reply_topic.as_str(), job.correlation.as_deref()), ("u", Some(b"b".as_slice())));
    }

    #[test]
    fn what_cannot_be_answered_is_poison_and_the_rest_is_answered() {
        for (body, headers, reason) in [
            ("", &[][..], "malformed_request"),
            ("[", &[("reply-topic", "t")], "malformed_request"),
            (r#"{"entity": "k", "vews": []}"#, &[("reply-topic", "t")], "malformed_request"),
            (r#"{"entity": "k", "views": ["v"]}"#, &[], "no_reply_topic"),
            (r#"{"entity": "k", "views": ["v"], "reply_topic": "a b"}"#, &[], "no_reply_topic"),
        ] {
            let (_, (found, why)) = *Job::read(record(body, headers)).expect_err(body);
            assert_eq!(found, reason, "{body}: {why}");
        }
        let job = Job::read(record(r#"{"entity": "base64:?", "views": []}"#, &[("reply-topic", "t")]))
            .expect("one");
        let (value, status) = job.value(&Err(job.asked.clone().expect_err("not base64")));
        assert_eq!(status, "INVALID_ARGUMENT");
        assert!(String::from_utf8_lossy(&value).contains("not base64"));
    }
}
