//! What a server must answer, computed from the topics' records by the rules of the contract and nothing else: its own
//! reading of the definitions, its own JSON library, a map of version lists. Shares no code with the server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::json;
use crate::kafka::Kafka;
use crate::record::{Consumed, Place};
use crate::rows::Row;
use crate::v1::Status;

/// (entity, view).
pub type Key = (Vec<u8>, String);

/// Why a record is not a version: a dead letter's reason, or the data point was too old on arrival.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// Dead-lettered for this reason.
    Dead(&'static str),
    /// Past its TTL on arrival.
    Expired,
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// ms since the epoch.
    pub event_time_ms: i64,
    /// A deletion.
    pub tombstone: bool,
    /// Priority of its topic.
    pub priority: i64,
    /// Where it is.
    pub place: Place,
    /// The partition's clock when it arrived.
    pub ingest_time_ms: i64,
    /// When it stops being PRESENT.
    pub expiry_ms: i64,
    /// The original bytes.
    pub payload: Vec<u8>,
}

impl Version {
    /// What decides between versions of a key: the highest is current.
    fn rank(&self) -> (i64, bool, i64, &str, i64) {
        (self.event_time_ms, self.tombstone, self.priority, &self.place.topic, self.place.offset)
    }

    /// The row a read at `now` must give, with payload whatever the status.
    pub fn row(&self, now_ms: i64, lateness_ms: i64) -> Option<Row> {
        let status = match () {
            () if now_ms >= self.expiry_ms + lateness_ms => return None,
            () if self.tombstone => Status::Deleted,
            () if now_ms >= self.expiry_ms => Status::Expired,
            () => Status::Present,
        };
        Some(Row {
            status,
            event_time_ms: self.event_time_ms,
            ingest_time_ms: self.ingest_time_ms,
            expiry_ms: self.expiry_ms,
            place: Some(self.place.clone()),
            json: self.payload.clone(),
        })
    }
}

/// The definitions as the model understands them.
#[derive(Debug, Clone)]
pub struct Definitions {
    table: toml::Table,
}

/// Everything the topics' content implies.
#[derive(Debug, Default)]
pub struct Model {
    /// Versions of each key, in the order they were read.
    pub versions: HashMap<Key, Vec<Version>>,
    /// Records that are no versions.
    pub refused: BTreeMap<Place, Why>,
    /// Records read.
    pub records: u64,
    keep_history: bool,
    clocks: HashMap<(String, u32), i64>,
}

fn list<'t>(table: &'t toml::Table, key: &str) -> Vec<&'t toml::Table> {
    let array = table.get(key).and_then(toml::Value::as_array);
    array.into_iter().flatten().filter_map(toml::Value::as_table).collect()
}

fn text<'t>(table: &'t toml::Table, key: &str) -> Option<&'t str> {
    table.get(key).and_then(toml::Value::as_str)
}

/// "7d" in ms.
fn duration_ms(text: &str) -> i64 {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => panic!("unit {other}"),
    };
    digits.parse::<i64>().expect("a number") * unit
}

fn size_or(table: &toml::Table, key: &str, default_bytes: u64) -> u64 {
    let Some(text) = text(table, key) else { return default_bytes };
    let digits = text.trim_end_matches(char::is_alphabetic);
    let shift = match &text[digits.len()..] {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        other => panic!("unit {other}"),
    };
    digits.parse::<u64>().expect("a number") << shift
}

fn duration_or(table: &toml::Table, key: &str, default_ms: i64) -> i64 {
    text(table, key).map_or(default_ms, duration_ms)
}

impl Definitions {
    /// Reads definitions the server has accepted.
    pub fn parse(toml: &str) -> Definitions {
        Definitions { table: toml.parse().expect("definitions are TOML") }
    }

    /// Every source topic, of one lane or of all.
    pub fn topics(&self, lane: Option<&str>) -> Vec<String> {
        let lanes = list(&self.table, "lane").into_iter();
        let lanes = lanes.filter(|table| lane.is_none() || text(table, "name") == lane);
        let topics = lanes.flat_map(|lane| list(lane, "topic"));
        topics.map(|topic| text(topic, "name").expect("name").to_owned()).collect()
    }

    /// The dead-letter topic of each lane.
    pub fn dead_letter_topics(&self) -> Vec<String> {
        let of = |lane: &toml::Table| {
            let default = || format!("forebay.{}.dlq", text(lane, "name").expect("name"));
            text(lane, "dead_letter_topic").map(str::to_owned).unwrap_or_else(default)
        };
        let of_lanes = list(&self.table, "lane").into_iter().map(of);
        of_lanes.chain(self.diagnoses_topic("diagnoses.dlq")).collect()
    }

