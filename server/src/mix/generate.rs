//! The stream of records: which view, which entity, on time, late, twice, bad. The same seed, scale, shares and times
//! given to `next` give the same records. Knows nothing of Kafka.

use std::ops::Range;

use super::random::{Random, scatter};
use super::record::{Defect, Kind, MixHeaders, MixRecord};
use super::spoil::{DEFECTS, spoil};
use super::template::{Subject, Template, push_number};
use super::views::{MixView, VIEWS};

/// How many recent keys late records and tombstones choose from.
const RECENT_KEYS: usize = 4096;
/// How many recent records duplicates choose from.
const RECENT_RECORDS: usize = 16;
/// An entity's reports are this much younger than now at most; always the same for an entity, so never out of order.
const DELAY_MS: u64 = 1500;
/// Late by at most this, far inside every TTL.
const LATENESS_MS: u64 = 6 * 3_600_000;

/// Shares of records that are not plain, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Older than what was sent for the key.
    pub late: f64,
    /// Sent again.
    pub duplicate: f64,
    /// Refused by a server.
    pub bad: f64,
    /// Too far ahead.
    pub future: f64,
    /// Deletions.
    pub tombstone: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Shares { late: 0.01, duplicate: 0.001, bad: 0.0001, future: 0.0001, tombstone: 0.0005 }
    }
}

/// A key that was sent, and the event time it was sent with.
#[derive(Debug, Clone, Copy)]
struct Sent {
    view: usize,
    entity: u64,
    event_time_ms: i64,
}

/// The generator.
#[derive(Debug)]
pub struct Mix {
    random: Random,
    scale: u64,
    shares: Shares,
    /// Index into `VIEWS` and the weight of it and all before it.
    weights: Vec<(usize, f64)>,
    templates: Vec<Template>,
    recent_keys: Vec<Sent>,
    recent_records: Vec<MixRecord>,
    sent: u64,
    record: MixRecord,
    time: Range<usize>,
}

impl Mix {
    /// The mix of a seed over populations divided by `scale`.
    pub fn new(seed: u64, scale: u64, shares: Shares) -> Mix {
        Mix {
            random: Random::new(seed),
            scale,
            shares,
            weights: weights(|_| true),
            templates: VIEWS.iter().map(|view| Template::compile(view.template)).collect(),
            recent_keys: Vec::with_capacity(RECENT_KEYS),
            recent_records: Vec::with_capacity(RECENT_RECORDS),
            sent: 0,
            record: blank(),
            time: 0..0,
        }
    }

    /// The same with the views that `wanted` says, in the same proportions; all of them if it wants none.
    pub fn only(mut self, wanted: impl Fn(&MixView) -> bool) -> Mix {
        self.weights = weights(wanted);
        self
    }

    /// The next record, as of `now_ms` (which does not run backward). It is the mix's own until the next call.
    pub fn next(&mut self, now_ms: i64) -> &MixRecord {
        match self.choose_kind() {
            Kind::OnTime => self.on_time(now_ms),
            Kind::Late => self.late(),
            Kind::Duplicate => self.duplicate(),
            Kind::Future => self.future(now_ms),
            Kind::Tombstone => self.tombstone(now_ms),
            Kind::Bad(defect) => self.bad(now_ms, defect),
        }
        &self.record
    }

    /// Before anything was sent there is nothing to be late for, to repeat or to delete.
    fn choose_kind(&mut self) -> Kind {
        let mut left = self.random.unit();
        let Shares { late, duplicate, bad, future, tombstone } = self.shares;
        for (kind, share) in [(Kind::Late, late), (Kind::Duplicate, duplicate), (Kind::Tombstone, tombstone)]
        {
            left -= share;
            if left < 0.0 {
                return if self.recent_records.is_empty() { Kind::OnTime } else { kind };
            }
        }
        match left {
            _ if left < bad => Kind::Bad(DEFECTS[self.random.below(DEFECTS.len() as u64) as usize]),
            _ if left < bad + future => Kind::Future,
            _ => Kind::OnTime,
        }
    }

    fn on_time(&mut self, now_ms: i64) {
        let (view, entity) = self.choose_key();
        self.fill(Kind::OnTime, view, entity, now_ms - delay_ms(entity));
        self.remember(Sent { view, entity, event_time_ms: self.record.event_time_ms });
    }

    fn late(&mut self) {
        let sent = self.recent_key();
        let late_ms = 1000 + self.random.below(LATENESS_MS) as i64;
        self.fill(Kind::Late, sent.view, sent.entity, sent.event_time_ms - late_ms);
    }

