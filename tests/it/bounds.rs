//! What a server takes and what it refuses when there is too much to do; and that it says by what it is bounded, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use forebay_client::{Client, ClientConfig, Query};
use forebay_tests::{Bed, Place, Record, Status, event_now, eventually, request, run, v1};
use serde_json::Value;

fn point(key: &[u8]) -> Record {
    Record::new("points", key, format!(r#"{{"ts":{},"i":7}}"#, event_now()))
}

/// A read that is answered when the next record of a partition is applied.
fn waiting_for(key: &[u8], after: &Place) -> v1::GetFeaturesRequest {
    let next = Place { offset: after.offset + 1, ..after.clone() };
    v1::GetFeaturesRequest { wait_for: Some([next].into_iter().collect()), ..request("points", &[key]) }
}

#[tokio::test]
async fn a_busy_server_refuses_with_a_hint_and_the_client_comes_back() {
    let bed = Bed::new("busy").config("[read]\nmax_in_flight = 2\ndefault_wait = \"1m\"\n").start().await;
    let key = bed.entity_on(0);
    let place = bed.put(point(&key)).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (mut store, request) = (bed.client.store.clone(), waiting_for(&key, &place));
            tokio::spawn(async move { store.get_features(request).await })
        })
        .collect();
    let metric = async |name: &str| bed.server.metric(name).await.context("it is there");
    eventually("two reads wait", || async {
        let in_flight = metric("forebay_reads_in_flight ").await?;
        ensure!(in_flight == 2.0, "{in_flight}");
        Ok(())
    })
    .await;
    let refused =
        bed.client.store.clone().get_features(request("points", &[&key])).await.expect_err("no room");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(refused.metadata().contains_key("grpc-retry-pushback-ms"), "{refused:?}");
    let mut config = ClientConfig::new([format!("http://{}", bed.server.grpc)]);
    config.retry.attempts = 10_000;
    config.retry.max_backoff = Duration::from_millis(20);
    config.deadline = Duration::from_secs(60);
    let client = Client::connect(config).await.expect("connects");
    let query = Query::new([key.clone()]).view("points", ["i"]).typed();
    let read = tokio::spawn(async move { client.get(query).await });
    eventually("the client was refused too", || async {
        let shed = metric("forebay_reads_shed_total{reason=\"in_flight\"}").await?;
        ensure!(shed >= 3.0, "{shed}");
        Ok(())
    })
    .await;
    bed.put(point(&key)).await;
    for waiting in waiting {
        waiting.await.expect("no panic").expect("what was taken in is answered");
    }
    let rows = read.await.expect("no panic").expect("an answer in the end");
    assert_eq!(rows.row(0).i64("points.i"), Some(7));
}

/// Settings by key, as `forebay status --explain --json` has them.
async fn explained(bed: &Bed) -> BTreeMap<String, Value> {
    let server = format!("http://{}", bed.server.grpc);
    let said = run(["--server", &server, "status", "--explain", "--json"]).await.ok().json();
    let settings = said["servers"][0]["settings"].as_array().expect("settings").clone();
    settings
        .into_iter()
        .map(|setting| (setting["key"].as_str().expect("a key").to_owned(), setting))
        .collect()
}

#[tokio::test]
async fn status_explains_every_setting_with_its_origin() {
    let definitions =
        forebay_tests::POINTS.replacen("name = \"main\"", "name = \"main\"\ndisk = \"1GiB\"\nnice = 3", 1);
    let bed = Bed::new("explain").definitions(&definitions).partitions(3);
    let bed = bed.config("[read]\nmax_in_flight = 77\n[storage]\nmemory = \"64MiB\"\n");
    let bed = bed.env("FOREBAY_READ_MAX_QUEUE", "250ms").start().await;
    let settings = explained(&bed).await;
    let told = |key: &str| {
        let setting = settings.get(key).unwrap_or_else(|| panic!("{key} is not told: {settings:#?}"));
        ["value", "origin", "reason"].map(|part| setting[part].as_str().expect("a text").to_owned())
    };
    assert_eq!(told("read.max_in_flight")[..2], ["77", "file"]);
    assert_eq!(told("read.max_queue"), ["250ms", "environment", "FOREBAY_READ_MAX_QUEUE"]);
    assert_eq!(told("ingest.batch_wait"), ["5ms", "default", ""]);
    assert_eq!(told("storage.memory")[..2], ["64MiB", "file"]);
    let [value, origin, reason] = told("read.max_unsent");
    assert_eq!(
        (value.as_str(), origin.as_str(), reason.as_str()),
        ("8MiB", "tuned", "an eighth of storage.memory")
    );
    let [_, origin, reason] = told("lane.main.threads");
    assert!(origin == "tuned" && reason.contains("shared by") && reason.contains("3 partitions"), "{reason}");
    assert_eq!(told("lane.main.disk")[..2], ["1GiB", "definitions"]);
    assert_eq!(told("lane.main.nice")[..2], ["3", "definitions"]);
    assert!(told("lane.main.fetch")[2].contains("an eighth of 64MiB"), "{:?}", told("lane.main.fetch"));
    let server = format!("http://{}", bed.server.grpc);
    let text = run(["--server", &server, "status", "--explain", "--lane", "main"]).await.ok().stdout;
    let line = text.lines().find(|line| line.starts_with("read.max_queue")).expect("a line");
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(cells, ["read.max_queue", "250ms", "environment", "FOREBAY_READ_MAX_QUEUE"]);
    let plain = run(["--server", &server, "status", "--json"]).await.ok().json();
    assert!(plain["servers"][0].get("settings").is_none(), "only if asked for");
}

/// Name and niceness of each thread of a process.
fn threads(pid: u32) -> Vec<(String, i32)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let thread = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        Some((name, after.split_whitespace().nth(16)?.parse().ok()?))
    };
    tasks.flatten().filter_map(thread).collect()
}

#[tokio::test]
async fn all_threads_of_a_lane_are_as_nice_as_it_says_and_those_of_reads_are_not() {
    let definitions =
        forebay_tests::POINTS.replacen("name = \"main\"", "name = \"main\"\nthreads = 5\nnice = 7", 1);
    let bed = Bed::new("nice").definitions(&definitions).start().await;
    let key = bed.entity_on(1);
    bed.put(point(&key)).await;
    assert_eq!(bed.get("points", &key).await.status, Status::Present);
    let ingest =
        |threads: &[(String, i32)]| threads.iter().filter(|of| of.0.starts_with("ingest-main")).count();
    eventually("two partitions, two threads: the others end", || async {
        let threads = threads(bed.server.pid());
        ensure!(ingest(&threads) == 2, "{threads:?}");
        Ok(())
    })
    .await;
    let threads = threads(bed.server.pid());
    let nice = |begins: &str| -> Vec<i32> {
        threads.iter().filter(|(name, _)| name.starts_with(begins)).map(|(_, nice)| *nice).collect()
    };
    assert_eq!(nice("ingest-main"), [7, 7], "two partitions, two threads: {threads:?}");
    assert!(nice("sync-main").iter().chain(&nice("watch-main")).all(|nice| *nice == 7), "{threads:?}");
    // librdkafka's own: its consumers are the lane's, the producer of pushes is not.
    assert!(nice("rdk:").contains(&7), "{threads:?}");
    assert!(!nice("grpc-").is_empty() && nice("grpc-").iter().all(|nice| *nice == 0), "{threads:?}");
    let told = explained(&bed).await;
    let reason = told["lane.main.threads"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("3 threads ended"), "{reason}");
}