    /// The topics of the lane of diagnoses, if there is one.
    pub fn diagnoses_topics(&self) -> Vec<String> {
        let names = ["snapshots", "predictions", "outcomes", "diagnoses"];
        names.into_iter().filter_map(|name| self.diagnoses_topic(name)).collect()
    }

    fn diagnoses_topic(&self, name: &str) -> Option<String> {
        let table = self.table.get("diagnoses")?.as_table()?;
        Some(format!("{}.{name}", text(table, "topic_prefix").unwrap_or("forebay")))
    }

    /// Allowed lateness of a view's lane.
    pub fn lateness_ms(&self, view: &str) -> i64 {
        let view = list(&self.table, "view").into_iter().find(|table| text(table, "name") == Some(view));
        let lane = view.and_then(|view| text(view, "lane")).expect("a lane");
        duration_or(self.lane(lane), "allowed_lateness", 3_600_000)
    }

    fn lane(&self, name: &str) -> &toml::Table {
        list(&self.table, "lane").into_iter().find(|lane| text(lane, "name") == Some(name)).expect("a lane")
    }

    /// The lane and priority of a topic.
    fn source(&self, topic: &str) -> (&toml::Table, i64) {
        for lane in list(&self.table, "lane") {
            for table in list(lane, "topic") {
                if text(table, "name") == Some(topic) {
                    return (lane, table.get("priority").and_then(toml::Value::as_integer).unwrap_or(0));
                }
            }
        }
        panic!("no lane has topic {topic}")
    }

    /// Names of the views a topic feeds.
    pub fn views_of(&self, topic: &str) -> Vec<String> {
        let name = |view| text(view, "name").expect("name").to_owned();
        self.views(topic).into_iter().map(name).collect()
    }

    /// The views a topic feeds.
    fn views(&self, topic: &str) -> Vec<&toml::Table> {
        let feeds = |view: &&toml::Table| {
            let topics = view.get("topics").and_then(toml::Value::as_array);
            topics.into_iter().flatten().any(|name| name.as_str() == Some(topic))
        };
        list(&self.table, "view").into_iter().filter(feeds).collect()
    }
}

impl Model {
    /// A model of all topics' content as it is now, with every version kept.
    pub async fn read(kafka: &Kafka, definitions: &Definitions) -> Model {
        Model::read_topics(kafka, definitions, &definitions.topics(None), true).await
    }

    /// A model of some topics' content; without `keep_history`, only of current versions.
    pub async fn read_topics(
        kafka: &Kafka,
        definitions: &Definitions,
        topics: &[String],
        keep_history: bool,
    ) -> Model {
        let model = Arc::new(Mutex::new(Model { keep_history, ..Model::default() }));
        for topic in topics {
            let (model, definitions) = (model.clone(), definitions.clone());
            kafka.for_each(topic, move |record| model.lock().take(&definitions, record)).await;
        }
        Arc::try_unwrap(model).expect("the readers are done").into_inner()
    }

    /// Takes one record; those of a partition come in offset order.
    pub fn take(&mut self, definitions: &Definitions, record: Consumed) {
        self.records += 1;
        let clock = self.clocks.entry((record.place.topic.clone(), record.place.partition)).or_insert(0);
        *clock = record.timestamp_ms.max(*clock);
        let now = *clock;
        match version(definitions, &record, now) {
            Ok((view, version)) => self.keep((record.key.expect("versions have a key"), view), version),
            Err(why) => drop(self.refused.insert(record.place, why)),
        }
    }

    fn keep(&mut self, key: Key, version: Version) {
        let versions = self.versions.entry(key).or_default();
        if self.keep_history || versions.is_empty() {
            versions.push(version);
        } else if version.rank() >= versions[0].rank() {
            versions[0] = version;
        }
    }

    /// The current version of a key.
    pub fn latest(&self, entity: &[u8], view: &str) -> Option<&Version> {
        self.as_of(entity, view, i64::MAX, None)
    }

    /// The version with the highest rank at or below an event time, of those known at an ingest time.
    pub fn as_of(
        &self,
        entity: &[u8],
        view: &str,
        as_of_ms: i64,
        known_at_ms: Option<i64>,
    ) -> Option<&Version> {
        let versions = self.versions.get(&(entity.to_vec(), view.to_owned()))?;
        let seen = |version: &&Version| {
            version.event_time_ms <= as_of_ms
                && known_at_ms.is_none_or(|known| version.ingest_time_ms <= known)
        };
        versions.iter().filter(seen).max_by(|a, b| a.rank().cmp(&b.rank()))
    }

