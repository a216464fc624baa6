//! A page of `/metrics`, read: sums of samples, histograms and what was added to them between two pages.

use std::collections::BTreeMap;

use anyhow::ensure;

/// The samples of a page, by name with labels.
#[derive(Debug, Clone, Default)]
pub struct Page(BTreeMap<String, f64>);

/// Counts by upper bound in ms, not cumulative; the last bound is infinity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets(Vec<(f64, f64)>);

impl Page {
    /// Asks `host:port`.
    pub async fn get(http: &str) -> anyhow::Result<Page> {
        let (code, text) = forebay_tests::http(http, "GET", "/metrics").await;
        ensure!(code == 200, "{http}/metrics answers {code}");
        Ok(Page::parse(&text))
    }

    fn parse(text: &str) -> Page {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Page(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Samples of a name whose labels have this text, if there are any.
    fn of<'p>(&'p self, name: &'p str, label: &'p str) -> impl Iterator<Item = (&'p str, f64)> {
        let named = move |labels: &str| labels.is_empty() || labels.starts_with('{');
        let all = self.0.range(name.to_owned()..).take_while(move |(found, _)| found.starts_with(name));
        let all = all.map(move |(found, value)| (&found[name.len()..], *value));
        all.filter(move |(labels, _)| named(labels) && labels.contains(label))
    }

    /// All samples of a name together; nothing if there are none.
    pub fn find(&self, name: &str) -> Option<f64> {
        self.of(name, "").map(|(_, value)| value).reduce(|sum, value| sum + value)
    }

    /// The same, 0 if there are none.
    pub fn sum(&self, name: &str) -> f64 {
        self.find(name).unwrap_or(0.0)
    }

    /// The same of those whose labels have this text.
    pub fn sum_of(&self, name: &str, label: &str) -> f64 {
        self.of(name, label).map(|(_, value)| value).sum()
    }

    /// The histograms of a name, in seconds, whose labels have this text, added up.
    pub fn buckets(&self, name: &str, label: &str) -> Buckets {
        let mut upto: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for (labels, count) in self.of(&format!("{name}_bucket"), label) {
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next());
            let bound_s = match bound {
                Some("+Inf") => f64::INFINITY,
                Some(number) => number.parse().unwrap_or(f64::INFINITY),
                None => continue,
            };
            // The order of positive floats is that of their bits.
            upto.entry(bound_s.to_bits()).or_insert((bound_s * 1000.0, 0.0)).1 += count;
        }
        let mut before = 0.0;
        let single =
            |(bound_ms, count): (f64, f64)| (bound_ms, count - std::mem::replace(&mut before, count));
        Buckets(upto.into_values().map(single).collect())
    }
}

impl Buckets {
    /// What was added since an earlier page.
    pub fn since(&self, before: &Buckets) -> Buckets {
        let earlier = |at: usize| before.0.get(at).map_or(0.0, |(_, count)| *count);
        Buckets(self.0.iter().enumerate().map(|(at, (bound, count))| (*bound, count - earlier(at))).collect())
    }

    /// Adds other counts.
    pub fn add(&mut self, more: &Buckets) {
        if self.0.is_empty() {
            return self.clone_from(more);
        }
        self.0.iter_mut().zip(&more.0).for_each(|((_, count), (_, other))| *count += other);
    }

    /// The value at a quantile in ms, evenly between a bucket's bounds; NaN if nothing was counted.
    pub fn quantile(&self, quantile: f64) -> f64 {
        let all: f64 = self.0.iter().map(|(_, count)| count).sum();
        let (mut left, mut lower) = (all * quantile, 0.0);
        for (upper, count) in &self.0 {
            if *count > 0.0 && left <= *count {
                return if upper.is_finite() { lower + (upper - lower) * left / count } else { lower };
            }
            left -= count;
            lower = *upper;
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b\na_total{lane=\"x\"} 3\na_total{lane=\"y\"} 4\na_total_more 9\n\
        h_bucket{lane=\"x\",le=\"0.001\"} 1\nh_bucket{lane=\"x\",le=\"0.01\"} 3\nh_bucket{lane=\"x\",le=\"+Inf\"} 4\n\
        h_bucket{lane=\"y\",le=\"0.001\"} 0\nh_bucket{lane=\"y\",le=\"0.01\"} 2\nh_bucket{lane=\"y\",le=\"+Inf\"} 2\n";

    #[test]
    fn samples_are_added_up() {
        let page = Page::parse(TEXT);
        assert_eq!((page.sum("a_total"), page.sum_of("a_total", "\"y\"")), (7.0, 4.0));
        assert_eq!((page.sum("nothing"), page.find("nothing")), (0.0, None));
    }

    #[test]
    fn quantiles_are_between_a_buckets_bounds() {
        let buckets = Page::parse(TEXT).buckets("h", "");
        assert_eq!(buckets, Buckets(vec![(1.0, 1.0), (10.0, 4.0), (f64::INFINITY, 1.0)]));
        assert_eq!(buckets.quantile(0.5), 1.0 + 9.0 * 2.0 / 4.0);
        assert_eq!(buckets.quantile(0.99), 10.0);
        let nothing = buckets.since(&buckets);
        assert!(nothing.quantile(0.5).is_nan());
        let mut sum = nothing;
        sum.add(&buckets);
        assert_eq!(sum, buckets);
    }

    #[test]
    fn quantiles_of_what_was_added_lie_within_their_buckets() {
        let page = |counts: [u32; 3]| {
            let sample = |(bound, count)| format!("h_bucket{{le=\"{bound}\"}} {count}\n");
            Page::parse(&["0.01", "0.02", "+Inf"].into_iter().zip(counts).map(sample).collect::<String>())
        };
        let [before, after] = [[5, 5, 6], [15, 95, 106]].map(|counts| page(counts).buckets("h", ""));
        let added = after.since(&before);
        assert!((added.quantile(0.5) - (10.0 + 10.0 * 40.0 / 80.0)).abs() < 1e-6, "{}", added.quantile(0.5));
        assert_eq!(added.quantile(0.99), 20.0, "beyond the last bound it is at least that");
        assert!(before.since(&before).quantile(0.5).is_nan());
    }
}
