//! Crashes: `kill -9` at random moments of ingest loses nothing. A large run of the simulated mix against the model, and
//! the proof that the same run finds a server that does lose something.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use forebay_tests::{
    Bed, Definitions, Model, Server, Why, build_binary, differences, eventually, eventually_within, heavy,
    run,
};
use rand::Rng;

/// A crash run: how much is produced, how often the server is killed, and which server it is.
struct Crash {
    name: &'static str,
    points: u64,
    kills: usize,
    planted: Option<&'static str>,
}

const PARTITIONS: i32 = 8;

/// The mix's definitions with `{ns}` before topic names.
async fn mix_definitions() -> String {
    run(["produce", "--print-definitions", "--topic-prefix", "{ns}."]).await.ok().stdout
}

/// Offsets applied over all shards; what is not there counts nothing.
async fn applied(server: &Server) -> anyhow::Result<u64> {
    let status = server.connect().await.status().await?;
    let shards = status.lanes.iter().flat_map(|lane| &lane.shards);
    Ok(shards.flat_map(|shard| &shard.topics).map(|topic| (topic.applied_offset + 1) as u64).sum())
}

/// Waits until at least so much is applied, and gives what is.
async fn reaches(server: &Server, wanted: u64) -> u64 {
    eventually_within(Duration::from_secs(120), "ingest goes on", || async {
        let now = applied(server).await?;
        ensure!(
            now >= wanted,
            "{now} of {wanted}\n{}",
            server.log().lines().rev().take(5).collect::<Vec<_>>().join("\n")
        );
        Ok(now)
    })
    .await
}

impl Crash {
    /// Produces, serves, kills and restarts; then gives what differs from the model: keys, and dead letters not there.
    async fn run(self) -> Vec<String> {
        let toml = mix_definitions().await;
        let mut bed = Bed::new(self.name).definitions(&toml).partitions(PARTITIONS);
        if let Some(plant) = self.planted {
            let binary = tokio::task::spawn_blocking(|| {
                build_binary("forebay-planted", "forebay-server/planted-bugs")
            });
            bed = bed.binary(binary.await.expect("built")).env("FOREBAY_PLANT", plant);
            // The bug strikes every few frames of a shard: there must be many.
            bed = bed.config("[ingest]\nbatch_max = 50\n");
        }
        let (config, kafka, namespace, toml) = bed.prepare().await;
        let (count, prefix) = (self.points.to_string(), format!("{namespace}."));
        let seed = rand::random::<u32>().to_string();
        println!("{}: --seed {seed}, {} data points", self.name, self.points);
        let produce =
            ["produce", "--bootstrap", &kafka.bootstrap, "--topic-prefix", &prefix, "--count", &count];
        let shares = [
            "--bad",
            "0.001",
            "--future",
            "0.001",
            "--late",
            "0.02",
            "--tombstone",
            "0.01",
            "--duplicate",
            "0.005",
        ];
        // Each device comes some thirty times.
        let scale = (1_000_000_000 / self.points).to_string();
        let more = ["--seed", &seed, "--scale", &scale, "--rate", "0"];
        run(produce.into_iter().chain(shares).chain(more)).await.ok();
        let definitions = Definitions::parse(&toml);
        let topics = definitions.topics(None);
        let total = eventually("all records are in the topics", || async {
            let mut total = 0;
            for topic in &topics {
                total += kafka.end_offsets(topic).await.iter().sum::<i64>() as u64;
            }
            ensure!(total >= self.points, "{total} records in the topics");
            Ok(total)
        })
        .await;
        let mut server = config.start().await;
        let mut thresholds: Vec<u64> =
            (0..self.kills).map(|_| rand::rng().random_range(total / 50..total * 49 / 50)).collect();
        thresholds.sort_unstable();
        for threshold in thresholds {
            let reached = reaches(&server, threshold).await;
            server.kill9();
            println!("{}: killed at {reached} of {total}", self.name);
            server.restart().await;
        }
        reaches(&server, total).await;
        let model = Model::read_topics(&kafka, &definitions, &topics, false).await;
        assert_eq!(model.records, total);
        if let Err(problem) = ready(&server).await {
            return vec![problem];
        }
        let mut found = differences(&server.connect().await, &definitions, &model).await;
        let mut letters = BTreeMap::new();
        for topic in definitions.dead_letter_topics() {
            letters.extend(kafka.dead_letters(&topic).await);
        }
        let reasons = letters.into_iter().map(|(place, letter)| (place, letter.header("forebay-dlq-reason")));
        let reasons: BTreeMap<_, _> = reasons.collect();
        for (place, why) in &model.refused {
            let Why::Dead(reason) = why else { continue };
            if reasons.get(place).and_then(Option::as_deref) != Some(reason) {
                found.push(format!("dead letter of {place:?} ({reason}): {:?}", reasons.get(place)));
            }
        }
        let extra = reasons.keys().find(|place| !matches!(model.refused.get(*place), Some(Why::Dead(_))));
        found.extend(
            extra.map(|place| format!("{place:?} is not bad, yet dead-lettered: {:?}", reasons[place])),
        );
        println!("{}: {} keys, {} dead letters", self.name, model.versions.len(), reasons.len());
        found
    }
}

/// Ready within a minute, or why not.
async fn ready(server: &Server) -> Result<(), String> {
    let mut last = String::new();
    let ask = eventually_within(Duration::from_secs(60), "ready or halted", || async {
        let (code, body) = server.http_get("/readyz").await?;
        match code {
            200 => Ok(None),
            _ => {
                let status = server.connect().await.status().await?;
                let mut shards = status.lanes.iter().flat_map(|lane| &lane.shards);
                let halted = shards.find(|shard| shard.state() == forebay_tests::v1::ShardState::Halted);
                Ok(Some(halted.with_context(|| format!("{code} {body}"))?.reason.clone()))
            }
        }
    });
    if let Some(reason) = ask.await {
        last.push_str(&reason);
    }
    if last.is_empty() { Ok(()) } else { Err(last) }
}

/// Size of the big run: 1,000,000 unless the environment says otherwise.
fn points() -> u64 {
    let set = std::env::var("FOREBAY_TEST_POINTS").ok();
    set.map_or(1_000_000, |count| count.parse().expect("FOREBAY_TEST_POINTS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p02_ten_kills_lose_nothing() {
    // The longest of all: it does not wait for a turn among the heavy ones.
    let crash = Crash { name: "p02", points: points(), kills: 10, planted: None };
    assert_eq!(crash.run().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kill_harness_catches_a_dropped_frame() {
    let _permit = heavy().await;
    let crash = Crash { name: "planted", points: 30_000, kills: 3, planted: Some("drop_frame") };
    let found = crash.run().await;
    let differs = |found: &String| found.contains("expected") || found.starts_with("dead letter of");
    assert!(found.iter().any(differs), "a frame was dropped, and nobody noticed what was in it: {found:?}");
    println!("{} found, as it should be: {}", found.len(), found[0]);
}
