//! The `[diagnoses]` table: turns on the lane that keeps snapshots, predictions and outcomes, with views of its own that
//! nobody defines. It becomes an ordinary lane with ordinary views before the whole is checked, so that ingest, recovery,
//! reads and topics treat it as any other. Read by `grammar`, expanded by `check`; what the views hold is
//! `crate::diagnosis`'s.

use std::ops::RangeInclusive;

use super::grammar::{Draft, Placed, ServiceDraft, ViewDraft};
use super::{EventTimeSource, HistoryClass, LaneDefinition, Partitioner, TopicDefinition};
use crate::config::table::{Errors, Table};

/// The lane's name.
pub const LANE: &str = "diagnoses";
/// What the names of built-in views begin with; no other view's does.
pub const PREFIX: &str = "forebay.";
/// Ids of built-in views; no other view has one.
pub const IDS: RangeInclusive<u16> = 65_001..=65_099;
/// Snapshots, by diagnosis id; written once.
pub const SNAPSHOTS: &str = "forebay.snapshots";
/// Predictions, by diagnosis id; written once.
pub const PREDICTIONS: &str = "forebay.predictions";
/// Outcomes, by diagnosis id; the newest counts.
pub const OUTCOMES: &str = "forebay.outcomes";
/// Which diagnoses an entity has: a version for each, at the moment that was judged.
pub const BY_ENTITY: &str = "forebay.by_entity";
/// Which diagnoses a model made: a version for each, at the moment it was asked.
pub const BY_MODEL: &str = "forebay.by_model";
/// The record header with the event time of outcomes and index entries, decimal ms; tombstones have the same.
pub const EVENT_TIME_HEADER: &str = "forebay-event-time";
/// How far ahead of now the moment of a diagnosis may lie, in ms: as far as any lane lets its data points be.
pub const FUTURE_MS: i64 = 400 * DAY_MS;
/// Largest document, bytes.
pub const MAX_DOCUMENT_BYTES: usize = 16 << 20;

const DAY_MS: i64 = 86_400_000;
const DEFAULT_TTL_MS: i64 = 400 * DAY_MS;

/// What `[diagnoses]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiagnosesDefinition {
    /// How long snapshots, predictions and outcomes are kept after they were written.
    pub ttl_ms: i64,
    /// The topics are `<prefix>.snapshots`, `<prefix>.predictions`, `<prefix>.outcomes` and `<prefix>.diagnoses`.
    pub topic_prefix: String,
    /// Consumer threads of the lane; none: as of the other lanes that name none, so that a group shares them out alike.
    pub threads: Option<usize>,
}

impl DiagnosesDefinition {
    /// How long Kafka must keep a record, in ms, so that the lane can be rebuilt from its topics.
    pub fn retention_ms(&self) -> i64 {
        self.ttl_ms.saturating_add(DAY_MS)
    }
}

/// Reads the table.
pub(super) fn read(table: Table<'_>) -> Placed<DiagnosesDefinition> {
    let prefix = table.text("topic_prefix").unwrap_or("forebay");
    let item = DiagnosesDefinition {
        ttl_ms: table.duration_ms("ttl", super::grammar::TTL_MS).unwrap_or(DEFAULT_TTL_MS),
        topic_prefix: super::grammar::topic_name(&table, "topic_prefix", prefix),
        threads: table.integer("threads", 1..=256).map(|threads| threads as usize),
    };
    if prefix.is_empty() {
        table.error("topic_prefix", "empty: what the names of the lane's topics begin with");
    }
    super::grammar::finish(table, item)
}

/// Refuses what users may not take, then adds the lane and its views if the table is there.
pub(super) fn expand(draft: &mut Draft, errors: &Errors) -> Option<DiagnosesDefinition> {
    for view in draft.views.iter().filter(|view| view.item.name.starts_with(PREFIX)) {
        let rule = format_args!("name: names that begin with `{PREFIX}` are the server's own");
        errors.add(&view.place, rule);
    }
    let of_views = draft.views.iter().map(|view| (&view.place, view.item.id));
    let triggers = draft.triggers.iter().map(|trigger| (&trigger.place, trigger.item.id));
    for (place, _) in of_views.chain(triggers).filter(|(_, id)| IDS.contains(id)) {
        let (first, last) = (IDS.start(), IDS.end());
        errors.add(place, format_args!("id: {first} to {last} are the server's own, take another"));
    }
    refuse_services(&draft.services, errors);
    let mut tables = std::mem::take(&mut draft.diagnoses).into_iter();
    let Placed { place, item } = tables.next()?;
    for other in tables {
        errors.add(&other.place, format_args!("[diagnoses] is defined already ({place})"));
    }
    draft.lanes.push(Placed { place: place.clone(), item: lane(&item) });
    let views = views(&item).into_iter();
    draft.views.extend(views.map(|view| Placed { place: place.clone(), item: view }));
    Some(item)
}

fn refuse_services(services: &[Placed<ServiceDraft>], errors: &Errors) {
    for Placed { place, item } in services {
        for feature in item.features.iter().filter(|feature| feature.starts_with(PREFIX)) {
            let reason = "is of a view of the server's own, which has no features";
            errors.add(place, format_args!("features: \"{feature}\" {reason}"));
        }
    }
}

