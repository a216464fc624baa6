//! The `ingest` and `triggers` scenarios in small: that they run to the end and say everything they are to say.

mod scenario;

use scenario::Run;

const SMALL: [&str; 6] = ["--count", "20000", "--partitions", "2", "--scale", "20000"];

#[test]
fn ingest_is_measured_beside_raw_consumption() {
    let run = Run::of(&[&["ingest", "--peer", "raw"][..], &SMALL].concat());
    run.has_rows(&[
        ("applied and durable", "raw consume"),
        ("JSON applied and durable", "raw consume"),
        ("CPU per data point", "raw consume"),
        ("broker's CPU per data point", "raw consume"),
        ("written per raw byte", ""),
    ]);
    let data = &run.report["data"];
    assert_eq!((&data["data_points"], &data["triggers_a_view"]), (&20_000.into(), &2.into()));
    assert!(data["edges"].as_f64().is_some_and(|edges| edges > 0.0), "triggers were judged: {data}");
}

#[test]
fn ingest_of_the_standard_lane_is_measured_beside_a_copy_to_redis() {
    let run = Run::of(&[&["ingest", "--peer", "redis", "--lane", "standard"][..], &SMALL].concat());
    run.has_rows(&[
        ("applied and durable", "Kafka to Redis"),
        ("CPU per data point", "Kafka to Redis"),
        ("broker's CPU per data point", "Kafka to Redis"),
        ("written per raw byte", ""),
    ]);
    let data = &run.report["data"];
    assert!(data["edges"].as_f64().is_some_and(|edges| edges > 0.0), "triggers were judged: {data}");
    assert!(data["redis_version"].as_str().is_some_and(|version| !version.is_empty()), "{data}");
}

#[test]
fn triggers_are_measured_beside_none() {
    let run = Run::of(&[&["triggers"][..], &SMALL].concat());
    run.has_rows(&[
        ("two fast triggers a view", "no triggers"),
        ("one interpreted rule a view", "no triggers"),
    ]);
}
