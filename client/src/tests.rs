//! The client against servers in the process: routing, merging, replicas, retries, deadlines, streams.

use std::time::Duration;

use tokio::net::TcpListener;
use tonic::{Code, Status as Refusal};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::fake::{Fake, PARTITIONS};
use crate::{Client, ClientConfig, DataPoint, Error, Query, Rows, Status};

const ALL: [u32; PARTITIONS as usize] = [0, 1, 2, 3, 4, 5, 6, 7];

async fn client(servers: &[&Fake]) -> Client {
    let mut config = ClientConfig::new(servers.iter().map(|server| server.uri.clone()));
    config.retry.first_backoff = Duration::from_millis(2);
    config.retry.max_backoff = Duration::from_millis(10);
    Client::connect(config).await.expect("a client")
}

/// An address nobody listens on.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

fn entities(count: usize) -> Vec<String> {
    (0..count).map(|entity| format!("e-{entity}")).collect()
}

fn query(count: usize) -> Query {
    Query::new(entities(count)).whole_view("v").whole_view("w")
}

/// Every row has its own entity's value in both views.
fn assert_complete(rows: &Rows, count: usize) {
    assert_eq!(rows.len(), count);
    for (row, entity) in rows.iter().zip(entities(count)) {
        for view in ["v", "w"] {
            let json = row.json(view).map(|json| &json[..]);
            assert_eq!(json, Some(format!("{entity} {view}").as_bytes()), "{:?}", rows.unavailable());
        }
    }
    assert!(rows.unavailable().is_empty());
}

#[tokio::test]
async fn one_server_gets_the_request_as_it_is() {
    let server = Fake::start(&ALL).await;
    let rows = client(&[&server]).await.get(query(20)).await.expect("an answer");
    assert_complete(&rows, 20);
    assert_eq!(server.state.lock().reads, [query(20).request]);
}

#[tokio::test]
async fn each_entity_is_read_from_the_server_that_has_its_shard() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6, 7]).await);
    let rows = client(&[&a, &b]).await.get(query(200)).await.expect("an answer");
    assert_complete(&rows, 200);
    assert_eq!(a.entities_read() + b.entities_read(), 200, "nobody was asked for more than it has");
    assert_eq!((a.state.lock().reads.len(), b.state.lock().reads.len()), (1, 1));
}

#[tokio::test]
async fn a_failing_replica_is_replaced_by_the_other() {
    let (a, b) = (Fake::start(&ALL).await, Fake::start(&ALL).await);
    let client = client(&[&a, &b]).await;
    for refusal in [Refusal::unavailable("stopping"), Refusal::data_loss("damaged")] {
        a.state.lock().failures = vec![refusal.clone(); 2].into();
        for _ in 0..10 {
            assert_complete(&client.get(query(50)).await.expect("an answer"), 50);
        }
        a.state.lock().failures.clear();
    }
}

#[tokio::test]
async fn both_replicas_are_used() {
    let (a, b) = (Fake::start(&ALL).await, Fake::start(&ALL).await);
    let client = client(&[&a, &b]).await;
    for _ in 0..40 {
        client.get(query(1)).await.expect("an answer");
    }
    assert!(a.entities_read() > 0 && b.entities_read() > 0);
}

#[tokio::test]
async fn a_shard_that_moved_is_found_again() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6, 7]).await);
    let client = client(&[&a, &b]).await;
    a.state.lock().ready = ALL.to_vec();
    b.state.lock().ready = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), async {
        // Knowledge fetched just now is not fetched again at once: the first answers may miss the moved shards.
        while !client.get(query(100)).await.expect("an answer").unavailable().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("found");
    assert_complete(&client.get(query(100)).await.expect("an answer"), 100);
}

#[tokio::test]
async fn a_shard_nobody_has_is_unavailable_and_the_rest_is_answered() {
    let (a, b) = (Fake::start(&[0, 1, 2]).await, Fake::start(&[4, 5, 6, 7]).await);
    let rows = client(&[&a, &b]).await.get(query(200)).await.expect("an answer");
    assert_eq!(rows.unavailable().len(), 1, "{:?}", rows.unavailable());
    assert_eq!(rows.unavailable()[0].partition, 3);
    let missing = rows.iter().filter(|row| row.status("v") == Status::Unavailable).count();
    assert!(missing > 0 && missing < 100, "{missing}");
    assert!(rows.iter().all(|row| (row.status("w") == Status::Present) == row.json("w").is_some()));
}

