//! A broker that is not there, goes away or lacks the dead-letter topic: the server waits, says so, and loses nothing.

use anyhow::ensure;
use forebay_tests::{Bed, Broker, Record, Status, event_now, eventually, heavy};

fn point(key: &[u8], ts: i64) -> Record {
    Record::new("points", key, format!(r#"{{"ts":{ts}}}"#))
}

#[tokio::test]
async fn bad_31_broker_down_at_start() {
    let _permit = heavy().await;
    let mut broker = Broker::start("down_at_start").await;
    let (config, kafka, namespace, definitions) =
        Bed::new("bad_31_start").kafka(broker.kafka()).prepare().await;
    broker.stop().await;
    let server = config.start().await;
    let client = server.connect().await;
    eventually("/readyz says why", || async {
        let (code, body) = server.http_get("/readyz").await?;
        ensure!(code == 503 && body.contains("main"), "{code} {body}");
        Ok(())
    })
    .await;
    assert_eq!(server.http_get("/healthz").await.expect("it answers").0, 200);
    let bed = Bed { kafka, namespace, definitions, server, client, partitions: 2 };
    assert_eq!(bed.get("points", b"k").await.status, Status::Unavailable);
    broker.start_again().await;
    bed.server.wait_ready().await;
    bed.put(point(b"k", event_now())).await;
    assert_eq!(bed.get("points", b"k").await.status, Status::Present);
}

#[tokio::test]
async fn bad_31_broker_down_mid_batch_and_at_commit() {
    let _permit = heavy().await;
    let mut broker = Broker::start("down_mid_batch").await;
    let mut bed = Bed::new("bad_31_batch").kafka(broker.kafka()).start().await;
    let now = event_now();
    let some = |round: i64| {
        (0..2000).map(move |i| point(format!("k{}", i % 100).as_bytes(), now + round * 1000 + i))
    };
    bed.send_all(some(0)).await;
    broker.stop().await;
    assert_eq!(bed.server.http_get("/healthz").await.expect("it answers").0, 200);
    let row = bed.get("points", b"k1").await;
    assert!(matches!(row.status, Status::Present | Status::NotFound), "reads go on: {row:?}");
    broker.start_again().await;
    bed.send_all(some(1)).await;
    bed.settled().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
    // And at commit: a stop without a broker ends all the same, and nothing is lost.
    broker.stop().await;
    assert_eq!(bed.server.terminate().await, 0, "{}", bed.server.log());
    broker.start_again().await;
    bed.send_all(some(2)).await;
    bed.restart().await;
    bed.settled().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn bad_33_dead_letter_topic_missing_and_then_there() {
    let mut bed = Bed::new("bad_33").without_dead_letter_topics().start().await;
    let keys = [bed.entity_on(0), bed.entity_on(0)];
    bed.put(point(&keys[0], event_now())).await;
    let bad = bed.send(Record::new("points", &keys[0], "nope")).await;
    let behind = bed.send(point(&keys[1], event_now())).await;
    let waits = async |bed: &Bed| {
        eventually("the status says what it waits for", || async {
            let status = bed.client.status().await?;
            let shard = status.lanes[0].shards.iter().find(|shard| shard.partition == bad.partition);
            let reason = shard.map(|shard| shard.reason.clone()).unwrap_or_default();
            ensure!(reason.contains(&bed.topic("dlq")), "{status:?}");
            Ok(())
        })
        .await;
    };
    waits(&bed).await;
    assert_eq!(bed.get("points", &keys[0]).await.status, Status::Present, "reads go on");
    // A crash while it waits must not pass the bad record over.
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    waits(&bed).await;
    bed.kafka.create_topics(&[&bed.topic("dlq")], 1).await;
    bed.server.wait_ready().await;
    bed.applied(std::slice::from_ref(&behind)).await;
    assert_eq!(bed.get("points", &keys[1]).await.place, Some(behind));
    let letter = bed.dead_letter(&bad).await;
    assert_eq!(letter.value.as_deref(), Some(&b"nope"[..]));
}

#[tokio::test]
async fn bad_33_a_letter_too_large_for_its_topic_waits_until_the_limit_is_raised() {
    let bed = Bed::new("bad_33_size").partitions(1).start().await;
    bed.kafka.alter_topic(&bed.topic("dlq"), &[("max.message.bytes", "1000")]).await;
    let noise: String = (0..4000).map(|_| rand::random_range('!'..='~')).collect();
    let bad = bed.send(Record::new("points", b"e", noise.as_str())).await;
    let behind = bed.send(point(b"behind", event_now())).await;
    eventually("the status says which limit it is", || async {
        let status = bed.client.status().await?;
        let reason = &status.lanes[0].shards[0].reason;
        ensure!(reason.contains("max.message.bytes") && reason.contains(&bed.topic("dlq")), "{status:?}");
        Ok(())
    })
    .await;
    bed.kafka.alter_topic(&bed.topic("dlq"), &[("max.message.bytes", "100000")]).await;
    bed.applied(std::slice::from_ref(&behind)).await;
    assert_eq!(bed.dead_letter(&bad).await.value.as_deref(), Some(noise.as_bytes()));
}