    fn duplicate(&mut self) {
        let at = self.random.below(self.recent_records.len() as u64) as usize;
        copy(&self.recent_records[at], &mut self.record);
        self.record.kind = Kind::Duplicate;
    }

    fn future(&mut self, now_ms: i64) {
        let (view, entity) = self.choose_key();
        let ahead_ms = 600_000 + self.random.below(7_200_000) as i64;
        self.fill(Kind::Future, view, entity, now_ms + ahead_ms);
    }

    fn tombstone(&mut self, now_ms: i64) {
        let Sent { view, entity, .. } = self.recent_key();
        let event_time_ms = now_ms - delay_ms(entity);
        self.head(Kind::Tombstone, view, entity, event_time_ms);
        self.record.value = None;
        self.record.headers.push("forebay-event-time", |out| push_number(out, event_time_ms, 0));
    }

    fn bad(&mut self, now_ms: i64, defect: Defect) {
        let (view, entity) = self.choose_key();
        self.fill(Kind::Bad(defect), view, entity, now_ms - delay_ms(entity));
        spoil(&mut self.record, defect, self.time.clone(), VIEWS[view].event_time_header);
    }

    /// Views by their rates, entities evenly.
    fn choose_key(&mut self) -> (usize, u64) {
        let (_, all) = self.weights[self.weights.len() - 1];
        let point = self.random.unit() * all;
        let at = self.weights.partition_point(|(_, upto)| *upto <= point).min(self.weights.len() - 1);
        let (view, _) = self.weights[at];
        (view, self.random.below(VIEWS[view].population(self.scale)))
    }

    fn recent_key(&mut self) -> Sent {
        self.recent_keys[self.random.below(self.recent_keys.len() as u64) as usize]
    }

    /// Everything but the value.
    fn head(&mut self, kind: Kind, view: usize, entity: u64, event_time_ms: i64) {
        let of = &VIEWS[view];
        let MixRecord { key, headers, .. } = &mut self.record;
        of.entity_id(entity, key.get_or_insert_default());
        headers.clear();
        if of.shares_topic() {
            headers.push("forebay-view", |out| out.extend_from_slice(of.name.as_bytes()));
        }
        (self.record.kind, self.record.event_time_ms) = (kind, event_time_ms);
        (self.record.lane, self.record.topic, self.record.view) = (of.lane, of.topic, of.name);
    }

    fn fill(&mut self, kind: Kind, view: usize, entity: u64, event_time_ms: i64) {
        let template = &self.templates[view];
        let event_time_ms = if template.in_seconds { event_time_ms / 1000 * 1000 } else { event_time_ms };
        self.head(kind, view, entity, event_time_ms);
        let MixRecord { key, value, headers, .. } = &mut self.record;
        if let Some(name) = VIEWS[view].event_time_header {
            headers.push(name, |out| push_number(out, event_time_ms, 0));
        }
        let subject = Subject { entity: key.as_deref().unwrap_or_default(), number: entity, event_time_ms };
        let value = value.get_or_insert_default();
        self.time = self.templates[view].fill(&subject, &mut self.random, value);
    }

    /// Every record's key, and every eighth record, takes the place of the oldest.
    fn remember(&mut self, sent: Sent) {
        let at = self.sent as usize % RECENT_KEYS;
        match self.recent_keys.get_mut(at) {
            Some(old) => *old = sent,
            None => self.recent_keys.push(sent),
        }
        if self.sent.is_multiple_of(8) {
            let at = (self.sent / 8) as usize % RECENT_RECORDS;
            match self.recent_records.get_mut(at) {
                Some(old) => copy(&self.record, old),
                None => self.recent_records.push(self.record.clone()),
            }
        }
        self.sent += 1;
    }
}

fn delay_ms(entity: u64) -> i64 {
    (scatter(entity) % DELAY_MS) as i64
}

fn weights(wanted: impl Fn(&MixView) -> bool) -> Vec<(usize, f64)> {
    let any = VIEWS.iter().any(&wanted);
    let mut all = 0.0;
    let views = VIEWS.iter().enumerate().filter(|(_, view)| !any || wanted(view));
    let weigh = |(at, view): (usize, &MixView)| {
        all += view.daily();
        (at, all)
    };
    views.map(weigh).collect()
}

fn blank() -> MixRecord {
    MixRecord {
        kind: Kind::OnTime,
        lane: "",
        topic: "",
        view: "",
        key: None,
        value: None,
        headers: MixHeaders::default(),
        event_time_ms: 0,
    }
}