#[tokio::test]
async fn a_server_that_claims_a_shard_it_refuses_is_asked_once() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6]).await);
    b.state.lock().claims = Some(vec![4, 5, 6, 7]);
    let rows = client(&[&a, &b]).await.get(query(100)).await.expect("an answer");
    assert_eq!(rows.unavailable()[0].reason, "not on this server");
    assert_eq!(b.state.lock().reads.len(), 1);
}

#[tokio::test]
async fn a_server_that_is_down_leaves_its_values_unavailable() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6, 7]).await);
    let client = client(&[&a, &b]).await;
    b.state.lock().failures = vec![Refusal::unavailable("stopping"); 100].into();
    let rows = client.get(query(100)).await.expect("the half that is there");
    assert_eq!(rows.unavailable().len(), 4);
    assert!(rows.unavailable()[0].reason.contains("stopping"), "{:?}", rows.unavailable());
}

#[tokio::test]
async fn reads_are_retried_and_a_wrong_request_is_not() {
    let server = Fake::start(&ALL).await;
    let client = client(&[&server]).await;
    server.state.lock().failures = vec![Refusal::unavailable("starting"); 3].into();
    assert_complete(&client.get(query(5)).await.expect("the fourth try"), 5);
    assert_eq!(server.state.lock().reads.len(), 4);
    let wrong = Query::new(["e"]).whole_view("nope");
    assert!(matches!(client.get(wrong).await, Err(Error::NotFound { .. })));
    assert_eq!(server.state.lock().reads.len(), 5);
    server.state.lock().failures = vec![Refusal::unavailable("down"); 10].into();
    let error = client.get(query(1)).await.expect_err("four tries, no more");
    assert!(matches!(&error, Error::Unavailable { message, .. } if message == "down"), "{error}");
}

fn busy(after: Duration) -> Refusal {
    let details = ErrorDetails::with_retry_info(Some(after));
    Refusal::with_error_details(Code::ResourceExhausted, "busy", details)
}

#[tokio::test]
async fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let server = Fake::start(&ALL).await;
    let client = client(&[&server]).await;
    let stream = client.stream(4);
    let after = Duration::from_millis(60);
    for over_a_stream in [false, true] {
        server.state.lock().failures = vec![busy(after)].into();
        let begun = std::time::Instant::now();
        let rows = match over_a_stream {
            true => stream.get(query(5)).await,
            false => client.get(query(5)).await,
        };
        assert_complete(&rows.expect("the second try"), 5);
        assert!(begun.elapsed() >= after, "{:?}", begun.elapsed());
    }
    assert_eq!(server.state.lock().reads.len(), 4);
    server.state.lock().failures = vec![busy(Duration::from_secs(3600))].into();
    let error = client.get(query(1)).await.expect_err("the deadline is before that");
    assert!(matches!(&error, Error::Overloaded { message, .. } if message == "busy"), "{error}");
}

#[tokio::test]
async fn where_one_replica_is_busy_the_other_is_asked_at_once() {
    let (a, b) = (Fake::start(&ALL).await, Fake::start(&ALL).await);
    let client = client(&[&a, &b]).await;
    a.state.lock().failures = vec![busy(Duration::from_secs(3600)); 10].into();
    for _ in 0..10 {
        assert_complete(&client.get(query(20)).await.expect("the other's answer"), 20);
    }
}

#[tokio::test]
async fn a_read_waits_for_a_server_that_is_not_there_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut config = ClientConfig::new([format!("http://{address}")]);
    config.retry.attempts = 1_000;
    config.retry.max_backoff = Duration::from_millis(5);
    let client = Client::connect(config).await.expect("a client");
    let read = tokio::spawn(async move { client.get(query(3)).await });
    let late = TcpListener::bind(address).await.expect("the same port");
    let _server = Fake::on(late, &ALL);
    assert_complete(&read.await.expect("no panic").expect("an answer"), 3);
}

#[tokio::test]
async fn every_read_has_a_deadline_and_keeps_it() {
    let server = Fake::start(&ALL).await;
    let client = client(&[&server]).await;
    client.get(query(1)).await.expect("an answer");
    assert!(server.state.lock().timeouts[0].is_some(), "grpc-timeout is sent");
    server.state.lock().black_hole = Some("e-0");
    let late = client.get(query(1).deadline(Duration::from_millis(50))).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded { .. })), "{late:?}");
}

