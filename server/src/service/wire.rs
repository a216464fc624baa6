//! FeatureStore on the wire: the generated service, but for how the answers to its two reads are encoded. They can be large,
//! and the generated code doubles a buffer until an answer fits, copying it each time; here room is made for it at once.
//! Used by `server`; knows nothing of what is read.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use forebay_proto::v1::feature_store_server::{FeatureStore as _, FeatureStoreServer};
use forebay_proto::v1::{
    GetFeaturesRequest, GetFeaturesResponse, StreamFeaturesRequest, StreamFeaturesResponse,
};
use futures::future::BoxFuture;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::store::FeatureStoreService;
use super::stream::Answers;

const GET_FEATURES: &str = "/forebay.v1.FeatureStore/GetFeatures";
const STREAM_FEATURES: &str = "/forebay.v1.FeatureStore/StreamFeatures";

/// The FeatureStore service; clones are cheap.
#[derive(Clone)]
pub(super) struct FeatureStoreWire {
    service: Arc<FeatureStoreService>,
    /// Answers everything but reads.
    generated: FeatureStoreServer<FeatureStoreService>,
    max_request_bytes: usize,
}

impl FeatureStoreWire {
    /// Requests are refused above a size; answers have a limit of their own.
    pub(super) fn new(service: FeatureStoreService, max_request_bytes: usize) -> FeatureStoreWire {
        let service = Arc::new(service);
        let generated = FeatureStoreServer::from_arc(service.clone())
            .max_decoding_message_size(max_request_bytes)
            .max_encoding_message_size(usize::MAX);
        FeatureStoreWire { service, generated, max_request_bytes }
    }

    fn grpc<A: Message + 'static, Q: Message + Default + 'static>(&self) -> Grpc<AtOnce<A, Q>> {
        Grpc::new(AtOnce(PhantomData))
            .apply_max_message_size_config(Some(self.max_request_bytes), Some(usize::MAX))
    }
}

impl NamedService for FeatureStoreWire {
    const NAME: &'static str = <FeatureStoreServer<FeatureStoreService> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for FeatureStoreWire {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            GET_FEATURES => {
                let (mut grpc, method) = (self.grpc(), GetFeatures(self.service.clone()));
                Box::pin(async move { Ok(grpc.unary(method, request).await) })
            }
            STREAM_FEATURES => {
                let (mut grpc, method) = (self.grpc(), StreamFeatures(self.service.clone()));
                Box::pin(async move { Ok(grpc.streaming(method, request).await) })
            }
            _ => self.generated.call(request),
        }
    }
}

struct GetFeatures(Arc<FeatureStoreService>);
struct StreamFeatures(Arc<FeatureStoreService>);

impl UnaryService<GetFeaturesRequest> for GetFeatures {
    type Response = GetFeaturesResponse;
    type Future = BoxFuture<'static, Result<Response<GetFeaturesResponse>, Status>>;

    fn call(&mut self, request: Request<GetFeaturesRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.read(request).await })
    }
}

impl StreamingService<StreamFeaturesRequest> for StreamFeatures {
    type Response = StreamFeaturesResponse;
    type ResponseStream = Answers;
    type Future = BoxFuture<'static, Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<Streaming<StreamFeaturesRequest>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.stream_features(request).await })
    }
}

/// Protobuf, with room for a whole message made at once.
struct AtOnce<A, Q>(PhantomData<(A, Q)>);

impl<A: Message + 'static, Q: Message + Default + 'static> Codec for AtOnce<A, Q> {
    type Encode = A;
    type Decode = Q;
    type Encoder = AtOnceEncoder<A>;
    type Decoder = ProstDecoder<Q>;

    fn encoder(&mut self) -> AtOnceEncoder<A> {
        AtOnceEncoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<Q> {
        ProstCodec::<A, Q>::raw_decoder(BufferSettings::default())
    }
}

struct AtOnceEncoder<A>(PhantomData<A>);

impl<A: Message + 'static> Encoder for AtOnceEncoder<A> {
    type Item = A;
    type Error = Status;

    fn encode(&mut self, answer: A, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(answer.encoded_len());
        answer.encode_raw(to);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
