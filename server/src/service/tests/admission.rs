//! Bounds on reads: what is past them is refused at once with a hint, and what is within them is answered.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use forebay_proto::v1::feature_store_client::FeatureStoreClient;
use forebay_proto::v1::stream_features_response::Outcome;
use forebay_proto::v1::{GetFeaturesRequest, StreamFeaturesRequest};
use futures::{FutureExt, StreamExt};
use http_body::Body as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use super::super::admission::{Bounded, Shed};
use super::super::stream::Answers;
use super::super::{Limits, serve};
use super::*;

const READ: &str = "/forebay.v1.FeatureStore/GetFeatures";

fn waiting_for(entity: &str, offset: i64) -> GetFeaturesRequest {
    GetFeaturesRequest { wait_for: Some(vector("points", Bed::partition(entity), offset)), ..of(&[entity]) }
}

async fn served(bed: &Bed) -> FeatureStoreClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(bed.context.clone(), listener, std::future::pending()));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    FeatureStoreClient::new(endpoint.connect().await.expect("connects"))
}

/// That it is refused for now, and says when to try again.
fn assert_busy(refused: &Status) {
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    let after = refused.get_details_retry_info().and_then(|info| info.retry_delay).expect("a hint");
    assert!(after >= Duration::from_millis(20) && after <= Duration::from_secs(2), "{after:?}");
    assert!(refused.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn reads_past_the_bound_are_refused_until_there_is_room() {
    let mut bed = Bed::configured("[read]\nmax_in_flight = 2\n");
    bed.put("e", NOW, r#"{"i":1}"#);
    let client = served(&bed).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.get_features(waiting_for("e", 1)).await })
        })
        .collect();
    let admission = bed.context.admission.clone();
    while admission.in_flight() < 2 {
        tokio::task::yield_now().await;
    }
    assert_busy(&client.clone().get_features(of(&["e"])).await.expect_err("no room"));
    assert_eq!((admission.shed(Shed::InFlight), admission.in_flight()), (1, 2));
    bed.put("e", NOW + 1, r#"{"i":2}"#);
    for waiting in waiting {
        waiting.await.expect("no panic").expect("what was taken in is answered");
    }
    client.clone().get_features(of(&["e"])).await.expect("room again");
    assert_eq!((admission.in_flight(), admission.unsent_bytes()), (0, 0));
}

#[tokio::test]
async fn a_stream_may_have_no_more_waiting_than_there_is_room_for() {
    let mut bed = Bed::configured("[read]\nmax_in_flight = 1\n");
    bed.put("e", NOW, r#"{"i":1}"#);
    let (asked, received) = futures::channel::mpsc::unbounded();
    let stop = watch::Sender::new(false);
    let mut answers =
        Box::pin(Answers::new(bed.context.clone(), received, Deadline::after_ms(0), stop.subscribe()));
    for (id, request) in [(1, waiting_for("e", 1)), (2, waiting_for("e", 1)), (3, of(&["e"]))] {
        let request = StreamFeaturesRequest { id, request: Some(request), timeout_ms: 0 };
        asked.unbounded_send(Ok(request)).expect("it is open");
    }
    let mut next = async || answers.next().await.expect("an answer").expect("no end");
    let refused = next().await;
    let Some(Outcome::Error(error)) = refused.outcome else { panic!("{refused:?}") };
    assert_eq!((refused.id, error.code), (2, tonic::Code::ResourceExhausted as i32));
    assert!(error.retry_after_ms >= 20, "{error:?}");
    assert_eq!(next().await.id, 3, "what need not wait is answered");
    bed.put("e", NOW + 1, r#"{"i":2}"#);
    let waited = next().await;
    assert!(waited.id == 1 && matches!(waited.outcome, Some(Outcome::Response(_))), "{waited:?}");
    assert_eq!(bed.context.admission.in_flight(), 0);
}

/// Services that answer every call with so many bytes.
#[derive(Clone)]
struct Large(usize);

/// A body of one piece.
struct Piece(Option<Bytes>);

impl http_body::Body for Piece {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Task<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

impl Service<http::Request<Body>> for Large {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<http::Response<Body>, std::convert::Infallible>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let body = Body::new(Piece(Some(vec![b'x'; self.0].into())));
        std::future::ready(Ok(http::Response::new(body)))
    }
}

fn limits(unsent_bytes: u64, queue: Duration) -> Limits {
    Limits { in_flight: 100, unsent_bytes, queue }
}

fn call(
    services: &mut Bounded<Large>,
    path: &str,
    timeout: &str,
) -> impl Future<Output = http::Response<Body>> {
    let request = http::Request::builder().uri(path).header("grpc-timeout", timeout);
    let call = services.call(request.body(Body::empty()).expect("a request"));
    async move { call.await.expect("it does not fail") }
}

/// What an answer refuses with, if it does.
fn refusal(answer: &http::Response<Body>) -> Option<Status> {
    Status::from_header_map(answer.headers()).filter(|status| status.code() != tonic::Code::Ok)
}

#[tokio::test]
async fn bytes_of_answers_count_until_they_are_sent_and_past_the_bound_reads_are_refused() {
    let admission = Admission::new(limits(100_000, Duration::from_secs(60)));
    let mut services = Bounded::new(Large(60_000), admission.clone());
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = call(&mut services, READ, "1H").await;
        assert!(refusal(&answer).is_none());
        answers.push(answer.into_body());
    }
    assert_eq!((admission.unsent_bytes(), admission.in_flight()), (120_000, 0), "nobody has taken them");
    assert_busy(&refusal(&call(&mut services, READ, "1H").await).expect("refused"));
    assert!(refusal(&call(&mut services, "/forebay.v1.Admin/GetStatus", "1H").await).is_none());
    let mut body = answers.pop().expect("two");
    let frame = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await.expect("one").expect("no error");
    let bytes = frame.into_data().expect("data");
    assert_eq!((bytes.len(), admission.unsent_bytes()), (60_000, 120_000), "taken, but not sent");
    drop(bytes);
    assert_eq!(admission.unsent_bytes(), 60_000);
    assert!(refusal(&call(&mut services, READ, "1H").await).is_none());
    drop(answers);
    assert_eq!((admission.unsent_bytes(), admission.shed(Shed::Unsent)), (0, 1));
}

#[tokio::test]
async fn a_read_whose_turn_comes_too_late_is_not_begun() {
    let admission = Admission::new(limits(100_000, Duration::ZERO));
    let mut services = Bounded::new(Large(10), admission.clone());
    assert_busy(&refusal(&call(&mut services, READ, "1H").await).expect("it waited longer than not at all"));
    assert_eq!(admission.shed(Shed::Queue), 1);
    let late = refusal(&call(&mut services, READ, "1n").await).expect("refused");
    assert_eq!((late.code(), admission.shed(Shed::Deadline)), (tonic::Code::DeadlineExceeded, 1));
    assert!(call(&mut services, "/forebay.v1.FeatureStore/PushFeatures", "1H").now_or_never().is_some());
    assert_eq!(admission.in_flight(), 0);
}
