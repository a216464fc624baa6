//! A toy model behind the Open Inference Protocol over real gRPC, for the demo and for tests: a logistic curve over the mean
//! of its inputs, and a word for it. Told to, it is slow, fails, or answers nonsense. Knows nothing of the store.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_proto::inference::grpc_inference_service_server::{
    GrpcInferenceService, GrpcInferenceServiceServer,
};
use forebay_proto::inference::model_infer_request::InferInputTensor;
use forebay_proto::inference::model_infer_response::InferOutputTensor;
use forebay_proto::inference::model_metadata_response::TensorMetadata;
use forebay_proto::inference::{
    InferTensorContents, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest,
    ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// Where the curve is at one half: the mean of the inputs.
const MIDDLE: f64 = 30.0;
/// How steep it is.
const SPREAD: f64 = 5.0;

/// How it behaves.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Answers after this long.
    pub delay: Duration,
    /// Of all requests this share fails, spread evenly; 0 to 1.
    pub fail_rate: f64,
    /// Answers with tensors nobody asked for.
    pub nonsense: bool,
    /// The inputs it says it takes: name, datatype, columns. None: it does not say.
    pub inputs: Vec<(String, String, i64)>,
}

struct Toy {
    behaviour: Behaviour,
    asked: AtomicU64,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    behaviour: Behaviour,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let toy = Toy { behaviour, asked: AtomicU64::new(0) };
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder().add_service(GrpcInferenceServiceServer::new(toy));
    Ok(server.serve_with_incoming_shutdown(incoming, shutdown).await?)
}

/// What it makes of its inputs: 1 far below the middle, 0 far above it.
pub fn score(elements: &[f64]) -> f64 {
    let known: Vec<f64> = elements.iter().copied().filter(|element| element.is_finite()).collect();
    if known.is_empty() {
        return 0.5;
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    1.0 / (1.0 + ((mean - MIDDLE) / SPREAD).exp())
}

/// Its word for a score.
pub fn label(score: f64) -> &'static str {
    if score > 0.5 { "bad" } else { "good" }
}

fn elements(input: &InferInputTensor) -> Vec<f64> {
    let Some(contents) = &input.contents else { return Vec::new() };
    let flags = contents.bool_contents.iter().map(|flag| f64::from(u8::from(*flag)));
    let whole = contents.int64_contents.iter().map(|number| *number as f64);
    let small = contents.int_contents.iter().map(|number| f64::from(*number));
    let singles = contents.fp32_contents.iter().map(|number| f64::from(*number));
    flags.chain(whole).chain(small).chain(singles).chain(contents.fp64_contents.iter().copied()).collect()
}

fn output(name: &str, datatype: &str, contents: InferTensorContents) -> InferOutputTensor {
    InferOutputTensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![1, 1],
        contents: Some(contents),
        ..InferOutputTensor::default()
    }
}

fn numbers(numbers: &[f64]) -> InferTensorContents {
    InferTensorContents { fp64_contents: numbers.to_vec(), ..InferTensorContents::default() }
}

impl Toy {
    fn fails(&self) -> bool {
        let (rate, asked) = (self.behaviour.fail_rate, self.asked.fetch_add(1, Ordering::Relaxed) as f64);
        ((asked + 1.0) * rate).floor() > (asked * rate).floor()
    }

    fn outputs(&self, inputs: &[InferInputTensor]) -> Vec<InferOutputTensor> {
        if self.behaviour.nonsense {
            return vec![
                output("score", "FP64", numbers(&[1.0, 2.0, 3.0])),
                output("x", "FP17", numbers(&[])),
            ];
        }
        let score = score(&inputs.iter().flat_map(elements).collect::<Vec<_>>());
        let word = InferTensorContents {
            bytes_contents: vec![label(score).as_bytes().into()],
            ..InferTensorContents::default()
        };
        vec![output("score", "FP64", numbers(&[score])), output("label", "BYTES", word)]
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Toy {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: true }))
    }

    async fn model_ready(
        &self,
        _: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        Ok(Response::new(ModelReadyResponse { ready: true }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(ServerMetadataResponse {
            name: "forebay-toy".into(),
            version,
            extensions: Vec::new(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let tensor = |name: &str, datatype: &str, columns| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: vec![-1, columns],
        };
        let inputs = self.behaviour.inputs.iter();
        Ok(Response::new(ModelMetadataResponse {
            name: request.into_inner().name,
            platform: "toy".into(),
            inputs: inputs.map(|(name, datatype, columns)| tensor(name, datatype, *columns)).collect(),
            outputs: vec![tensor("score", "FP64", 1), tensor("label", "BYTES", 1)],
            ..ModelMetadataResponse::default()
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let ModelInferRequest { model_name, id, inputs, .. } = request.into_inner();
        tokio::time::sleep(self.behaviour.delay).await;
        if self.fails() {
            return Err(Status::internal("the toy was told to fail"));
        }
        let outputs = self.outputs(&inputs);
        let model_version = "toy".to_owned();
        Ok(Response::new(ModelInferResponse { model_name, model_version, id, outputs, ..Default::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_means_are_bad() {
        assert_eq!((label(score(&[10.0, 20.0])), label(score(&[50.0]))), ("bad", "good"));
        assert_eq!((score(&[30.0, f64::NAN]), score(&[f64::NAN]), score(&[])), (0.5, 0.5, 0.5));
    }

    #[test]
    fn failures_are_spread_evenly() {
        let toy =
            |fail_rate| Toy { behaviour: Behaviour { fail_rate, ..Default::default() }, asked: 0.into() };
        let fails = |fail_rate| {
            let toy = toy(fail_rate);
            (0..8).map(|_| toy.fails()).collect::<Vec<_>>()
        };
        assert_eq!(fails(0.0), [false; 8]);
        assert_eq!(fails(1.0), [true; 8]);
        assert_eq!(fails(0.5), [false, true, false, true, false, true, false, true]);
    }
}
