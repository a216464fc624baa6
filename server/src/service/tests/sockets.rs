//! The services over real sockets: what only the transport can get wrong.

use std::time::Duration;

use forebay_proto::v1::StreamFeaturesRequest;
use forebay_proto::v1::admin_client::AdminClient;
use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::{
    DescribeViewsRequest, GetStatusRequest, ReloadDefinitionsRequest, ShardState as StateCode,
};
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::super::serve;
use super::*;
use crate::rest;

struct Served {
    channel: Channel,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Served {
    async fn new(bed: &Bed) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(serve(bed.context.clone(), listener, async {
            stopped.await.ok();
        }));
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        Served { channel: endpoint.connect().await.expect("connects"), stop, ended }
    }

    fn store(&self) -> FeatureStoreClient<Channel> {
        FeatureStoreClient::new(self.channel.clone())
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_streams_that_never_end() {
    let mut bed = Bed::new();
    bed.put("e", NOW, r#"{"i":1}"#);
    let served = Served::new(&bed).await;
    let ask = StreamFeaturesRequest { id: 1, request: Some(of(&["e"])), timeout_ms: 0 };
    let requests = futures::stream::iter([ask]).chain(futures::stream::pending());
    let mut answers = served.store().stream_features(requests).await.expect("a stream").into_inner();
    assert_eq!(answers.next().await.expect("an answer").expect("no end").id, 1);
    let mut health = HealthClient::new(served.channel.clone());
    let _watch = health.watch(HealthCheckRequest::default()).await.expect("an endless stream");
    served.stop.send(()).expect("it listens");
    let ended = tokio::time::timeout(Duration::from_secs(10), served.ended).await.expect("it ends");
    ended.expect("no panic").expect("no error");
    let end = tokio::time::timeout(Duration::from_secs(10), answers.next()).await.expect("the stream ends");
    assert_eq!(end.expect("a status").unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn health_follows_readiness() {
    let bed = Bed::new();
    bed.context.lanes[1].publish(Arc::new(ShardHandle::new(0, None, Vec::new(), ShardState::Ready)));
    let served = Served::new(&bed).await;
    let mut health = HealthClient::new(served.channel.clone());
    let request = HealthCheckRequest { service: "forebay.v1.FeatureStore".into() };
    let mut watch = health.watch(request).await.expect("a stream").into_inner();
    let mut until = async |wanted: ServingStatus| {
        while watch.next().await.expect("it goes on").expect("no error").status() != wanted {}
    };
    let within = Duration::from_secs(20);
    tokio::time::timeout(within, until(ServingStatus::Serving)).await.expect("ready");
    bed.shard("e").set_state(ShardState::Halted("the log was recreated".into()));
    tokio::time::timeout(within, until(ServingStatus::NotServing)).await.expect("not ready");
}

#[tokio::test]
async fn p03_a_damaged_value_fails_the_call_and_names_the_place() {
    let mut bed = Bed::new();
    let needle = b"a value that is looked for in the files";
    bed.put("e", NOW, &format!("{{\"s\":\"{}\"}}", String::from_utf8_lossy(needle)));
    let dir = bed._dir.path().join(Bed::partition("e").to_string());
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir).expect("the shard's directory") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        for at in bytes.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(at, _)| at) {
            let file = std::fs::OpenOptions::new().write(true).open(&path).expect("writable");
            std::os::unix::fs::FileExt::write_all_at(&file, b"X", at as u64).expect("written");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the value is in a file");
    let status = bed.read(of(&["x", "e"])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss);
    assert!(status.message().contains("damaged at byte"), "{}", status.message());
}

#[tokio::test]
async fn status_views_and_a_reload_are_told() {
    let mut bed = Bed::new();
    let offset = bed.put("e", NOW, "{}");
    let file = bed._dir.path().join("definitions.toml");
    std::fs::write(&file, DEFINITIONS.replace("name = \"b\"\n", "name = \"bee\"\n")).expect("written");
    let context = Arc::get_mut(&mut bed.context).expect("nobody else has it");
    Arc::get_mut(&mut context.config).expect("nor this").server.definitions = file.clone();
    let served = Served::new(&bed).await;
    let mut admin = AdminClient::new(served.channel.clone());

    let status = admin.get_status(GetStatusRequest::default()).await.expect("status").into_inner();
    let [main, away] = &status.lanes[..] else { panic!("{status:?}") };
    assert_eq!((main.partitions, main.shards.len(), away.shards.len()), (PARTITIONS, 4, 0));
    let shard = &main.shards[Bed::partition("e") as usize];
    assert_eq!((shard.state(), shard.keys, shard.topics[0].applied_offset), (StateCode::Ready, 1, offset));
    let unknown = GetStatusRequest { lane: "mian".into(), explain: false };
    assert!(admin.get_status(unknown).await.unwrap_err().message().contains("did you mean \"main\"?"));

    let views = admin.describe_views(DescribeViewsRequest::default()).await.expect("views").into_inner();
    let points = &views.views[0];
    assert_eq!(
        (points.name.as_str(), points.event_time.as_str(), points.history.as_str()),
        ("points", "path ts", "full")
    );
    assert_eq!(
        (points.fields[4].default_json.as_str(), points.fields[3].path.as_str()),
        ("true", "inner.deep")
    );
    assert_eq!(views.feature_services[1].features, ["points.s", "points.i"]);

    for (dry_run, first_field) in [(true, "b"), (false, "bee")] {
        let reload =
            admin.reload_definitions(ReloadDefinitionsRequest { dry_run }).await.expect("compatible");
        assert!(!reload.into_inner().changes.is_empty());
        let views = admin.describe_views(DescribeViewsRequest { views: vec!["points".into()] }).await;
        assert_eq!(views.expect("views").into_inner().views[0].fields[4].name, first_field);
    }
    std::fs::write(&file, DEFINITIONS.replace("partitioner", "x").replace("id = 1", "id = 9"))
        .expect("written");
    let refused = admin.reload_definitions(ReloadDefinitionsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{}", refused.message());
    std::fs::write(&file, "[[lane]\n").expect("written");
    let refused = admin.reload_definitions(ReloadDefinitionsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{}", refused.message());
}

/// Code and body of a GET.
async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(address).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("readable");
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (code, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[tokio::test]
async fn probes_and_metrics_are_served_and_stop() {
    let mut bed = Bed::new();
    bed.put("e", NOW, "{}");
    bed.main().counters.applied.fetch_add(3, Ordering::Relaxed);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(rest::serve(bed.context.clone(), listener, async {
        stopped.await.ok();
    }));
    assert_eq!(get(address, "/healthz").await, (200, "alive\n".into()));
    let (code, body) = get(address, "/readyz").await;
    assert!(code == 503 && body.contains("lane away: the consumer group has given"), "{code} {body}");
    assert_eq!(get(address, "/readyz?lane=main").await.0, 200);
    assert_eq!(get(address, "/readyz?lane=nope").await.0, 404);
    let (_, text) = get(address, "/metrics").await;
    for line in [
        "forebay_applied_total{lane=\"main\"} 3",
        "forebay_ready{lane=\"main\"} 1",
        &format!(
            "forebay_shard_state{{lane=\"main\",partition=\"{}\",state=\"READY\"}} 1",
            Bed::partition("e")
        ),
        &format!(
            "forebay_applied_offset{{lane=\"main\",partition=\"{}\",topic=\"points\"}} 0",
            Bed::partition("e")
        ),
        "forebay_freshness_seconds_count{lane=\"main\"} 0",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
    }
    stop.send(()).expect("it listens");
    tokio::time::timeout(Duration::from_secs(10), ended)
        .await
        .expect("it ends")
        .expect("no panic")
        .expect("fine");
}