    /// Versions of a key, newest first.
    pub fn history(&self, entity: &[u8], view: &str, known_at_ms: Option<i64>) -> Vec<&Version> {
        let versions = self.versions.get(&(entity.to_vec(), view.to_owned())).into_iter().flatten();
        let mut seen: Vec<_> =
            versions.filter(|v| known_at_ms.is_none_or(|known| v.ingest_time_ms <= known)).collect();
        seen.sort_by(|a, b| b.rank().cmp(&a.rank()));
        seen
    }

    /// How many records were dead-lettered.
    pub fn dead(&self) -> u64 {
        self.refused.values().filter(|why| **why != Why::Expired).count() as u64
    }
}

/// The version a record is, or why it is none.
fn version(definitions: &Definitions, record: &Consumed, now_ms: i64) -> Result<(String, Version), Why> {
    let (lane, priority) = definitions.source(&record.place.topic);
    match record.key.as_deref() {
        None => return Err(Why::Dead("null_key")),
        Some([]) => return Err(Why::Dead("empty_key")),
        Some(key) if key.len() > 255 => return Err(Why::Dead("key_too_long")),
        Some(_) => {}
    }
    if record.value.as_ref().map_or(0, Vec::len) as u64 > size_or(lane, "max_value", 1 << 20) {
        return Err(Why::Dead("too_large"));
    }
    let views = definitions.views(&record.place.topic);
    let view = match record.header("forebay-view") {
        Some(name) => views.into_iter().find(|view| text(view, "name") == Some(&name)),
        None if views.len() == 1 => Some(views[0]),
        None => None,
    };
    let view = view.ok_or(Why::Dead("unknown_view"))?;
    let event_time_ms = event_time(view, record)?;
    if !(946_684_800_000..4_102_444_800_000).contains(&event_time_ms) {
        return Err(Why::Dead("bad_event_time"));
    }
    let tombstone = record.value.is_none();
    let ttl = duration_or(view, "ttl", 7 * 86_400_000);
    let max_ttl = duration_or(view, "max_ttl", ttl);
    let own = match record.header("forebay-ttl-ms") {
        Some(text) => Some(text.parse::<i64>().ok().filter(|ttl| *ttl > 0).ok_or(Why::Dead("bad_header"))?),
        None => None,
    };
    if event_time_ms > now_ms + duration_or(lane, "future_bound", 300_000) {
        return Err(Why::Dead("future"));
    }
    let lives = if tombstone { max_ttl } else { own.map_or(ttl, |own| own.min(max_ttl)) };
    let expiry_ms = event_time_ms + lives;
    if expiry_ms <= now_ms {
        return Err(Why::Expired);
    }
    let version = Version {
        event_time_ms,
        tombstone,
        priority,
        place: record.place.clone(),
        ingest_time_ms: now_ms,
        expiry_ms,
        payload: record.value.clone().unwrap_or_default(),
    };
    Ok((text(view, "name").expect("name").to_owned(), version))
}

fn event_time(view: &toml::Table, record: &Consumed) -> Result<i64, Why> {
    let header = |name: &str| match record.header(name) {
        Some(text) => text.parse().map(Some).map_err(|_| Why::Dead("bad_header")),
        None => Ok(None),
    };
    let Some(value) = &record.value else {
        return Ok(header("forebay-event-time")?.unwrap_or(record.timestamp_ms));
    };
    let object = json::parse(value).map_err(Why::Dead)?;
    let source = match view.get("event_time") {
        Some(toml::Value::Table(source)) => source,
        _ => return Ok(record.timestamp_ms),
    };
    if let Some(name) = text(source, "header") {
        return header(name)?.ok_or(Why::Dead("no_event_time"));
    }
    let avro = view.get("avro_json").and_then(toml::Value::as_bool).unwrap_or(false);
    let found = object.walk(text(source, "path").expect("a path"), avro).ok_or(Why::Dead("no_event_time"))?;
    let unit = if text(source, "unit") == Some("s") { 1000 } else { 1 };
    found.integer(avro).map(|number| number.saturating_mul(unit)).ok_or(Why::Dead("bad_event_time"))
}

/// How an answer differs from the model; `None` if it does not. Rows the model calls gone may still be NOT_FOUND only.
pub fn compare(expected: Option<Row>, got: &Row) -> Option<String> {
    let nothing = || Row {
        status: Status::NotFound,
        event_time_ms: 0,
        ingest_time_ms: 0,
        expiry_ms: 0,
        place: None,
        json: Vec::new(),
    };
    let expected = expected.unwrap_or_else(nothing);
    (expected != *got).then(|| format!("expected {expected:?}, got {got:?}"))
}
