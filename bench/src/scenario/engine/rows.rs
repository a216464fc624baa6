//! Which figures of the sides become which rows, and what is to be reached.

use super::Figures;
use crate::report::{Row, Sample};

/// A row for each peer that has the figure; one without a peer if none has.
struct Wanted {
    figure: &'static str,
    name: &'static str,
    unit: &'static str,
    goal: &'static str,
    /// Who our side measured in turns with itself.
    against: Option<&'static str>,
}

const fn against(
    figure: &'static str,
    name: &'static str,
    unit: &'static str,
    goal: &'static str,
    other: &'static str,
) -> Wanted {
    Wanted { against: Some(other), ..wanted(figure, name, unit, goal) }
}

const fn wanted(figure: &'static str, name: &'static str, unit: &'static str, goal: &'static str) -> Wanted {
    Wanted { figure, name, unit, goal, against: None }
}

const WANTED: &[Wanted] = &[
    wanted("put", "put, new keys", "1/s", ">= 8x"),
    wanted("update", "update", "1/s", ">= 8x"),
    wanted("get", "get, hot", "1/s", ">= 5x"),
    wanted("get_many", "batch get of 10 views", "1/s", ">= 8x"),
    wanted("get_cold", "get, cold", "1/s", ""),
    wanted("get_cold_p99_us", "get, cold, p99", "µs", ""),
    wanted("as_of", "as of, a week of 2016", "1/s", ""),
    wanted("as_of_p50_us", "as of, p50", "µs", "< 10"),
    wanted("as_of_p99_us", "as of, p99", "µs", ""),
    wanted("index_per_key", "index RAM per key", "B", "<= 16"),
    wanted("memory_mib", "RAM beside files, after reads", "MiB", ""),
    wanted("disk_per_raw", "disk per raw byte", "B/B", ""),
    wanted("written_per_raw", "written per raw byte", "B/B", ""),
    wanted("tight_update", "update, thinning", "1/s", ""),
    wanted("tight_written_per_raw", "written per raw byte, thinning", "B/B", ""),
    wanted("tight_written_per_stored", "write amplification, thinning", "B/B", "<= 1.4"),
    wanted("tight_use", "current bytes per byte of disk, thinning", "B/B", ">= 0.6"),
    wanted("stall_p999_us", "put call, p99.9", "µs", "< 5000"),
    wanted("stall_max_us", "put call, slowest", "µs", ""),
    wanted("burst_p999_us", "243 k/s: arrival to readable, p99.9", "µs", "< 5000"),
    wanted("burst_max_us", "243 k/s: arrival to readable, slowest", "µs", ""),
    wanted("expiry_cpu_us", "expiry, CPU per data point", "µs", ""),
    wanted("expiry_written_per_freed", "expiry, written per byte freed", "B/B", ""),
    wanted("read_p99_thin", "get p99, thinning over quiet", "x", "<= 1.1"),
    wanted("read_p99_expire", "get p99, expiry over quiet", "x", "<= 1.1"),
    wanted("read_p99_checkpoint", "get p99, checkpoint over quiet", "x", "<= 1.1"),
    wanted("open_crashed_s", "open after a crash, files cached", "s", ""),
    wanted("open_closed_s", "open after a close, files cached", "s", ""),
    wanted("open_cold_s", "open after a close, cold", "s", ""),
    wanted("rebuild", "index rebuilt, entries per core", "1/s", ">= 8 M"),
    wanted("rebuild_wall", "index rebuilt, entries", "1/s", ""),
    wanted("open_closed_wall", "opened after a close, entries", "1/s", ">= 5 M"),
    against("encode", "coding with validation", "1/s", ">= 3x", "parse + zstd"),
    against("encode_us", "coding with validation, 1 KB", "µs", "<= 0.7", "parse + zstd"),
    against("decode_us", "decoding, 1 KB", "µs", "<= 0.6", "zstd"),
    against("field_us", "one field of a stored payload", "µs", "<= 0.1", "unzstd + sonic"),
    against("stored_per_raw", "stored per raw byte of payload", "B/B", "<= 0.2", "zstd"),
];

/// The rows of rounds of sides, ours first.
pub fn rows(names: &[&'static str], rounds: &[Vec<Figures>]) -> Vec<Row> {
    let mut rows = Vec::new();
    for wanted in WANTED {
        let sample = |side: usize, figure: &str| -> Vec<Sample> {
            rounds.iter().filter_map(|round| round[side].get(figure).copied()).collect()
        };
        let of = |side| sample(side, wanted.figure);
        let ours = of(0);
        let stores = (1..names.len()).map(|side| (names[side], of(side)));
        let others = wanted.against.map(|other| (other, sample(0, &format!("{}@{other}", wanted.figure))));
        let peers: Vec<_> = stores.chain(others).filter(|(_, samples)| samples.len() == ours.len()).collect();
        if ours.is_empty() {
            continue;
        }
        let row = |peer: &str, samples: &[Sample]| {
            let pairs: Vec<_> = ours.iter().copied().zip(samples.iter().copied()).collect();
            Row::new(wanted.name, wanted.unit, peer, &pairs).goal(wanted.goal)
        };
        rows.extend(peers.iter().map(|(name, samples)| row(name, samples)));
        if peers.is_empty() {
            rows.push(row("", &vec![Sample { value: f64::NAN, cpu_us: f64::NAN }; ours.len()]));
        }
    }
    rows
}
