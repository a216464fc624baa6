//! Freshness as somebody outside sees it: a data point is produced, and its entity read until it is there. Between two
//! looks is a twentieth of the time that has passed, 1 ms at least: fine where it is fresh, and no load where it is not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_server::mix::{Mix, Random, Shares};
use forebay_tests::request;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

/// Between two probes.
const EVERY: Duration = Duration::from_millis(50);
/// After this a probe is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Shortest time between two looks.
pub const RESOLUTION: Duration = Duration::from_millis(1);
const VIEW: &str = "device_radio";

/// What probes found.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    /// Seconds since the beginning when it was produced, ms until it was readable.
    pub probes: Vec<(f32, f32)>,
    /// Probes that never became readable, or whose reads failed.
    pub lost: u64,
}

/// Probes until the day is over, and waits for the last of them.
pub async fn run(
    grpc: &str,
    bootstrap: &str,
    topic: &str,
    begin: Instant,
    length: Duration,
) -> anyhow::Result<Probed> {
    let channel = Endpoint::from_shared(format!("http://{grpc}"))?.tcp_nodelay(true).connect().await?;
    // A probe times the way through Kafka and the server, not the wait for company in a batch.
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "0")
        .set("compression.type", "lz4")
        .create()?;
    let plain = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };
    let mut mix = Mix::new(5, u64::MAX, plain).only(|view| view.name == VIEW);
    let probed = Arc::new(Mutex::new(Probed::default()));
    let (mut under_way, mut random) = (tokio::task::JoinSet::new(), Random::new(13));
    let mut turn = tokio::time::interval_at(begin, EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while begin.elapsed() < length {
        turn.tick().await;
        while under_way.try_join_next().is_some() {}
        let key = format!("probe-{:016x}-{:010x}", random.bits(), under_way.len());
        let value = mix.next(forebay_tests::event_now()).value.clone().context("a probe has a value")?;
        let (channel, producer, topic) = (channel.clone(), producer.clone(), topic.to_owned());
        let probed = probed.clone();
        under_way.spawn(async move {
            let at_s = begin.elapsed().as_secs_f32();
            let took = probe(channel, &producer, &topic, key.as_bytes(), &value).await;
            let mut probed = probed.lock();
            match took {
                Ok(took) => probed.probes.push((at_s, took.as_secs_f32() * 1e3)),
                Err(_) => probed.lost += 1,
            }
        });
    }
    while under_way.join_next().await.is_some() {}
    let probed = probed.lock().clone();
    Ok(probed)
}

async fn probe(
    channel: Channel,
    producer: &FutureProducer,
    topic: &str,
    key: &[u8],
    value: &[u8],
) -> anyhow::Result<Duration> {
    let (begin, asked) = (Instant::now(), request(VIEW, &[key]));
    let record = FutureRecord::<[u8], [u8]>::to(topic).key(key).payload(value);
    let delivery = producer.send_result(record).map_err(|(error, _)| error)?;
    let mut store = FeatureStoreClient::new(channel);
    loop {
        let answer = store.get_features(asked.clone()).await?.into_inner();
        let status = answer.views.first().and_then(|view| view.status.first()).copied();
        if status == Some(forebay_proto::v1::Status::Present.into()) {
            let took = begin.elapsed();
            delivery.await?.map_err(|(error, _)| error)?;
            return Ok(took);
        }
        anyhow::ensure!(begin.elapsed() < PATIENCE, "not readable");
        tokio::time::sleep(RESOLUTION.max(begin.elapsed() / 20)).await;
    }
}
