//! Topics that are not a plain run of records: aborted transactions, compacted gaps, topics deleted, recreated or given
//! more partitions, records that retention removed before they were read.

use anyhow::ensure;
use forebay_tests::{Bed, Record, Status, event_now, eventually, halted, request};

fn at(ts: i64) -> String {
    format!(r#"{{"ts":{ts}}}"#)
}

#[tokio::test]
async fn bad_26_an_aborted_transaction_was_never_there() {
    let mut bed = Bed::new("bad_26").start().await;
    let ts = event_now();
    let records = |text: &str| -> Vec<Record> {
        let record = |i| bed.own(Record::new("points", format!("{text}{i}").as_bytes(), at(ts)));
        (0..20).map(record).collect()
    };
    bed.kafka.send_transaction(&records("aborted"), false).await;
    bed.kafka.send_transaction(&records("committed"), true).await;
    bed.kafka.send_transaction(&records("aborted"), false).await;
    let model = bed.model().await;
    assert_eq!(model.versions.len(), 20);
    eventually("the committed ones are readable", || async {
        let found = bed.differences(&model).await;
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    })
    .await;
    assert_eq!(bed.get("points", b"aborted0").await.status, Status::NotFound);
    // Markers at the end of a partition are no data point: the shard is caught up all the same.
    bed.restart().await;
    assert_eq!(bed.differences(&model).await, Vec::<String>::new());
    let status = bed.client.status().await.expect("status");
    let topics = status.lanes[0].shards.iter().flat_map(|shard| &shard.topics);
    assert!(topics.clone().all(|topic| topic.lag_offsets == 0), "{:?}", topics.collect::<Vec<_>>());
}

#[tokio::test]
async fn bad_27_gaps_of_a_compacted_topic_are_passed() {
    let (config, kafka, namespace, definitions) = Bed::new("bad_27").partitions(1).prepare().await;
    let topic = format!("{namespace}.points");
    kafka.alter_broker(&[("log.cleaner.backoff.ms", "200")]).await;
    let compact = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.message.bytes", "8000000"),
    ];
    kafka.alter_topic(&topic, &compact).await;
    let ts = event_now();
    let point = |i: i64| Record::new(&topic, format!("k{}", i % 5).as_bytes(), at(ts + i));
    let records: Vec<_> = (0..100).map(point).collect();
    kafka.send_all(&records).await;
    let mut next = 100;
    eventually("the topic has gaps", || {
        next += 1;
        let (kafka, topic, record) = (kafka.clone(), topic.clone(), point(next));
        async move {
            // A segment is rolled, and then cleaned, when a record comes after it.
            kafka.send(&record).await;
            let left = kafka.read_topic(&topic).await.len();
            ensure!((left as i64) < kafka.end_offsets(&topic).await[0] - 50, "{left} left");
            Ok(())
        }
    })
    .await;
    let server = config.start().await;
    server.wait_ready().await;
    let client = server.connect().await;
    let bed = Bed { kafka, namespace, definitions, server, client, partitions: 1 };
    bed.settled().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn bad_29_a_deleted_topic_halts_its_lane() {
    let bed = Bed::new("bad_29_deleted").start().await;
    bed.put(Record::new("points", b"k", at(event_now()))).await;
    bed.kafka.delete_topics(&[&bed.topic("points")]).await;
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains(&bed.topic("points")), "{reason}");
    let answer = bed.features(request("points", &[b"k"])).await;
    assert_eq!(answer.views[0].status, [Status::Unavailable as i32]);
    assert!(answer.unavailable[0].reason.contains(&bed.topic("points")), "{answer:?}");
}

