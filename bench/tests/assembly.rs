//! The `assembly` scenario in small: every request by Kafka is answered.

mod scenario;

use scenario::Run;

#[test]
fn requests_by_kafka_are_all_answered() {
    let small =
        ["--count", "4000", "--rate", "500", "--seconds", "2", "--entities", "100", "--partitions", "2"];
    for format in ["json", "typed"] {
        let run = Run::of(&[&["assembly", "--format", format][..], &small].concat());
        run.has_rows(&[
            ("answers", ""),
            ("request to answer at the rate, p50", ""),
            ("request to answer at the rate, p99", ""),
            ("sent behind the schedule, most", ""),
            ("CPU, broker", ""),
            ("CPU, server", ""),
            ("CPU, load", ""),
        ]);
        let bytes = run.report["data"]["answer_bytes"].as_u64();
        assert!(bytes.is_some_and(|bytes| bytes > 200), "the values are in the answers: {bytes:?}");
    }
}
