//! A tonic server that answers every call with the same bytes, unary and on a stream: the ceiling for a gRPC answer of
//! that size. The canned answer is an opaque `bytes` field, so nothing is looked up, assembled or encoded field by field.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Request and answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Blob {
    /// Anything.
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: Bytes,
}

/// The unary method.
pub const UNARY: &str = "/echo.Echo/Unary";
/// The bidirectional one.
pub const STREAM: &str = "/echo.Echo/Stream";
/// Sets the canned answer.
pub const PREPARE: &str = "/echo.Echo/Prepare";

/// Calls a unary method of an echo.
pub async fn call(channel: Channel, method: &'static str, bytes: Bytes) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Blob, Blob>::default();
    let path = http::uri::PathAndQuery::from_static(method);
    Ok(grpc.unary(Request::new(Blob { bytes }), path, codec).await?.into_inner().bytes)
}

/// Opens the stream of an echo.
pub async fn stream(
    channel: Channel,
    asked: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Blob>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Blob, Blob>::default();
    let path = http::uri::PathAndQuery::from_static(STREAM);
    let asked = Request::new(asked.map(|bytes| Blob { bytes }));
    Ok(grpc.streaming(asked, path, codec).await?.into_inner())
}

#[derive(Clone, Default)]
struct Echo {
    canned: Arc<std::sync::Mutex<Bytes>>,
}

impl Echo {
    fn answer(&self) -> Blob {
        Blob { bytes: self.canned.lock().expect("no panic while held").clone() }
    }
}

/// Serves on a free port, which it prints, until killed.
pub async fn serve() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    Ok({ server }.add_service(Echo::default()).serve_with_incoming(incoming).await?)
}

impl tonic::server::NamedService for Echo {
    const NAME: &'static str = "echo.Echo";
}

impl tonic::codegen::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        let codec = ProstCodec::<Blob, Blob>::default();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(codec);
            Ok(match request.uri().path() {
                STREAM => grpc.streaming(Duplex(echo), request).await,
                PREPARE => grpc.unary(Prepare(echo), request).await,
                _ => grpc.unary(Unary(echo), request).await,
            })
        })
    }
}

struct Unary(Echo);
struct Prepare(Echo);
struct Duplex(Echo);

impl tonic::server::UnaryService<Blob> for Unary {
    type Response = Blob;
    type Future = std::future::Ready<Result<Response<Blob>, Status>>;

    fn call(&mut self, _: Request<Blob>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.0.answer())))
    }
}

impl tonic::server::UnaryService<Blob> for Prepare {
    type Response = Blob;
    type Future = std::future::Ready<Result<Response<Blob>, Status>>;

    fn call(&mut self, request: Request<Blob>) -> Self::Future {
        *self.0.canned.lock().expect("no panic while held") = request.into_inner().bytes;
        std::future::ready(Ok(Response::new(Blob::default())))
    }
}

impl tonic::server::StreamingService<Blob> for Duplex {
    type Response = Blob;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Blob, Status>> + Send>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Blob>>) -> Self::Future {
        let echo = self.0.clone();
        let answers = request.into_inner().map(move |asked| asked.map(|_| echo.answer()));
        std::future::ready(Ok(Response::new(Box::pin(answers))))
    }
}