fn lane(of: &DiagnosesDefinition) -> LaneDefinition {
    let topic = |name: String| TopicDefinition { name, priority: 0, views: Vec::new() };
    let names = ["snapshots", "predictions", "outcomes", "diagnoses"];
    LaneDefinition {
        name: LANE.into(),
        partitioner: Partitioner::Murmur2,
        strict_partition: false,
        topics: names.map(|name| topic(of.topic(name))).into(),
        dead_letter_topic: of.topic("diagnoses.dlq"),
        threads: of.threads,
        nice: 0,
        max_value_bytes: MAX_DOCUMENT_BYTES,
        future_bound_ms: FUTURE_MS + DAY_MS,
        allowed_lateness_ms: 3_600_000,
        disk_bytes: None,
    }
}

/// In the order of their ids, from the first reserved one on: an id is never given to another view.
fn views(of: &DiagnosesDefinition) -> [ViewDraft; 5] {
    let header = || EventTimeSource::Header(EVENT_TIME_HEADER.into());
    let view = |number: u16, name: &str, entity_kind: &str, topic| ViewDraft {
        name: name.into(),
        id: IDS.start() + number,
        lane: LANE.into(),
        entity_kind: entity_kind.into(),
        topics: vec![of.topic(topic)],
        event_time: EventTimeSource::Kafka,
        ttl_ms: of.ttl_ms,
        max_ttl_ms: of.ttl_ms,
        history: HistoryClass::Latest,
        avro_json: false,
        write_once: true,
        fields: Vec::new(),
    };
    // What happened long before it was written is remembered as long as what was written then.
    let full = |view| ViewDraft {
        event_time: header(),
        max_ttl_ms: of.ttl_ms.saturating_mul(2),
        history: HistoryClass::Full,
        write_once: false,
        ..view
    };
    [
        view(0, SNAPSHOTS, "diagnosis", "snapshots"),
        view(1, PREDICTIONS, "diagnosis", "predictions"),
        full(view(2, OUTCOMES, "diagnosis", "outcomes")),
        full(view(3, BY_ENTITY, "entity", "diagnoses")),
        full(view(4, BY_MODEL, "model", "diagnoses")),
    ]
}

impl DiagnosesDefinition {
    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.topic_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Definitions, compatible, parse};
    use super::*;

    const USERS: &str = "[[lane]]\nname = \"main\"\n[[lane.topic]]\nname = \"points\"\n\
        [[view]]\nid = 1\nname = \"signal\"\nlane = \"main\"\nentity = \"customer\"\ntopics = [\"points\"]\n";

    fn defined(more: &str) -> Definitions {
        parse(&format!("{more}\n{USERS}")).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(text: &str) -> Vec<String> {
        parse(text).expect_err("refused").0
    }

    #[test]
    fn without_the_table_there_is_no_lane() {
        let definitions = defined("");
        assert_eq!((definitions.lanes.len(), definitions.diagnoses.clone()), (1, None));
        assert!(definitions.view(SNAPSHOTS).is_err());
    }

    #[test]
    fn the_table_brings_a_lane_with_five_views_that_nobody_defines() {
        let definitions = defined("[diagnoses]\nttl = \"30d\"\ntopic_prefix = \"care\"\nthreads = 2\n");
        let lane = definitions.lane(LANE).expect("there");
        let topics: Vec<_> = lane.topics.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(topics, ["care.snapshots", "care.predictions", "care.outcomes", "care.diagnoses"]);
        assert_eq!(lane.topics[3].views, [BY_ENTITY, BY_MODEL]);
        assert_eq!((lane.threads, lane.dead_letter_topic.as_str()), (Some(2), "care.diagnoses.dlq"));
        let ids = [SNAPSHOTS, PREDICTIONS, OUTCOMES, BY_ENTITY, BY_MODEL]
            .map(|name| definitions.view(name).expect("there").id);
        assert_eq!(ids, [65_001, 65_002, 65_003, 65_004, 65_005]);
        let once = |name: &str| definitions.view(name).expect("there").write_once;
        assert_eq!([SNAPSHOTS, PREDICTIONS, OUTCOMES, BY_ENTITY, BY_MODEL].map(once)[..2], [true, true]);
        assert!(
            !once(OUTCOMES) && !once(BY_ENTITY) && !definitions.view("signal").expect("there").write_once
        );
    }

    #[test]
    fn what_is_the_servers_own_is_refused_to_views_and_lanes() {
        let name = errors(&USERS.replace("\"signal\"", "\"forebay.signal\""));
        assert!(name[0].contains("begin with `forebay.`"), "{name:?}");
        let id = errors(&USERS.replace("id = 1", "id = 65099"));
        assert!(id[0].contains("65001 to 65099"), "{id:?}");
        let lane = errors(&format!("[diagnoses]\n{}", USERS.replace("\"main\"", "\"diagnoses\"")));
        assert!(lane.iter().any(|error| error.contains("a lane of this name is defined")), "{lane:?}");
        let service =
            "[[feature_service]]\nname = \"s\"\nversion = 1\nfeatures = [\"forebay.snapshots.*\"]\n";
        let service = errors(&format!("[diagnoses]\n{USERS}{service}"));
        assert!(service[0].contains("has no features"), "{service:?}");
    }

    #[test]
    fn a_ttl_may_change_in_a_running_server_and_a_prefix_may_not() {
        let old = defined("[diagnoses]\n");
        let changes = compatible(&old, &defined("[diagnoses]\nttl = \"30d\"\n")).expect("a change");
        assert!(changes.iter().any(|change| change.contains(SNAPSHOTS)), "{changes:?}");
        for new in ["[diagnoses]\ntopic_prefix = \"care\"\n", ""] {
            let reasons = compatible(&old, &defined(new)).expect_err("refused");
            assert!(reasons[0].contains("restart the server"), "{reasons:?}");
        }
    }
}
