//! The readers: GetFeatures at a fixed rate, three of four for what is known of a device, the fourth for the experience
//! of a customer over eight views. Latencies count from when a request was due.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::get_features_request::Selection;
use forebay_proto::v1::{Format, GetFeaturesRequest};
use forebay_server::mix::{HIGH_VOLUME, MixView, Random, STANDARD, VIEWS};
use tonic::transport::{Channel, Endpoint};

use crate::load;

/// Different requests, asked in turn.
const REQUESTS: usize = 40_000;
/// Connections.
const CHANNELS: usize = 2;

/// Who asks.
#[derive(Clone)]
pub struct Reads {
    channels: Arc<Vec<Channel>>,
    requests: Arc<Vec<GetFeaturesRequest>>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    /// Seconds since the beginning when it was due, latency in µs.
    pub reads: Vec<(f32, u32)>,
    /// Reads without an answer.
    pub failed: u64,
    /// Why, the last time.
    pub reason: String,
}

impl Reads {
    /// Connects to `host:port`; the entities are those of a mix of this scale.
    pub async fn connect(grpc: &str, scale: u64) -> anyhow::Result<Reads> {
        let endpoint = Endpoint::from_shared(format!("http://{grpc}"))?.tcp_nodelay(true);
        let mut channels = Vec::new();
        for _ in 0..CHANNELS {
            channels.push(endpoint.connect().await?);
        }
        let mut random = Random::new(11);
        let requests = (0..REQUESTS).map(|number| request(number, scale, &mut random)).collect();
        Ok(Reads { channels: Arc::new(channels), requests: Arc::new(requests) })
    }

    /// Reads for so long at so many a second.
    pub async fn run(&self, rate: f64, time: Duration) -> anyhow::Result<Answered> {
        let (reads, mut answered) = (self.clone(), Answered::default());
        let ask = move |number| reads.clone().ask(number);
        load::open_each(rate, time, ask, |due, outcome| match outcome {
            Ok(latency) => answered.reads.push((due.as_secs_f32(), latency.as_micros() as u32)),
            Err(error) => {
                answered.failed += 1;
                answered.reason = format!("{error:#}");
            }
        })
        .await?;
        Ok(answered)
    }

    async fn ask(self, number: u64) -> anyhow::Result<()> {
        let channel = self.channels[number as usize % self.channels.len()].clone();
        let request = self.requests[number as usize % self.requests.len()].clone();
        let answer = FeatureStoreClient::new(channel).get_features(request).await?.into_inner();
        ensure!(answer.unavailable.is_empty(), "{:?}", answer.unavailable);
        Ok(())
    }
}

fn request(number: usize, scale: u64, random: &mut Random) -> GetFeaturesRequest {
    let (lane, service) = match number % 4 {
        0 => (STANDARD, "customer_experience@1"),
        _ => (HIGH_VOLUME, "device_health@1"),
    };
    let mut id = Vec::new();
    if let Some(view) = VIEWS.iter().find(|view: &&MixView| view.lane == lane) {
        view.entity_id(random.below(view.population(scale)), &mut id);
    }
    GetFeaturesRequest {
        entities: vec![id.into()],
        selection: Some(Selection::FeatureService(service.into())),
        format: Format::Typed.into(),
        ..GetFeaturesRequest::default()
    }
}
