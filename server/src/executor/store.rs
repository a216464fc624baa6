//! The feature store, as the executor uses it: snapshots and predictions are written through it. A store that cannot be
//! reached is waited for without end, so that records wait in Kafka; what it refuses for good is an error. Called by `job`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay_proto::v1::diagnoses_client::DiagnosesClient;
use forebay_proto::v1::{
    CreateSnapshotRequest, GetDiagnosisRequest, Prediction, RecordPredictionRequest, Snapshot,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::pace::Backoff;
use crate::config::ExecuteConfig;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_secs(5) };

/// Longest wait for one answer; then it is asked again.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// How long something the store does not know yet, such as a feature service just applied, may stay unknown.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(60);

/// Connections to each server: one is one TCP stream and one thread there.
const CHANNELS: usize = 2;

/// Largest answer taken, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The servers, asked in turn until one answers.
#[derive(Debug)]
pub(super) struct Store {
    channels: Vec<Channel>,
    servers: usize,
    next: AtomicUsize,
    /// The server that answered last.
    current: AtomicUsize,
    /// Answers that made a call be repeated.
    pub retries: AtomicUsize,
}

/// What is kept of a diagnosis.
pub(super) struct Kept {
    /// Its snapshot.
    pub snapshot: Snapshot,
    /// It has a prediction already.
    pub is_predicted: bool,
}

impl Store {
    /// Connects nothing yet; fails on an address or certificate that cannot be.
    pub(super) fn new(config: &ExecuteConfig) -> anyhow::Result<Store> {
        let tls = match &config.tls_ca {
            Some(path) => {
                let pem =
                    std::fs::read(path).with_context(|| format!("[execute] tls_ca: {}", path.display()))?;
                Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
            }
            None => None,
        };
        let mut channels = Vec::new();
        for server in &config.servers {
            let endpoint =
                endpoint(server, tls.as_ref()).with_context(|| format!("[execute] servers: {server}"))?;
            channels.extend((0..CHANNELS).map(|_| endpoint.connect_lazy()));
        }
        let (next, current, retries) = Default::default();
        Ok(Store { channels, servers: config.servers.len(), next, current, retries })
    }

    fn client(&self) -> DiagnosesClient<Channel> {
        let server = self.current.load(Ordering::Relaxed) % self.servers;
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % CHANNELS;
        DiagnosesClient::new(self.channels[server * CHANNELS + turn].clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Creates a snapshot, or finds the one that was created before. The error says what is wrong with the request.
    pub(super) async fn snapshot(&self, request: CreateSnapshotRequest) -> Result<Kept, String> {
        let id = request.diagnosis_id.clone();
        let answer = self.until_answered(|mut client| {
            let request = timed(request.clone());
            async move { client.create_snapshot(request).await }
        });
        let answer = answer.await.map_err(|status| said("CreateSnapshot", &status))?;
        let snapshot = answer.snapshot.ok_or("CreateSnapshot answered without a snapshot")?;
        Ok(Kept { snapshot, is_predicted: answer.existed && self.is_predicted(id).await? })
    }

    async fn is_predicted(&self, diagnosis_id: String) -> Result<bool, String> {
        let request = GetDiagnosisRequest { diagnosis_id, wait_for: None };
        let answer = self.until_answered(|mut client| {
            let request = timed(request.clone());
            async move { client.get_diagnosis(request).await }
        });
        Ok(answer.await.map_err(|status| said("GetDiagnosis", &status))?.prediction.is_some())
    }

    /// Stores a prediction. One that is there already was stored by an earlier run of the same job: the first counts.
    pub(super) async fn predicted(&self, prediction: Prediction) -> Result<(), String> {
        let request = RecordPredictionRequest { prediction: Some(prediction) };
        let answer = self.until_answered(|mut client| {
            let request = timed(request.clone());
            async move { client.record_prediction(request).await }
        });
        match answer.await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(said("RecordPrediction", &status)),
        }
    }

    async fn until_answered<T, F>(&self, call: impl Fn(DiagnosesClient<Channel>) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let (started, mut failures) = (Instant::now(), 0);
        loop {
            let server = self.current.load(Ordering::Relaxed);
            let status = match call(self.client()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if is_final(&status, started.elapsed()) => return Err(status),
                Err(status) => status,
            };
            failures += 1;
            self.retries.fetch_add(1, Ordering::Relaxed);
            // Another may have the shard; of those who failed together one turns.
            self.current.compare_exchange(server, server + 1, Ordering::Relaxed, Ordering::Relaxed).ok();
            if failures == 10 {
                tracing::warn!(code = ?status.code(), reason = status.message(), "the store does not answer; tried on");
            }
            let pause = BACKOFF.pause(failures, &mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }
}

fn endpoint(server: &str, tls: Option<&ClientTlsConfig>) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(server.to_owned())?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    Ok(match tls.filter(|_| server.starts_with("https:")) {
        Some(tls) => endpoint.tls_config(tls.clone())?,
        None => endpoint,
    })
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_DEADLINE);
    request
}

/// Whether asking again would be answered the same.
fn is_final(status: &Status, tried: Duration) -> bool {
    match status.code() {
        Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange | Code::DataLoss => true,
        Code::NotFound => tried >= UNKNOWN_PATIENCE,
        _ => false,
    }
}

fn said(call: &str, status: &Status) -> String {
    format!("{call}: {:?}: {}", status.code(), status.message())
}
