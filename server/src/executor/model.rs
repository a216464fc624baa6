//! Asking one model: its connection, how many requests at once and how fast, attempts with pauses between them, its circuit,
//! and whether its server describes itself as declared. Called by `job`; one per model, so that none waits for another.

use std::time::{Duration, Instant};

use forebay_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use forebay_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use forebay_proto::inference::{ModelInferRequest, ModelInferResponse, ModelMetadataRequest};
use forebay_proto::v1::{PredictionStatus, Snapshot};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::answer;
use super::circuit::Circuit;
use super::pace::{Backoff, Pace};
use super::tensors::tensors;
use crate::clock::Clock;
use crate::definitions::Model;
use crate::definitions::model::Output;

/// How long a server that does not fit is not asked again what it is.
const RECHECK_AFTER: Duration = Duration::from_secs(5);

/// Largest answer taken, bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A model and the way to it.
pub(super) struct Asked {
    /// What is declared.
    pub definition: Model,
    client: GrpcInferenceServiceClient<Channel>,
    in_flight: Semaphore,
    pace: Mutex<Pace>,
    circuit: Mutex<Circuit>,
    fit: tokio::sync::Mutex<Fit>,
    clock: Clock,
}

/// Whether its server describes itself as declared.
#[derive(Debug)]
enum Fit {
    /// To be asked: at first, and after the connection was lost.
    Unknown,
    Fits,
    Differs {
        reason: String,
        since: Instant,
    },
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// As it goes into the prediction.
    pub status: PredictionStatus,
    /// What went wrong, if it did.
    pub error: String,
    /// The outputs as JSON; empty unless OK.
    pub outputs_json: Vec<u8>,
    /// What the server called itself.
    pub model_version: String,
    /// How often it was asked.
    pub attempts: u32,
    /// When it was last asked, ms since the epoch.
    pub asked_at_ms: i64,
    /// How long the last attempt took.
    pub took: Duration,
}

/// What came of one attempt.
enum Attempt {
    Answered(Box<ModelInferResponse>),
    /// Asking again may help, unless `is_final`.
    Failed {
        status: PredictionStatus,
        error: String,
        is_final: bool,
    },
    /// Not even asked.
    Refused(String),
}

impl Asked {
    /// Connects when first asked; fails on an address that cannot be.
    pub(super) fn new(definition: Model, clock: Clock) -> Result<Asked, tonic::transport::Error> {
        let limits = definition.limits;
        let channel = Endpoint::from_shared(definition.endpoint.clone())?
            .connect_timeout(Duration::from_millis(limits.timeout_ms))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .connect_lazy();
        Ok(Asked {
            client: GrpcInferenceServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
            in_flight: Semaphore::new(limits.max_in_flight),
            pace: Mutex::new(Pace::new(limits.rate_per_s)),
            circuit: Mutex::new(Circuit::new(&limits)),
            fit: tokio::sync::Mutex::new(Fit::Unknown),
            definition,
            clock,
        })
    }

    /// Whether its circuit is open.
    pub(super) fn is_open(&self) -> bool {
        self.circuit.lock().is_open()
    }

    /// Why its server does not fit what is declared; none if it does or is not known.
    pub(super) fn misfit(&self) -> Option<String> {
        match &*self.fit.try_lock().ok()? {
            Fit::Differs { reason, .. } => Some(reason.clone()),
            Fit::Unknown | Fit::Fits => None,
        }
    }

    /// Asks until it is answered, or as often as may be.
    pub(super) async fn judge(&self, diagnosis_id: &str, snapshot: &Snapshot) -> Verdict {
        let mut verdict = Verdict::not_asked(self.clock.now_ms());
        let request = match tensors(&self.definition, snapshot) {
            Ok(inputs) => self.request(diagnosis_id, inputs),
            Err(reason) => return verdict.refused(reason),
        };
        let limits = &self.definition.limits;
        let backoff = Backoff {
            first: Duration::from_millis(limits.backoff_ms),
            most: Duration::from_millis(limits.max_backoff_ms),
        };
        loop {
            let attempt = self.attempt(&request, &mut verdict).await;
            let may_go_on = verdict.attempts < limits.attempts;
            match attempt {
                Attempt::Refused(reason) if verdict.attempts == 0 => return verdict.refused(reason),
                // It was asked before: that is what is told.
                Attempt::Refused(_) => return verdict,
                Attempt::Answered(answer) => return verdict.answered(&self.definition, &answer),
                Attempt::Failed { status, error, is_final } => {
                    (verdict.status, verdict.error) = (status, error);
                    if is_final || !may_go_on {
                        return verdict;
                    }
                }
            }
            let pause = backoff.pause(verdict.attempts, &mut rand::rng());
            tokio::time::sleep(pause).await;
        }
    }

    fn request(&self, diagnosis_id: &str, inputs: Vec<InferInputTensor>) -> ModelInferRequest {
        let tensor = |output: &Output| InferRequestedOutputTensor {
            name: output.tensor.clone(),
            ..InferRequestedOutputTensor::default()
        };
        ModelInferRequest {
            outputs: self.definition.outputs.iter().map(tensor).collect(),
            model_name: self.definition.model_name.clone(),
            model_version: self.definition.model_version.clone(),
            id: diagnosis_id.to_owned(),
            inputs,
            ..ModelInferRequest::default()
        }
    }

