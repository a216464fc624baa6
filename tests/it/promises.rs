//! Promises about the log and what follows from it: replay changes nothing, a lost, recreated or repartitioned log is never
//! passed over in silence. Others of the catalogue are with their subject.

use std::path::Path;

use anyhow::ensure;
use forebay_tests::{Bed, Record, Status, event_now, eventually, halted, request, v1};
use rand::{Rng, SeedableRng, rngs::StdRng};

fn at(ts: i64) -> String {
    format!(r#"{{"ts":{ts}}}"#)
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        match entry.file_type().expect("a type").is_dir() {
            true => copy_dir(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied")),
        }
    }
}

/// Random points of few keys, late ones, ties, tombstones and bad ones among them.
async fn send_some(bed: &Bed, random: &mut StdRng, count: usize) {
    let now = event_now();
    let record = |_| {
        let key = format!("k{}", random.random_range(0..40)).into_bytes();
        let ts = now - random.random_range(0..50) * 100;
        match random.random_range(0..12) {
            0 => Record::tombstone("points", &key).header("forebay-event-time", ts.to_string()),
            1 => Record::new("points", &key, "not json"),
            2 => Record::new("points", &key, at(now - 30 * 86_400_000)),
            _ => Record::new("points", &key, format!(r#"{{"ts":{ts},"i":{}}}"#, random.random::<u16>())),
        }
    };
    bed.send_all((0..count).map(record).collect::<Vec<_>>()).await;
}

/// Everything a read can tell: the latest and the history of every key.
async fn everything(bed: &Bed) -> Vec<forebay_tests::Row> {
    let keys: Vec<Vec<u8>> = (0..40).map(|i| format!("k{i}").into_bytes()).collect();
    let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut rows = bed.rows(request("points", &names)).await;
    for key in keys {
        let asked = v1::GetHistoryRequest { entity: key.into(), view: "points".into(), ..Default::default() };
        rows.extend(bed.history(asked).await);
    }
    rows
}

#[tokio::test]
async fn p08_replay_of_any_suffix_changes_nothing() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut bed = Bed::new("p08").start().await;
    let data = bed.server.config.dir.join("data");
    let mut copies = Vec::new();
    for i in 0..3 {
        send_some(&bed, &mut random, 200).await;
        bed.settled().await;
        // A copy of a stopped server's files is an older state; a killed one's is too.
        match i {
            1 => bed.server.kill9(),
            _ => assert_eq!(bed.server.terminate().await, 0),
        }
        let copy = bed.server.config.dir.join(format!("copy{i}"));
        copy_dir(&data, &copy);
        copies.push(copy);
        bed.restart().await;
    }
    send_some(&bed, &mut random, 200).await;
    bed.settled().await;
    let expected = everything(&bed).await;
    let model = bed.model().await;
    assert_eq!(bed.differences(&model).await, Vec::<String>::new(), "seed {seed}");
    let empty = bed.server.config.dir.join("nothing");
    std::fs::create_dir_all(&empty).expect("a directory");
    for older in copies.iter().chain([&empty]) {
        bed.server.kill9();
        std::fs::remove_dir_all(&data).expect("removed");
        copy_dir(older, &data);
        bed.restart().await;
        bed.settled().await;
        assert_eq!(everything(&bed).await, expected, "seed {seed}: replayed from {older:?}");
    }
    bed.dead_letters_agree(&model).await;
}

#[tokio::test]
async fn p14_a_lost_log_is_never_skipped_silently() {
    let mut bed = Bed::new("p14_lost").partitions(1).start().await;
    bed.send_all((0..5).map(|i| Record::new("points", b"k", at(event_now() + i)))).await;
    bed.settled().await;
    bed.server.terminate().await;
    bed.send_all((0..10).map(|i| Record::new("points", b"k", at(event_now() + i)))).await;
    bed.kafka.delete_records(&bed.topic("points"), 0, 9).await;
    for _ in 0..2 {
        bed.server.restart().await;
        bed.client = bed.server.connect().await;
        let reason = halted(&bed.client, "main", 0).await;
        assert!(reason.contains('5') && reason.contains('9'), "what it needs and what there is: {reason}");
        assert_eq!(bed.get("points", b"k").await.status, Status::Unavailable, "a restart does not help");
        let (code, body) = bed.server.http_get("/readyz").await.expect("it answers");
        assert!(code == 503 && body.contains(&bed.topic("points")), "{code} {body}");
        assert_eq!(
            bed.server.http_get("/healthz").await.expect("it answers").0,
            200,
            "it is alive all the same"
        );
    }
}

#[tokio::test]
async fn p14_a_recreated_log_is_never_taken_for_the_old_one() {
    let bed = Bed::new("p14_recreated").partitions(1).start().await;
    bed.send_all((0..5).map(|i| Record::new("points", b"k", at(event_now() + i)))).await;
    bed.settled().await;
    // While the server runs, and longer than the old one was: offsets alone would not tell.
    let topic = bed.topic("points");
    bed.kafka.delete_topics(&[&topic]).await;
    bed.create_again(&topic, 1).await;
    bed.send_all((0..20).map(|i| Record::new("points", b"new", at(event_now() + i)))).await;
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains(&topic), "{reason}");
    let row = bed.get("points", b"new").await;
    assert_eq!(row.status, Status::Unavailable, "nothing of the new log is mixed into the old: {row:?}");
}

#[tokio::test]
async fn p14_a_truncated_log_is_never_taken_for_the_old_one() {
    // The log was recreated while the server was down, and is shorter than what was applied.
    let mut bed = Bed::new("p14_shorter").partitions(1).start().await;
    bed.send_all((0..20).map(|i| Record::new("points", b"k", at(event_now() + i)))).await;
    bed.settled().await;
    bed.server.kill9();
    let topic = bed.topic("points");
    bed.kafka.delete_topics(&[&topic]).await;
    bed.create_again(&topic, 1).await;
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains(&topic), "{reason}");
}

#[tokio::test]
async fn p17_added_partitions_never_reroute_silently() {
    let mut bed = Bed::new("p17").start().await;
    let topic = bed.topic("points");
    let keys: Vec<String> = (0..60).map(|i| format!("k{i}")).collect();
    let point = |key: &String| Record::new("points", key.as_bytes(), at(event_now()));
    bed.send_all(keys.iter().map(point)).await;
    bed.settled().await;
    // Under load: producers learn of the new partitions while the server does.
    bed.kafka.add_partitions(&topic, 4).await;
    eventually("keys move to new partitions", || async {
        let places = bed.send_all(keys.iter().map(point)).await;
        ensure!(places.iter().any(|place| place.partition >= 2), "none yet");
        Ok(())
    })
    .await;
    for restarted in [false, true] {
        if restarted {
            bed.server.restart().await;
            bed.client = bed.server.connect().await;
        }
        for partition in 0..2 {
            let reason = halted(&bed.client, "main", partition).await;
            assert!(
                reason.contains('2') && reason.contains('4') && reason.contains("partitions"),
                "{reason}"
            );
        }
        let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let rows = bed.rows(request("points", &names)).await;
        assert!(
            rows.iter().all(|row| row.status == Status::Unavailable),
            "old values are not passed for current: {rows:?}"
        );
    }
    let (code, body) = bed.server.http_get("/readyz").await.expect("it answers");
    assert!(code == 503 && body.contains("partitions"), "{code} {body}");
}
