//! Temporary: pace of reads against a tonic echo of the same bytes.
use super::super::serve;
use super::*;
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::feature_store_server::{FeatureStore, FeatureStoreServer};
use forebay_proto::v1::{
    DeleteFeaturesRequest, DeleteFeaturesResponse, Format, PushFeaturesRequest, PushFeaturesResponse,
};
use forebay_proto::v1::{StreamFeaturesRequest, StreamFeaturesResponse};
use futures::StreamExt;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::{Request, Response, Streaming};

struct Echo(GetFeaturesResponse);
#[tonic::async_trait]
impl FeatureStore for Echo {
    async fn get_features(
        &self,
        _r: Request<GetFeaturesRequest>,
    ) -> Result<Response<GetFeaturesResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
    type StreamFeaturesStream = futures::stream::BoxStream<'static, Result<StreamFeaturesResponse, Status>>;
    async fn stream_features(
        &self,
        _r: Request<Streaming<StreamFeaturesRequest>>,
    ) -> Result<Response<Self::StreamFeaturesStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn get_history(
        &self,
        _r: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn push_features(
        &self,
        _r: Request<PushFeaturesRequest>,
    ) -> Result<Response<PushFeaturesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn delete_features(
        &self,
        _r: Request<DeleteFeaturesRequest>,
    ) -> Result<Response<DeleteFeaturesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn unary(address: std::net::SocketAddr, request: GetFeaturesRequest, tasks: usize) -> f64 {
    let client = FeatureStoreClient::connect(format!("http://{address}")).await.unwrap();
    let until = Instant::now() + Duration::from_secs(4);
    let start = Instant::now();
    let runs = (0..tasks).map(|_| {
        let (mut c, r) = (client.clone(), request.clone());
        tokio::spawn(async move {
            let mut n = 0u64;
            while Instant::now() < until {
                c.get_features(r.clone()).await.unwrap();
                n += 1;
            }
            n
        })
    });
    let counts = futures::future::join_all(runs).await;
    counts.into_iter().map(|n| n.unwrap()).sum::<u64>() as f64 / start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn pace() {
    let mut bed = Bed::new();
    let body = format!("{{\"ts\":{NOW},\"s\":\"{}\"}}", "x".repeat(1000));
    bed.put("e", NOW, &body);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap();
    tokio::spawn(serve(bed.context.clone(), listener, futures::future::pending()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = listener.local_addr().unwrap();
    let echo = Echo(bed.read(of(&["e"])).await.unwrap());
    tokio::spawn(
        tonic::transport::Server::builder().add_service(FeatureStoreServer::new(echo)).serve_with_incoming(
            tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true)),
        ),
    );
    for round in 0..3 {
        for tasks in [1, 16] {
            let echo = unary(theirs, of(&["e"]), tasks).await;
            let own = unary(ours, of(&["e"]), tasks).await;
            println!(
                "round {round} tasks {tasks}: echo {echo:.0}/s, GetFeatures {own:.0}/s, ratio {:.2}",
                own / echo
            );
        }
        let mut client = FeatureStoreClient::connect(format!("http://{ours}")).await.unwrap();
        let (tx, rx) = futures::channel::mpsc::channel(256);
        let mut answers = client.stream_features(rx).await.unwrap().into_inner();
        let until = Instant::now() + Duration::from_secs(4);
        let sender = tokio::spawn(async move {
            use futures::SinkExt;
            let mut tx = tx;
            let mut id = 0;
            while Instant::now() < until {
                for _ in 0..64 {
                    tx.feed(StreamFeaturesRequest { id, request: Some(of(&["e"])), timeout_ms: 0 })
                        .await
                        .unwrap();
                    id += 1;
                }
            }
        });
        let start = Instant::now();
        let mut n = 0u64;
        while let Some(a) = answers.next().await {
            a.unwrap();
            n += 1;
        }
        sender.await.unwrap();
        println!("round {round}: stream {:.0}/s", n as f64 / start.elapsed().as_secs_f64());
        let mut t = Vec::new();
        for _ in 0..200_000 {
            let s = Instant::now();
            let r = bed.read(of(&["e"])).await;
            let e = s.elapsed();
            drop(r);
            t.push(e);
        }
        t.sort();
        println!("handler alone p50 {:?} p99 {:?}", t[100_000], t[198_000]);
        let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
        for k in &keys {
            bed.put(k, NOW, &body);
        }
        let refs: Vec<&str> = keys.iter().map(|k| k.as_str()).collect();
        let s = Instant::now();
        for _ in 0..2000 {
            bed.read(of(&refs)).await.unwrap();
        }
        println!("100 entities json {:?}", s.elapsed() / 2000);
        let typed = GetFeaturesRequest { format: Format::Typed as i32, ..of(&refs) };
        let s = Instant::now();
        for _ in 0..2000 {
            bed.read(typed.clone()).await.unwrap();
        }
        println!("100 entities typed {:?}", s.elapsed() / 2000);
    }
}
