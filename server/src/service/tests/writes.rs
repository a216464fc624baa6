//! Pushes and deletions, as records on topics. librdkafka's own stand-in broker takes them; what the server makes of them
//! is for the black-box tests.

use std::time::{Duration, Instant};

use forebay_proto::v1::{DataPoint, DeleteFeaturesRequest, PushFeaturesRequest};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::{Offset, TopicPartitionList};

use super::super::{delete, push};
use super::*;

fn cluster() -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a stand-in");
    for topic in ["points", "shared"] {
        cluster.create_topic(topic, PARTITIONS as i32, 1).expect("a topic");
    }
    cluster
}

/// The record at a place.
fn record<'c>(consumer: &'c BaseConsumer, topic: &str, partition: u32, offset: i64) -> BorrowedMessage<'c> {
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, partition as i32, Offset::Offset(offset)).expect("a place");
    consumer.assign(&place).expect("assigned");
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => return message,
            Some(Err(error)) => eprintln!("{error}"),
            None => {}
        }
    }
    panic!("no record {topic}/{partition}@{offset} in time")
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "test").set("auto.offset.reset", "error");
    config.create().expect("settings are good")
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, String)> {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers.map(|header| (header.key.to_owned(), text(header.value))).collect()
}

fn pair(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_records_on_the_partitions_of_their_entities() {
    let cluster = cluster();
    let bed = Bed::with_producer(&cluster.bootstrap_servers());
    let point = |view: &str, json: String, event_time_ms, ttl_ms| DataPoint {
        entity: "e".into(),
        view: view.into(),
        json: json.into(),
        event_time_ms,
        ttl_ms,
    };
    let data_points = vec![
        point("points", format!("{{\"ts\":{NOW}}}"), None, None),
        point("headed", "{\"a\":1}".into(), Some(NOW - 1), Some(5000)),
        point("timed", "{\"b\":2}".into(), Some(NOW - 2), None),
        point("points", format!("{{\"ts\":{}}}", NOW - 5), None, None),
    ];
    let request = PushFeaturesRequest { data_points };
    let response = push::push(&bed.context, request, Deadline::after_ms(20_000)).await.unwrap();
    let partition = Bed::partition("e");
    let places: Vec<_> = response
        .data_points
        .iter()
        .map(|place| (place.topic.as_str(), place.partition, place.offset))
        .collect();
    assert_eq!(
        places,
        [
            ("points", partition, 0),
            ("shared", partition, 0),
            ("shared", partition, 1),
            ("points", partition, 1)
        ]
    );
    let [mut points, shared] = [vector("points", partition, 1), vector("shared", partition, 1)];
    points.topics.extend(shared.topics);
    assert_eq!(response.positions, Some(points));

    let consumer = consumer(&cluster.bootstrap_servers());
    let headed = record(&consumer, "shared", partition, 0);
    assert_eq!((headed.key(), headed.payload()), (Some(&b"e"[..]), Some(&b"{\"a\":1}"[..])));
    let expected = [pair("forebay-view", "headed"), pair("x-time", NOW - 1), pair("forebay-ttl-ms", 5000)];
    assert_eq!(headers(&headed), expected);
    let timed = record(&consumer, "shared", partition, 1);
    assert_eq!(timed.timestamp().to_millis(), Some(NOW - 2));
    assert_eq!(headers(&timed), [pair("forebay-view", "timed")]);
    assert_eq!(headers(&record(&consumer, "points", partition, 0)), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_not_older_than_what_it_deletes() {
    let cluster = cluster();
    let mut bed = Bed::with_producer(&cluster.bootstrap_servers());
    bed.put("e", NOW + 1000, "{}");
    let ask = |event_time_ms| DeleteFeaturesRequest {
        entities: of(&["e"]).entities,
        views: vec!["points".into(), "timed".into()],
        event_time_ms,
    };
    let partition = Bed::partition("e");
    let consumer = consumer(&cluster.bootstrap_servers());
    for (offset, asked, points_time, timed_time) in
        [(0, None, NOW + 1000, NOW), (1, Some(NOW - 7), NOW - 7, NOW - 7)]
    {
        let response = delete::delete(&bed.context, ask(asked), Deadline::after_ms(20_000)).await.unwrap();
        assert_eq!(response.positions.unwrap().topics.len(), 2);
        let points = record(&consumer, "points", partition, offset);
        assert_eq!((points.key(), points.payload()), (Some(&b"e"[..]), None));
        assert_eq!(headers(&points), [pair("forebay-event-time", points_time)]);
        let timed = record(&consumer, "shared", partition, offset);
        assert_eq!(headers(&timed), [pair("forebay-event-time", timed_time), pair("forebay-view", "timed")]);
    }
}

#[tokio::test]
async fn a_push_that_kafka_does_not_take_in_time_says_so() {
    let bed = Bed::new();
    let data_points = vec![DataPoint {
        entity: "e".into(),
        view: "points".into(),
        json: format!("{{\"ts\":{NOW}}}").into(),
        ..DataPoint::default()
    }];
    let request = PushFeaturesRequest { data_points };
    let status = push::push(&bed.context, request, Deadline::after_ms(50)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(status.message().contains("may still be written"), "{}", status.message());
}
