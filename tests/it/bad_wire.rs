//! Connections that do not behave: garbage, other protocols, thousands that do nothing, streams nobody reads. Everybody
//! else is still served.

use std::net::TcpStream;

use anyhow::ensure;
use forebay_tests::{Bed, Record, Status, event_now, eventually, heavy, request, throw, v1};
use futures::StreamExt;
use rand::RngCore;

use crate::shared::bed;

#[tokio::test]
async fn bad_45_garbage_frames() {
    let bed = bed().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for round in 0..50_usize {
        let mut garbage = vec![0; 1 + round * 37];
        rand::rng().fill_bytes(&mut garbage);
        throw(&bed.server.grpc, garbage.clone()).await;
        throw(&bed.server.grpc, [preface, &garbage[..]].concat()).await;
        throw(&bed.server.grpc, [preface, &settings[..], &garbage[..]].concat()).await;
        throw(&bed.server.http, garbage).await;
    }
    assert_eq!(bed.get("points", b"e").await.status, Status::NotFound);
    assert_eq!(bed.server.http_get("/healthz").await.expect("it answers").0, 200);
}

#[tokio::test]
async fn bad_45_http1_and_tls_to_the_plaintext_port() {
    let bed = bed().await;
    throw(&bed.server.grpc, b"GET / HTTP/1.1\r\nHost: it\r\n\r\n".to_vec()).await;
    // The beginning of a TLS 1.2 ClientHello.
    throw(&bed.server.grpc, vec![0x16, 0x03, 0x01, 0x00, 0x2e, 0x01, 0x00, 0x00, 0x2a, 0x03, 0x03]).await;
    assert_eq!(bed.get("points", b"e").await.status, Status::NotFound);
    for (method, path) in [("GET", "/nope"), ("GET", "/%00"), ("GET", "/../etc/passwd")] {
        let (code, _) = forebay_tests::http(&bed.server.http, method, path).await;
        assert!((400..500).contains(&code), "{method} {path}: {code}");
    }
    assert_eq!(forebay_tests::http(&bed.server.http, "POST", "/metrics").await.0, 405);
}

#[tokio::test]
async fn bad_46_ten_thousand_idle_connections() {
    let _permit = heavy().await;
    let bed = Bed::new("bad_46").start().await;
    // 10,000 where the limit of open files allows, in this process and in the server's.
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let raised = rustix::process::Rlimit { current: Some(allowed.min(65_536)), maximum: Some(allowed) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("up to the maximum");
    let count = allowed.saturating_sub(600).min(10_000) as usize;
    println!("{count} idle connections");
    assert!(count >= 1000, "the limit of open files is {allowed}");
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let address = bed.server.grpc.clone();
        idle.push(tokio::task::spawn_blocking(move || TcpStream::connect(address)).await.expect("no panic"));
    }
    let connected = idle.iter().filter(|socket| socket.is_ok()).count();
    assert_eq!(connected, count);
    let ts = event_now();
    bed.put(Record::new("points", b"k", format!(r#"{{"ts":{ts}}}"#))).await;
    let fresh = bed.server.connect().await;
    let answer = fresh.store.clone().get_features(request("points", &[b"k"])).await.expect("an answer");
    assert_eq!(
        answer.get_ref().views[0].status,
        [Status::Present as i32],
        "a new client among {count} idle ones"
    );
}

#[tokio::test]
async fn bad_47_a_slow_reader_holds_up_only_itself() {
    let _permit = heavy().await;
    let bed = Bed::new("bad_47").start().await;
    let keys: Vec<String> = (0..100).map(|i| format!("k{i}")).collect();
    let payload = format!(r#"{{"ts":{},"s":"{}"}}"#, event_now(), "x".repeat(15_000));
    bed.send_all(keys.iter().map(|key| Record::new("points", key.as_bytes(), payload.clone()))).await;
    bed.settled().await;
    let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let asked = request("points", &names);
    let before = bed.server.resident_bytes(bed.server.pid());
    // 2,000 answers of 1.5 MB, and nobody reads them.
    let requests: Vec<_> = (0..2000)
        .map(|id| v1::StreamFeaturesRequest { id, request: Some(asked.clone()), timeout_ms: 0 })
        .collect();
    let slow = bed.server.connect().await;
    let answers = slow.store.clone().stream_features(tokio_stream::iter(requests)).await.expect("a stream");
    let mut answers = answers.into_inner();
    let first = answers.message().await.expect("an answer").expect("an answer");
    assert!(first.id < 2000);
    for _ in 0..200 {
        assert_eq!(bed.get("points", b"k7").await.status, Status::Present, "others are served");
    }
    let grown = bed.server.resident_bytes(bed.server.pid()).saturating_sub(before);
    assert!(grown < 512 << 20, "3 GB of answers wait for a reader; {grown} bytes of them in memory");
    let mut seen = vec![false; 2000];
    seen[first.id as usize] = true;
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("an answer");
        let Some(v1::stream_features_response::Outcome::Response(_)) = answer.outcome else {
            panic!("{answer:?}")
        };
        assert!(!std::mem::replace(&mut seen[answer.id as usize], true), "{} twice", answer.id);
    }
    assert!(seen.iter().all(|seen| *seen), "every request is answered in the end");
    eventually("its memory is given back", || async {
        let grown = bed.server.resident_bytes(bed.server.pid()).saturating_sub(before);
        ensure!(grown < 512 << 20, "{grown}");
        Ok(())
    })
    .await;
}
