//! One side of a read comparison: the server or the echo, asked the same requests through the same kind of channels. The
//! answers of both are decoded to the same message: whoever asks needs it, and the load generator shares the cores.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::stream_features_response::Outcome;
use forebay_proto::v1::{
    GetFeaturesRequest, GetFeaturesResponse, StreamFeaturesRequest, StreamFeaturesResponse,
};
use futures::stream::{BoxStream, StreamExt};
use hdrhistogram::Histogram;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::Options;
use crate::peers::echo;
use crate::report::Sample;
use crate::{cpu, load};

/// Where a side is and what it is asked.
#[derive(Clone)]
pub struct Side {
    /// Asked in turn.
    requests: Arc<Vec<GetFeaturesRequest>>,
    /// The same as bytes, for the echo.
    encoded: Arc<Vec<Bytes>>,
    channels: Arc<Vec<Channel>>,
    pid: Option<u32>,
    ours: bool,
}

/// What a closed loop found.
pub struct Closed {
    /// Requests a second.
    pub rate: Sample,
    /// Median of the time from question to answer, µs.
    pub p50: Sample,
    /// Its 99th percentile.
    pub p99: Sample,
    /// Requests answered.
    pub count: f64,
}

/// Asks for some time with so many in flight; what it cost is for the caller to say.
pub async fn closed<F, Fut>(in_flight: usize, time: Duration, ask: F) -> anyhow::Result<Closed>
where
    F: Fn(u64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let seen = Arc::new(Mutex::new(Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3)?));
    let noted = seen.clone();
    let timed = move |number| {
        let (asked, noted) = (ask(number), noted.clone());
        async move {
            let begin = Instant::now();
            asked.await?;
            noted.lock().expect("no panic while held").saturating_record(begin.elapsed().as_nanos() as u64);
            Ok(())
        }
    };
    let rate = load::closed(in_flight, time, timed).await?;
    let seen = seen.lock().expect("no panic while held");
    let at = |quantile| seen.value_at_quantile(quantile) as f64 / 1000.0;
    let sample = |value| Sample { value, cpu_us: f64::NAN };
    Ok(Closed { rate: sample(rate), p50: sample(at(0.5)), p99: sample(at(0.99)), count: seen.len() as f64 })
}

impl Side {
    /// Connects to our server at `host:port`.
    pub async fn ours(
        address: &str,
        requests: Arc<Vec<GetFeaturesRequest>>,
        pid: Option<u32>,
        options: &Options,
    ) -> anyhow::Result<Side> {
        Side::new(address, requests, pid, true, options).await
    }

    /// Connects to the echo.
    pub async fn echo(
        address: &str,
        requests: Arc<Vec<GetFeaturesRequest>>,
        pid: u32,
        options: &Options,
    ) -> anyhow::Result<Side> {
        Side::new(address, requests, Some(pid), false, options).await
    }

