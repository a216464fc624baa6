//! StreamFeatures: matching, errors that end nothing, waiting beside others, bounds.

use std::pin::Pin;
use std::time::Duration;

use forebay_proto::v1::stream_features_response::Outcome;
use forebay_proto::v1::{StreamFeaturesRequest, StreamFeaturesResponse};
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::sync::watch;

use super::super::stream::Answers;
use super::*;

type Requests = mpsc::UnboundedReceiver<Result<StreamFeaturesRequest, Status>>;

struct Stream {
    requests: mpsc::UnboundedSender<Result<StreamFeaturesRequest, Status>>,
    answers: Pin<Box<Answers<Requests>>>,
    stop: watch::Sender<bool>,
}

impl Stream {
    fn of(bed: &Bed) -> Stream {
        let (requests, received) = mpsc::unbounded();
        let stop = watch::Sender::new(false);
        let answers = Answers::new(bed.context.clone(), received, Deadline::after_ms(0), stop.subscribe());
        Stream { requests, answers: Box::pin(answers), stop }
    }

    fn ask(&self, id: u64, request: GetFeaturesRequest, timeout_ms: u32) {
        let request = StreamFeaturesRequest { id, request: Some(request), timeout_ms };
        self.requests.unbounded_send(Ok(request)).expect("the stream is open");
    }

    async fn answer(&mut self) -> StreamFeaturesResponse {
        self.answers.next().await.expect("an answer").expect("no end")
    }

    fn is_silent(&mut self) -> bool {
        self.answers.next().now_or_never().is_none()
    }
}

fn waiting_for(entity: &str, offset: i64) -> GetFeaturesRequest {
    GetFeaturesRequest { wait_for: Some(vector("points", Bed::partition(entity), offset)), ..of(&[entity]) }
}

#[tokio::test]
async fn answers_have_the_ids_of_their_requests_and_an_error_ends_nothing() {
    let mut bed = Bed::new();
    bed.put("e", NOW, r#"{"i":1}"#);
    let mut stream = Stream::of(&bed);
    stream.ask(7, of(&["e"]), 0);
    stream.ask(7, of(&[]), 0);
    stream.ask(9, of(&["e"]), 0);
    assert!(matches!(
        stream.answer().await,
        StreamFeaturesResponse { id: 7, outcome: Some(Outcome::Response(_)) }
    ));
    let StreamFeaturesResponse { id: 7, outcome: Some(Outcome::Error(error)) } = stream.answer().await else {
        panic!("an error")
    };
    assert_eq!(error.code, tonic::Code::InvalidArgument as i32);
    assert_eq!(stream.answer().await.id, 9);
    stream.requests.close_channel();
    assert!(stream.answers.next().await.is_none());
}

#[tokio::test]
async fn a_request_that_waits_holds_no_other_up() {
    let mut bed = Bed::new();
    let mut stream = Stream::of(&bed);
    stream.ask(1, waiting_for("e", 0), 0);
    stream.ask(2, of(&["e"]), 0);
    assert_eq!(stream.answer().await.id, 2);
    assert!(stream.is_silent());
    bed.put("e", NOW, "{}");
    let StreamFeaturesResponse { id: 1, outcome: Some(Outcome::Response(response)) } = stream.answer().await
    else {
        panic!("the answer to 1")
    };
    assert_eq!(statuses(&response.views[0].status), [ValueStatus::Present]);
}

#[tokio::test]
async fn a_request_has_a_deadline_of_its_own() {
    let bed = Bed::new();
    let mut stream = Stream::of(&bed);
    stream.ask(1, waiting_for("e", 5), 20);
    let Some(Outcome::Response(response)) = stream.answer().await.outcome else { panic!("a response") };
    assert_eq!(statuses(&response.views[0].status), [ValueStatus::Unavailable]);
}

#[tokio::test]
async fn bad_47_a_stream_takes_no_more_than_its_share_of_waiting_requests() {
    let mut bed = Bed::new();
    let mut stream = Stream::of(&bed);
    for id in 0..300 {
        stream.ask(id, waiting_for("e", 0), 0);
    }
    stream.ask(300, of(&["e"]), 0);
    assert!(stream.is_silent(), "the 257th waits to be taken, and what is behind it too");
    bed.put("e", NOW, "{}");
    let mut ids = Vec::new();
    for _ in 0..=300 {
        ids.push(stream.answer().await.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..=300).collect::<Vec<_>>());
}

#[tokio::test]
async fn bad_43_a_stream_that_is_dropped_lets_go_of_everything() {
    let bed = Bed::new();
    let before = Arc::strong_count(&bed.context);
    let mut stream = Stream::of(&bed);
    stream.ask(1, waiting_for("e", 5), 0);
    assert!(stream.is_silent());
    drop(stream);
    assert_eq!(Arc::strong_count(&bed.context), before);
}

#[tokio::test]
async fn a_stop_ends_the_stream() {
    let bed = Bed::new();
    let mut stream = Stream::of(&bed);
    stream.ask(1, waiting_for("e", 5), 0);
    assert!(stream.is_silent());
    stream.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(10), stream.answers.next()).await.expect("it ends");
    assert_eq!(end.expect("a status").unwrap_err().code(), tonic::Code::Unavailable);
    assert!(stream.answers.next().await.is_none());
}

#[tokio::test]
async fn a_broken_stream_ends_after_what_waits_is_answered() {
    let mut bed = Bed::new();
    let mut stream = Stream::of(&bed);
    stream.ask(1, waiting_for("e", 0), 0);
    stream.requests.send(Err(Status::out_of_range("too large"))).await.unwrap();
    assert!(stream.is_silent());
    bed.put("e", NOW, "{}");
    assert_eq!(stream.answer().await.id, 1);
    assert_eq!(stream.answers.next().await.unwrap().unwrap_err().code(), tonic::Code::OutOfRange);
    assert!(stream.answers.next().await.is_none());
}
