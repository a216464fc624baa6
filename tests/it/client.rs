//! The client crate against real servers: it asks each entity of the server that has it, in one answer, and goes on when
//! shards move.

use anyhow::ensure;
use forebay_client::{Client, ClientConfig, DataPoint, Query};
use forebay_tests::{Bed, Server, Status, event_now, eventually};

use crate::group::{second, shared_out};

const PARTITIONS: i32 = 4;

async fn client(servers: &[&Server]) -> Client {
    let urls = servers.iter().map(|server| format!("http://{}", server.grpc));
    Client::connect(ClientConfig::new(urls)).await.expect("connects")
}

fn points(keys: &[String], i: i64) -> Vec<DataPoint> {
    let json = format!(r#"{{"ts":{},"i":{i}}}"#, event_now());
    let point = |key: &String| DataPoint {
        entity: key.clone().into(),
        view: "points".into(),
        json: json.clone().into(),
        ..DataPoint::default()
    };
    keys.iter().map(point).collect()
}

fn query(keys: &[String]) -> Query {
    Query::new(keys).view("points", ["i"]).typed()
}

/// Panics unless every key has this value, in request order.
fn all_are(rows: &forebay_client::Rows, keys: &[String], i: i64) {
    let values: Vec<_> = rows.iter().map(|row| row.i64("points.i")).collect();
    assert_eq!(values, vec![Some(i); keys.len()], "{:?}", rows.unavailable());
}

#[tokio::test]
async fn one_request_is_answered_by_the_servers_that_have_the_shards() {
    let bed = Bed::new("client_routes").partitions(PARTITIONS).start().await;
    let mut two = second(&bed).await;
    shared_out(&bed.client, &two.connect().await).await;
    let client = client(&[&bed.server, &two]).await;
    let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    for i in 0..10 {
        let receipt = client.push(points(&keys, i)).await.expect("pushed");
        let rows = client.get(query(&keys).read_your_writes(&receipt)).await.expect("an answer");
        all_are(&rows, &keys, i);
    }
    let stream = client.stream(16);
    let reads = (0..200).map(|_| stream.get(query(&keys)));
    for rows in futures::future::join_all(reads).await {
        all_are(&rows.expect("an answer"), &keys, 9);
    }
    // The second goes: its shards come back to the first, and the client finds them there.
    assert_eq!(two.terminate().await, 0);
    eventually("all are read again", || async {
        let rows = client.get(query(&keys)).await?;
        let status: Vec<Status> = rows.iter().map(|row| row.status("points.i")).collect();
        ensure!(status.iter().all(|status| *status == Status::Present), "{:?}", rows.unavailable());
        Ok(())
    })
    .await;
    let receipt = client.push(points(&keys, 77)).await.expect("pushed");
    all_are(&client.get(query(&keys).read_your_writes(&receipt)).await.expect("an answer"), &keys, 77);
}

#[tokio::test]
async fn p10_with_a_token_no_read_goes_backward_while_shards_move() {
    let bed = Bed::new("client_moves").partitions(PARTITIONS).start().await;
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    let client = client(&[&bed.server]).await;
    let mut two = None;
    for i in 0..30 {
        match i {
            5 => two = Some(second(&bed).await),
            20 => drop(two.take()),
            _ => {}
        }
        let receipt = client.push(points(&keys, i)).await.expect("pushed");
        // Shards on their way are UNAVAILABLE; what is there is never older than what was written.
        let rows = client.get(query(&keys).read_your_writes(&receipt)).await.expect("an answer");
        for row in rows.iter() {
            let (status, value) = (row.status("points.i"), row.i64("points.i"));
            assert!(status == Status::Unavailable || value == Some(i), "{status:?} {value:?}, not {i}");
        }
    }
}
