//! The `read` scenario in small: that it runs to the end and says everything it is to say, of a server of its own and of
//! one that runs.

mod scenario;

use forebay_tests::{Bed, POINTS, Record, event_now};
use scenario::Run;

const SMALL: [&str; 6] = ["--seconds", "0.1", "--in-flight", "8", "--window", "32"];

/// What is said of every shape.
fn beside_echo(shape: &str) -> Vec<(String, &'static str)> {
    let figures = [
        ("unary", "tonic echo"),
        ("unary p50", "tonic echo"),
        ("unary p99", "tonic echo"),
        ("stream", "tonic stream echo"),
        ("stream over unary", "our unary"),
    ];
    figures.map(|(figure, peer)| (format!("{shape}: {figure}"), peer)).into()
}

fn beside_redis(shape: &str, peer: &'static str) -> Vec<(String, &'static str)> {
    let figures = ["unary", "unary p50, closed loop", "unary p99, closed loop", "stream"];
    figures.map(|figure| (format!("{shape}: {figure}"), peer)).into()
}

fn has_rows(run: &Run, wanted: &[(String, &'static str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(name, peer)| (name.as_str(), *peer)).collect();
    run.has_rows(&wanted);
}

#[test]
fn reads_of_every_shape_are_measured_beside_an_echo() {
    let run = Run::of(&[&["read", "--peer", "echo", "--entities", "150"][..], &SMALL].concat());
    let shapes = ["1 x 1 view", "1 x 10 views", "100 x 50 typed features"];
    has_rows(&run, &shapes.map(beside_echo).concat());
    for shape in shapes {
        assert!(run.report["data"]["answer_bytes"][shape].as_u64().is_some_and(|bytes| bytes > 100));
    }
}

#[test]
fn reads_of_payloads_are_measured_beside_redis() {
    let shapes = ["--shape", "one", "--shape", "ten", "--entities", "150"];
    let run = Run::of(&[&["read"][..], &shapes, &SMALL].concat());
    let one = [beside_echo("1 x 1 view"), beside_redis("1 x 1 view", "Redis GET")];
    let ten = [beside_echo("1 x 10 views"), beside_redis("1 x 10 views", "Redis MGET")];
    has_rows(&run, &[one.concat(), ten.concat()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_is_read() {
    let bed = Bed::new("a_server_that_runs_is_read").definitions(POINTS).start().await;
    let ids: Vec<String> = (0..20).map(|number| format!("entity-{number}")).collect();
    let record = |id: &String| Record::new("points", id.as_bytes(), format!(r#"{{"ts":{}}}"#, event_now()));
    let records: Vec<Record> = ids.iter().map(record).collect();
    let mut positions = Vec::new();
    for record in records {
        positions.push(bed.send(record).await);
    }
    bed.applied(&positions).await;
    let keys = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(keys.path(), ids.join("\n")).expect("written");
    let (target, keys) = (bed.server.grpc.clone(), keys.path().to_str().expect("UTF-8").to_owned());
    let run = tokio::task::spawn_blocking(move || {
        let of = ["read", "--target", &target, "--keys", &keys, "--view", "points", "--batch", "5"];
        Run::of(&[&of[..], &SMALL, &["--peer", "redis"]].concat())
    });
    let run = run.await.expect("no panic");
    has_rows(&run, &[beside_echo("5 x 1 view"), beside_redis("5 x 1 view", "Redis MGET")].concat());
    assert!(run.report["rows"][0]["ours_cpu_us"].is_null(), "not known of a server elsewhere");
}