#[tokio::test]
async fn a_push_is_retried_only_if_nothing_was_sent() {
    let server = Fake::start(&ALL).await;
    let point = || vec![DataPoint { view: "v".into(), ..DataPoint::default() }];
    let one = client(&[&server]).await;
    server.state.lock().failures = vec![Refusal::unavailable("perhaps written")].into();
    assert!(matches!(one.push(point()).await, Err(Error::Unavailable { .. })));
    assert_eq!(server.state.lock().pushes.len(), 1, "it may be written");
    let config = ClientConfig::new([nobody().await, server.uri.clone()]);
    let two = Client::connect(config).await.expect("one of them answers");
    for _ in 0..4 {
        two.push(point()).await.expect("the server that is there");
    }
    assert_eq!(server.state.lock().pushes.len(), 5);
}

#[tokio::test]
async fn a_deletion_goes_to_the_owners_in_parts() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6, 7]).await);
    let client = client(&[&a, &b]).await;
    let all = entities(50).into_iter().map(bytes::Bytes::from).collect();
    client.delete(all, vec!["v".into()], None).await.expect("deleted");
    let count = |server: &Fake| server.state.lock().deletions.iter().map(|d| d.entities.len()).sum::<usize>();
    assert!(count(&a) > 0 && count(&b) > 0);
    assert_eq!(count(&a) + count(&b), 50);
}

#[tokio::test]
async fn history_is_read_from_the_owner() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6, 7]).await);
    let client = client(&[&a, &b]).await;
    for entity in entities(20) {
        let request =
            crate::v1::GetHistoryRequest { entity: entity.into(), view: "v".into(), ..Default::default() };
        client.history(request, None).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_client_without_any_server_says_which_does_not_answer() {
    let (a, b) = (nobody().await, nobody().await);
    let error = Client::connect(ClientConfig::new([a.clone(), b])).await.expect_err("nobody is there");
    assert!(matches!(&error, Error::Unreachable { server, .. } if *server == a), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_stream_matches_many_answers_and_routes_as_calls_do() {
    let (a, b) = (Fake::start(&[0, 1, 2, 3]).await, Fake::start(&[4, 5, 6, 7]).await);
    let client = client(&[&a, &b]).await;
    let stream = client.stream(16);
    let reads = (1..100).map(|count| {
        let stream = &stream;
        async move { assert_complete(&stream.get(query(count)).await.expect("an answer"), count) }
    });
    futures::future::join_all(reads).await;
}

#[tokio::test]
async fn a_failed_request_leaves_its_stream_alone() {
    let server = Fake::start(&ALL).await;
    let client = client(&[&server]).await;
    let stream = client.stream(4);
    let wrong = stream.get(Query::new(["e"]).whole_view("nope")).await;
    assert!(matches!(wrong, Err(Error::NotFound { .. })), "{wrong:?}");
    server.state.lock().black_hole = Some("hole");
    let hole = Query::new(["hole"]).whole_view("v").deadline(Duration::from_millis(20));
    assert!(matches!(stream.get(hole).await, Err(Error::DeadlineExceeded { .. })));
    assert_complete(&stream.get(query(3)).await.expect("an answer"), 3);
}

#[tokio::test]
async fn a_broken_stream_fails_all_that_is_pending_and_the_next_request_opens_another() {
    let server = Fake::start(&ALL).await;
    let client = client(&[&server]).await;
    let stream = client.stream(4);
    server.state.lock().black_hole = Some("hole");
    let hole = stream.get(Query::new(["hole"]).whole_view("v"));
    let breaking = async {
        server.state.lock().failures.push_back(Refusal::new(Code::Aborted, "broken"));
        stream.get(query(1)).await
    };
    let (breaking, hole) = tokio::join!(breaking, hole);
    assert!(breaking.is_err() && hole.is_err(), "{breaking:?} {hole:?}");
    assert_complete(&stream.get(query(1)).await.expect("another stream answers"), 1);
}

#[tokio::test]
async fn at_most_the_agreed_number_is_in_flight() {
    let server = Fake::start(&ALL).await;
    server.state.lock().black_hole = Some("hole");
    let client = client(&[&server]).await;
    let stream = client.stream(1);
    let hole = stream.get(Query::new(["hole"]).whole_view("v").deadline(Duration::from_millis(60)));
    let waiting = stream.get(query(1).deadline(Duration::from_millis(20)));
    let (hole, waiting) = tokio::join!(hole, waiting);
    assert!(hole.is_err());
    let error = waiting.expect_err("its turn did not come");
    assert!(error.to_string().contains("in flight"), "{error}");
    assert_complete(&stream.get(query(1)).await.expect("the turn is free again"), 1);
}
