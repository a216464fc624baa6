//! The feature store, as the executor uses it: snapshots and predictions are written through it. A store that cannot be
//! reached is waited for without end, so that records wait in Kafka; what it refuses for good is an error. Called by `job`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay_client::{Client, ClientConfig, Error, TlsOptions};
use forebay_proto::v1::{CreateSnapshotRequest, GetDiagnosisRequest, Prediction, Snapshot};
use tokio::sync::OnceCell;

use super::pace::Backoff;
use crate::config::ExecuteConfig;

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_secs(5) };

/// Longest wait for one answer; then it is asked again.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// How long something the store does not know yet, such as a feature service just applied, may stay unknown.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(60);

/// The failure in a row that is logged: not the first, for a server that restarts is none.
const LOGGED_FAILURE: u32 = 8;

/// The servers.
pub(super) struct Store {
    config: ClientConfig,
    client: OnceCell<Client>,
    retries: AtomicU64,
}

/// What is kept of a diagnosis.
pub(super) struct Kept {
    /// Its snapshot.
    pub snapshot: Snapshot,
    /// Its prediction, if it has one already.
    pub prediction: Option<Prediction>,
}

impl Store {
    /// Connects nothing yet; fails if the certificate cannot be read.
    pub(super) fn new(config: &ExecuteConfig) -> anyhow::Result<Store> {
        let mut client = ClientConfig::new(config.servers.iter().map(String::as_str));
        client.deadline = CALL_DEADLINE;
        if let Some(path) = &config.tls_ca {
            let ca_pem =
                std::fs::read(path).with_context(|| format!("[execute] tls_ca: {}", path.display()))?;
            client.tls = Some(TlsOptions { ca_pem, ..TlsOptions::default() });
        }
        Ok(Store { config: client, client: OnceCell::new(), retries: AtomicU64::new(0) })
    }

    /// Calls that were repeated.
    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Creates a snapshot, or finds the one that was created before. The error says what is wrong with the request.
    pub(super) async fn snapshot(&self, request: CreateSnapshotRequest) -> Result<Kept, String> {
        let id = request.diagnosis_id.clone();
        let answer = self.until_answered(|client| {
            let request = request.clone();
            async move { client.create_snapshot(request, None).await }
        });
        let answer = answer.await.map_err(|error| format!("CreateSnapshot: {error}"))?;
        let snapshot = answer.snapshot.ok_or("CreateSnapshot: answered without a snapshot")?;
        let prediction = match answer.existed {
            true => self.prediction(id).await?,
            false => None,
        };
        Ok(Kept { snapshot, prediction })
    }

    async fn prediction(&self, diagnosis_id: String) -> Result<Option<Prediction>, String> {
        let request = GetDiagnosisRequest { diagnosis_id, wait_for: None };
        let answer = self.until_answered(|client| {
            let request = request.clone();
            async move { client.get_diagnosis(request, None).await }
        });
        Ok(answer.await.map_err(|error| format!("GetDiagnosis: {error}"))?.prediction)
    }

    /// Stores a prediction. If there is one already, of an earlier run of the same job, the first counts; it is stored
    /// again as it is, because that run may have been cut off before the prediction could be found by its model.
    pub(super) async fn predicted(&self, prediction: Prediction) -> Result<(), String> {
        let id = prediction.diagnosis_id.clone();
        let stored = match self.record(prediction).await {
            Err(Error::AlreadyExists { .. }) => match self.prediction(id).await? {
                Some(first) => self.record(first).await,
                // Erased since.
                None => Ok(()),
            },
            stored => stored,
        };
        stored.map_err(|error| format!("RecordPrediction: {error}"))
    }

    async fn record(&self, prediction: Prediction) -> Result<(), Error> {
        let answer = self.until_answered(|client| {
            let prediction = prediction.clone();
            async move { client.record_prediction(prediction, None).await }
        });
        answer.await.map(drop)
    }

    async fn until_answered<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (started, mut failures) = (Instant::now(), 0);
        loop {
            let client = self.client.get_or_try_init(|| Client::connect(self.config.clone())).await;
            let answer = match client {
                Ok(client) => call(client.clone()).await,
                Err(error) => Err(error),
            };
            let error = match answer {
                Err(error) if !is_final(&error, started.elapsed()) => error,
                answer => return answer,
            };
            failures += 1;
            self.retries.fetch_add(1, Ordering::Relaxed);
            if failures == LOGGED_FAILURE {
                tracing::warn!(%error, "the store does not answer; it is asked until it does");
            }
            let pause = BACKOFF.pause(failures, &mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether asking again would be answered the same. What a person must mend on the server is waited for.
fn is_final(error: &Error, tried: Duration) -> bool {
    match error {
        Error::NotFound { .. } => tried >= UNKNOWN_PATIENCE,
        Error::Invalid { .. }
        | Error::AlreadyExists { .. }
        | Error::DataLoss { .. }
        | Error::TooMuch { .. } => true,
        _ => false,
    }
}