#[tokio::test]
async fn bad_29_a_recreated_topic_is_another_log() {
    let mut bed = Bed::new("bad_29_recreated").start().await;
    bed.put(Record::new("points", b"k", at(event_now()))).await;
    bed.server.terminate().await;
    let topic = bed.topic("points");
    bed.kafka.delete_topics(&[&topic]).await;
    bed.create_again(&topic, 2).await;
    bed.send(Record::new("points", b"k", at(event_now()))).await;
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    for partition in 0..2 {
        let reason = halted(&bed.client, "main", partition).await;
        assert!(reason.contains(&topic) && reason.contains("recreated"), "{reason}");
    }
    let (code, body) = bed.server.http_get("/readyz").await.expect("it answers");
    assert!(code == 503 && body.contains("recreated"), "{code} {body}");
}

#[tokio::test]
async fn bad_29_more_partitions_halt_the_lane() {
    let bed = Bed::new("bad_29_more").start().await;
    bed.put(Record::new("points", b"k", at(event_now()))).await;
    bed.kafka.add_partitions(&bed.topic("points"), 3).await;
    for partition in 0..2 {
        let reason = halted(&bed.client, "main", partition).await;
        assert!(reason.contains("partition") && reason.contains('3'), "{reason}");
    }
}

#[tokio::test]
async fn bad_29_topics_of_a_lane_with_different_partition_counts_are_refused() {
    let two = forebay_tests::POINTS.replacen(
        "[[lane.topic]]",
        "[[lane.topic]]\nname = \"{ns}.more\"\n[[lane.topic]]",
        1,
    );
    let (config, kafka, namespace, _) = Bed::new("bad_29_uneven").definitions(&two).prepare().await;
    kafka.add_partitions(&format!("{namespace}.more"), 4).await;
    let server = config.start().await;
    eventually("/readyz says why", || async {
        let (code, body) = server.http_get("/readyz").await?;
        ensure!(code == 503 && body.contains("partitions") && body.contains(".more"), "{code} {body}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn bad_30_what_retention_removed_is_not_skipped() {
    let mut bed = Bed::new("bad_30").start().await;
    let keys = [bed.entity_on(0), bed.entity_on(1)];
    for key in &keys {
        bed.put(Record::new("points", key, at(event_now()))).await;
    }
    bed.server.terminate().await;
    for _ in 0..10 {
        bed.send(Record::new("points", &keys[0], at(event_now()))).await;
    }
    bed.kafka.delete_records(&bed.topic("points"), 0, 6).await;
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains(&bed.topic("points")) && reason.contains('6'), "which offsets: {reason}");
    assert_eq!(bed.get("points", &keys[0]).await.status, Status::Unavailable);
    eventually("the other shard serves", || async {
        let row = bed.get("points", &keys[1]).await;
        ensure!(row.status == Status::Present, "{row:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn bad_30_a_new_shard_begins_where_the_log_begins() {
    let (config, kafka, namespace, definitions) = Bed::new("bad_30_new").partitions(1).prepare().await;
    let topic = format!("{namespace}.points");
    for i in 0..10 {
        kafka.send(&Record::new(&topic, format!("k{i}").as_bytes(), at(event_now()))).await;
    }
    kafka.delete_records(&topic, 0, 6).await;
    let server = config.start().await;
    server.wait_ready().await;
    let client = server.connect().await;
    let bed = Bed { kafka, namespace, definitions, server, client, partitions: 1 };
    let model = bed.model().await;
    assert_eq!(model.versions.len(), 4);
    assert_eq!(bed.differences(&model).await, Vec::<String>::new());
}

#[tokio::test]
async fn p14_what_came_and_went_while_the_server_was_down_is_missed_even_by_an_empty_shard() {
    let mut bed = Bed::new("p14_empty").partitions(1).start().await;
    bed.server.terminate().await;
    for i in 0..10 {
        bed.send(Record::new("points", format!("k{i}").as_bytes(), at(event_now()))).await;
    }
    bed.kafka.delete_records(&bed.topic("points"), 0, 6).await;
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains("offset 0 of") && reason.contains("starts at 6"), "which offsets: {reason}");
}
