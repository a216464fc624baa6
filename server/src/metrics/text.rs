//! The text format of Prometheus: families, samples, histograms. Written by hand because every value is read from where
//! it is kept at the moment of the scrape; a registry would have to be kept in step with lanes and shards that come and
//! go. Knows nothing of what is measured.

use std::fmt::{Display, Write};

use hdrhistogram::Histogram;

/// Upper bounds of histogram buckets, in seconds.
const BUCKETS: [f64; 26] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 1.5e-2, 2.5e-2,
    3.5e-2, 5e-2, 7.5e-2, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0,
];

/// What kind of values a family has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A page in the making.
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn new() -> Page {
        Page(String::with_capacity(16 << 10))
    }

    /// Begins a family; its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// One sample.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.line(format_args!("{name}{} {value}", Labels(labels)));
    }

    /// The samples of one histogram whose values are `per_second` to a second.
    pub(crate) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram<u64>,
        per_second: f64,
    ) {
        let (mut counts, mut sum) = ([0_u64; BUCKETS.len()], 0.0);
        for step in histogram.iter_recorded() {
            let seconds = step.value_iterated_to() as f64 / per_second;
            sum += seconds * step.count_at_value() as f64;
            let first = BUCKETS.partition_point(|bound| *bound < seconds);
            counts[first..].iter_mut().for_each(|count| *count += step.count_at_value());
        }
        for (bound, count) in BUCKETS.iter().zip(counts) {
            self.bucket(name, labels, &bound.to_string(), count);
        }
        self.bucket(name, labels, "+Inf", histogram.len());
        self.line(format_args!("{name}_sum{} {sum}", Labels(labels)));
        self.line(format_args!("{name}_count{} {}", Labels(labels), histogram.len()));
    }

    fn bucket(&mut self, name: &str, labels: &[(&str, &str)], bound: &str, count: u64) {
        let all: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
        self.line(format_args!("{name}_bucket{} {count}", Labels(&all)));
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes every text");
    }

    /// The finished page.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

struct Labels<'l>(&'l [(&'l str, &'l str)]);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, value)) in self.0.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{before}{name}=\"{value}\"")?;
        }
        if self.0.is_empty() { Ok(()) } else { f.write_char('}') }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_with_their_labels_escaped() {
        let mut page = Page::new();
        page.family("a_total", Kind::Counter, "How many.");
        page.sample("a_total", &[], 1);
        page.sample("a_total", &[("x", "q\"b\\"), ("y", "2")], 0.5);
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\na_total 1\n\
                        a_total{x=\"q\\\"b\\\\\",y=\"2\"} 0.5\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn buckets_of_a_histogram_are_cumulative() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000, 3).expect("bounds");
        for value_ms in [1, 1, 3, 700, 400_000] {
            histogram.record(value_ms).expect("in bounds");
        }
        let mut page = Page::new();
        page.histogram("h", &[], &histogram, 1e3);
        let text = page.finish();
        for line in [
            "h_bucket{le=\"0.0005\"} 0",
            "h_bucket{le=\"0.001\"} 2",
            "h_bucket{le=\"0.005\"} 3",
            "h_bucket{le=\"1\"} 4",
            "h_bucket{le=\"300\"} 4",
            "h_bucket{le=\"+Inf\"} 5",
            "h_count 5",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in\n{text}");
        }
    }
}