/// Clones into buffers that are there.
fn copy(from: &MixRecord, into: &mut MixRecord) {
    into.key.clone_from(&from.key);
    into.value.clone_from(&from.value);
    into.headers.clone_from(&from.headers);
    (into.kind, into.event_time_ms) = (from.kind, from.event_time_ms);
    (into.lane, into.topic, into.view) = (from.lane, from.topic, from.view);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::{HIGH_VOLUME, STANDARD};
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;
    const PLAIN: Shares = Shares { late: 0.0, duplicate: 0.0, bad: 0.0, future: 0.0, tombstone: 0.0 };
    const MUCH: Shares = Shares { late: 0.1, duplicate: 0.05, bad: 0.05, future: 0.03, tombstone: 0.02 };

    fn records(seed: u64, shares: Shares, count: i64) -> Vec<MixRecord> {
        let mut mix = Mix::new(seed, 1000, shares);
        (0..count).map(|at| mix.next(NOW_MS + at).clone()).collect()
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        assert_eq!(records(5, MUCH, 3000), records(5, MUCH, 3000));
        assert_ne!(records(5, MUCH, 10), records(6, MUCH, 10));
    }

    #[test]
    fn good_payloads_are_json_of_the_promised_sizes() {
        for (lane, mean, least, most) in
            [(STANDARD, 2000..=3000, 1000, 15_360), (HIGH_VOLUME, 700..=900, 400, 1230)]
        {
            let mut mix = Mix::new(1, 1, PLAIN).only(|view| view.lane == lane);
            let (mut bytes, count) = (0, 20_000);
            for _ in 0..count {
                let record = mix.next(NOW_MS);
                let value = record.value.as_deref().expect("a value");
                serde_json::from_slice::<serde::de::IgnoredAny>(value).expect("JSON");
                assert!((least..=most).contains(&value.len()), "{}: {}", record.view, value.len());
                bytes += value.len();
            }
            assert!(mean.contains(&(bytes / count)), "{lane}: mean {}", bytes / count);
        }
    }

    #[test]
    fn kinds_come_in_the_shares_asked_for() {
        let mut counts: HashMap<&str, f64> = HashMap::new();
        let all = records(2, MUCH, 50_000);
        all.iter().for_each(|record| *counts.entry(record.kind.name()).or_default() += 1.0 / 50_000.0);
        for (kind, share) in
            [("late", 0.1), ("duplicate", 0.05), ("bad", 0.05), ("future", 0.03), ("tombstone", 0.02)]
        {
            assert!((counts[kind] / share - 1.0).abs() < 0.15, "{kind}: {}", counts[kind]);
        }
        let defects: std::collections::HashSet<_> =
            all.iter().map(|record| record.kind).filter(|kind| matches!(kind, Kind::Bad(_))).collect();
        assert_eq!(defects.len(), DEFECTS.len());
    }

    #[test]
    fn late_is_older_and_on_time_is_not() {
        let mut newest: HashMap<(String, Vec<u8>), i64> = HashMap::new();
        for record in records(3, MUCH, 20_000) {
            let key = (record.view.to_owned(), record.key.clone().unwrap_or_default());
            let before = newest.get(&key).copied();
            match record.kind {
                Kind::Late => assert!(before.is_some_and(|before| record.event_time_ms < before)),
                Kind::OnTime => {
                    assert!(before.is_none_or(|before| record.event_time_ms >= before));
                    newest.insert(key, record.event_time_ms);
                }
                Kind::Duplicate => assert!(before.is_some_and(|before| record.event_time_ms <= before)),
                Kind::Future => assert!(record.event_time_ms > NOW_MS + 320_000),
                Kind::Tombstone => assert!(before.is_some() && record.value.is_none()),
                Kind::Bad(_) => {}
            }
        }
    }

    #[test]
    fn every_payload_varies_like_telemetry() {
        let mut mix = Mix::new(4, 1000, PLAIN);
        let mut ids = std::collections::HashSet::new();
        for _ in 0..2000 {
            let record = mix.next(NOW_MS);
            let text = String::from_utf8(record.value.clone().expect("a value")).expect("UTF-8");
            let decimals = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
            let decimals = decimals.filter(|word| word.contains('.') && word.parse::<f64>().is_ok()).count();
            assert!((8..=66).contains(&decimals), "{}: {decimals} decimals", record.view);
            let uuid = text.split('"').find(|word| uuid::Uuid::parse_str(word).is_ok() && word.len() == 36);
            assert!(ids.insert(uuid.expect("a UUID").to_owned()));
        }
    }
}