    async fn attempt(&self, request: &ModelInferRequest, verdict: &mut Verdict) -> Attempt {
        let Ok(_slot) = self.in_flight.acquire().await else { return Attempt::Refused("stopping".into()) };
        let moment = self.pace.lock().moment(Instant::now());
        tokio::time::sleep_until(moment.into()).await;
        if !self.circuit.lock().admits(Instant::now()) {
            let open = Duration::from_millis(self.definition.limits.circuit_open_ms);
            return Attempt::Refused(format!(
                "its circuit is open: it failed {} times in a row, and is tried again after {open:?}",
                self.definition.limits.circuit_failures
            ));
        }
        let begun = Instant::now();
        let asked_at_ms = self.clock.now_ms();
        let attempt = self.ask(request).await;
        if !matches!(attempt, Attempt::Refused(_)) {
            verdict.attempts += 1;
            (verdict.asked_at_ms, verdict.took) = (asked_at_ms, begun.elapsed());
        }
        self.note(&attempt);
        attempt
    }

    /// One request within the time it has, the question what its server is included.
    async fn ask(&self, request: &ModelInferRequest) -> Attempt {
        let timeout = Duration::from_millis(self.definition.limits.timeout_ms);
        let asked = async {
            if let Err(attempt) = self.check_fit().await {
                return attempt;
            }
            match self.client.clone().model_infer(request.clone()).await {
                Ok(answer) => Attempt::Answered(Box::new(answer.into_inner())),
                Err(status) => failed(&status),
            }
        };
        tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| Attempt::Failed {
            status: PredictionStatus::TimedOut,
            error: format!("no answer within {timeout:?}"),
            is_final: false,
        })
    }

    fn note(&self, attempt: &Attempt) {
        let title = self.definition.title();
        match attempt {
            // A server that says that a request is wrong is alive.
            Attempt::Answered(_) | Attempt::Refused(_) | Attempt::Failed { is_final: true, .. } => {
                self.circuit.lock().succeeded();
            }
            Attempt::Failed { error, .. } => {
                if self.circuit.lock().failed(Instant::now()) {
                    tracing::warn!(model = title, error, "circuit opens");
                }
                // What answers next may be another server.
                if let Ok(mut fit) = self.fit.try_lock()
                    && matches!(*fit, Fit::Fits)
                {
                    *fit = Fit::Unknown;
                }
            }
        }
    }

    /// Asks its server what it is, if that is not known.
    async fn check_fit(&self) -> Result<(), Attempt> {
        let mut fit = self.fit.lock().await;
        match &*fit {
            Fit::Fits => return Ok(()),
            Fit::Differs { reason, since } if since.elapsed() < RECHECK_AFTER => {
                return Err(Attempt::Refused(reason.clone()));
            }
            Fit::Unknown | Fit::Differs { .. } => {}
        }
        let (name, version) = (self.definition.model_name.clone(), self.definition.model_version.clone());
        let said = self.client.clone().model_metadata(ModelMetadataRequest { name, version }).await;
        let fits = match said {
            Ok(said) => answer::fits(&self.definition, said.get_ref()),
            // It does not say what it is, which is its right.
            Err(status) if status.code() == Code::Unimplemented => Ok(()),
            Err(status) => return Err(failed(&status)),
        };
        match fits {
            Ok(()) => {
                *fit = Fit::Fits;
                Ok(())
            }
            Err(difference) => {
                let reason = format!("its server does not fit its definition: {difference}");
                tracing::error!(model = self.definition.title(), reason, "not asked until it fits");
                *fit = Fit::Differs { reason: reason.clone(), since: Instant::now() };
                Err(Attempt::Refused(reason))
            }
        }
    }
}

fn failed(status: &Status) -> Attempt {
    let is_final = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::Unimplemented
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::OutOfRange
    );
    let kind = match status.code() {
        Code::DeadlineExceeded => PredictionStatus::TimedOut,
        _ => PredictionStatus::Failed,
    };
    Attempt::Failed { status: kind, error: format!("{:?}: {}", status.code(), status.message()), is_final }
}

impl Verdict {
    fn not_asked(now_ms: i64) -> Verdict {
        Verdict {
            status: PredictionStatus::NotAsked,
            error: String::new(),
            outputs_json: Vec::new(),
            model_version: String::new(),
            attempts: 0,
            asked_at_ms: now_ms,
            took: Duration::ZERO,
        }
    }

    fn refused(self, reason: String) -> Verdict {
        Verdict { status: PredictionStatus::NotAsked, error: reason, ..self }
    }

    fn answered(self, model: &Model, answer: &ModelInferResponse) -> Verdict {
        let model_version = answer.model_version.clone();
        match answer::outputs(model, answer) {
            Ok(outputs_json) => {
                let (status, error) = (PredictionStatus::Ok, String::new());
                Verdict { status, error, outputs_json, model_version, ..self }
            }
            Err(error) => Verdict { status: PredictionStatus::Nonsense, error, model_version, ..self },
        }
    }
}