    async fn new(
        address: &str,
        requests: Arc<Vec<GetFeaturesRequest>>,
        pid: Option<u32>,
        ours: bool,
        options: &Options,
    ) -> anyhow::Result<Side> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .tcp_nodelay(true);
        let mut channels = Vec::new();
        for _ in 0..options.channels {
            channels.push(endpoint.connect().await.with_context(|| format!("connecting to {address}"))?);
        }
        let encoded = requests.iter().map(|request| Bytes::from(request.encode_to_vec())).collect();
        Ok(Side { requests, encoded: Arc::new(encoded), channels: Arc::new(channels), pid, ours })
    }

    /// One of its channels.
    pub fn channel(&self, number: u64) -> Channel {
        self.channels[number as usize % self.channels.len()].clone()
    }

    /// Our server's answer.
    pub async fn answer(&self, request: &GetFeaturesRequest) -> anyhow::Result<GetFeaturesResponse> {
        let answer = FeatureStoreClient::new(self.channel(0)).get_features(request.clone()).await?;
        Ok(answer.into_inner())
    }

    /// Unary requests, so many in flight.
    pub async fn unary(&self, in_flight: usize, time: Duration) -> anyhow::Result<Closed> {
        let before = self.cpu();
        let side = self.clone();
        let mut closed = closed(in_flight, time, move |number| side.clone().ask(number)).await?;
        closed.rate.cpu_us = (self.cpu() - before) / closed.count;
        Ok(closed)
    }

    /// Open-loop latency of unary requests at a rate: median and 99th percentile in µs.
    pub async fn latency(&self, rate: f64, time: Duration) -> anyhow::Result<(Sample, Sample)> {
        let before = self.cpu();
        let side = self.clone();
        let seen = load::open(rate, time, move |number| side.clone().ask(number)).await?;
        let at = |quantile| seen.value_at_quantile(quantile) as f64 / 1000.0;
        let sample = |value| self.sample(value, before, seen.len() as f64);
        Ok((sample(at(0.5)), sample(at(0.99))))
    }

    /// Requests per second over one stream per channel, `window` of them in flight altogether.
    pub async fn stream(&self, window: usize, time: Duration) -> anyhow::Result<Sample> {
        let before = self.cpu();
        let begin = Instant::now();
        let tasks: Vec<_> = (0..self.channels.len())
            .map(|number| {
                tokio::spawn(self.clone().converse(number, window / self.channels.len(), begin + time))
            })
            .collect();
        let mut answers = 0;
        for task in tasks {
            answers += task.await??;
        }
        Ok(self.sample(answers as f64 / begin.elapsed().as_secs_f64(), before, answers as f64))
    }

    /// Processor time of the side so far, µs; not known of a server elsewhere.
    fn cpu(&self) -> f64 {
        self.pid.map_or(f64::NAN, |pid| cpu::of_process(pid) as f64)
    }

    fn sample(&self, value: f64, cpu_before: f64, operations: f64) -> Sample {
        Sample { value, cpu_us: (self.cpu() - cpu_before) / operations }
    }

    async fn ask(self, number: u64) -> anyhow::Result<()> {
        let at = number as usize % self.requests.len();
        let channel = self.channel(number);
        if self.ours {
            let request = self.requests[at].clone();
            let answer = FeatureStoreClient::new(channel).get_features(request).await?.into_inner();
            check(&answer)
        } else {
            let bytes = echo::call(channel, echo::UNARY, self.encoded[at].clone()).await?;
            check(&GetFeaturesResponse::decode(bytes)?)
        }
    }

    /// Keeps `window` requests in flight on one stream until `end`; gives the number of answers.
    async fn converse(self, number: usize, window: usize, end: Instant) -> anyhow::Result<u64> {
        let (send, asked) = mpsc::channel::<u64>(window);
        let next = AtomicU64::new(0);
        let mut answers = self.open(number, ReceiverStream::new(asked)).await?;
        for _ in 0..window {
            send.send(next.fetch_add(1, Ordering::Relaxed)).await?;
        }
        let mut done = 0;
        while Instant::now() < end {
            answers.next().await.context("the stream ended")??;
            done += 1;
            send.send(next.fetch_add(1, Ordering::Relaxed)).await?;
        }
        Ok(done)
    }

    async fn open(
        &self,
        number: usize,
        asked: ReceiverStream<u64>,
    ) -> anyhow::Result<BoxStream<'static, anyhow::Result<()>>> {
        let channel = self.channel(number as u64);
        if !self.ours {
            let encoded = self.encoded.clone();
            let asked = asked.map(move |id| encoded[id as usize % encoded.len()].clone());
            let answers = echo::stream(channel, asked).await?;
            return Ok(answers.map(|answer| check(&GetFeaturesResponse::decode(answer?.bytes)?)).boxed());
        }
        let requests = self.requests.clone();
        let asked = asked.map(move |id| {
            let request = Some(requests[id as usize % requests.len()].clone());
            StreamFeaturesRequest { id, request, timeout_ms: 0 }
        });
        let answers = FeatureStoreClient::new(channel).stream_features(asked).await?.into_inner();
        let check_outcome = |answer: Result<StreamFeaturesResponse, tonic::Status>| match answer?.outcome {
            Some(Outcome::Response(answer)) => check(&answer),
            other => bail!("{other:?}"),
        };
        Ok(answers.map(check_outcome).boxed())
    }
}

fn check(answer: &GetFeaturesResponse) -> anyhow::Result<()> {
    ensure!(!answer.views.is_empty() && answer.unavailable.is_empty(), "{answer:?}");
    Ok(())
}
