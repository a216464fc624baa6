//! The TOML grammar of definitions: each lane, view and service by itself, with its defaults and bounds. What they say of
//! each other is `check`'s. Called by `load`.

use super::diagnoses::{self, DiagnosesDefinition};
use super::trigger::{self, TriggerDraft};
use super::{
    EventTimeSource, Field, FieldType, HistoryClass, LaneDefinition, Model, Partitioner, TimeUnit,
    TopicDefinition, model_grammar,
};
use crate::config::table::{self, Errors, Table};
use crate::config::units::show_duration;

const SECOND: i64 = 1000;
const DAY: i64 = 86_400 * SECOND;
/// Time to live: from 1 s to 400 days.
pub(super) const TTL_MS: std::ops::RangeInclusive<i64> = SECOND..=400 * DAY;
const DEFAULT_TTL_MS: i64 = 7 * DAY;
const MAX_PATH_STEPS: usize = 32;

/// What the files say, before it is checked as a whole.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// A file is not TOML: what it defines is missing here.
    pub incomplete: bool,
    pub lanes: Vec<Placed<LaneDefinition>>,
    pub views: Vec<Placed<ViewDraft>>,
    pub services: Vec<Placed<ServiceDraft>>,
    pub triggers: Vec<Placed<TriggerDraft>>,
    pub diagnoses: Vec<Placed<DiagnosesDefinition>>,
    pub models: Vec<Placed<Model>>,
}

/// Something with the place it was read from, for messages.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub place: String,
    pub item: T,
}

/// A view whose lane and topics are still names.
#[derive(Debug)]
pub(super) struct ViewDraft {
    pub name: String,
    pub id: u16,
    pub lane: String,
    pub entity_kind: String,
    pub topics: Vec<String>,
    pub event_time: EventTimeSource,
    pub ttl_ms: i64,
    pub max_ttl_ms: i64,
    pub history: HistoryClass,
    pub avro_json: bool,
    pub write_once: bool,
    pub fields: Vec<Field>,
}

/// A service whose features are still names.
#[derive(Debug)]
pub(super) struct ServiceDraft {
    pub name: String,
    pub version: u32,
    pub features: Vec<String>,
}

/// Adds what one file says.
pub(super) fn read(file: &str, root: &toml::Table, errors: &Errors, draft: &mut Draft) {
    let root = Table::new(file.to_owned(), root, errors);
    for (number, table) in root.tables("lane", "lane").into_iter().enumerate() {
        draft.lanes.push(lane(named(file, "lane", number, table, errors)));
    }
    for (number, table) in root.tables("view", "view").into_iter().enumerate() {
        draft.views.push(view(named(file, "view", number, table, errors)));
    }
    for (number, table) in root.tables("feature_service", "feature_service").into_iter().enumerate() {
        draft.services.push(service(named(file, "feature_service", number, table, errors)));
    }
    for (number, table) in root.tables("trigger", "trigger").into_iter().enumerate() {
        draft.triggers.push(trigger::read(named(file, "trigger", number, table, errors)));
    }
    if let Some(table) = root.table("diagnoses", format!("{file}: [diagnoses]")) {
        draft.diagnoses.push(diagnoses::read(table));
    }
    for (number, table) in root.tables("model", "model").into_iter().enumerate() {
        draft.models.push(model_grammar::read(named(file, "model", number, table, errors)));
    }
    root.finish();
}

/// A table whose place is its kind and name, or its number if it has none.
pub(super) fn named<'t>(
    before: &str,
    kind: &str,
    number: usize,
    table: &'t toml::Table,
    errors: &'t Errors,
) -> Table<'t> {
    let kind = kind.replace('_', " ");
    let place = match table.get("name").and_then(toml::Value::as_str) {
        Some(name) => format!("{before}: {kind} \"{name}\""),
        None => format!("{before}: {kind} number {}", number + 1),
    };
    Table::new(place, table, errors)
}

fn lane(table: Table<'_>) -> Placed<LaneDefinition> {
    let name = name(&table, "name", "every lane has a name");
    let partitioners = [("murmur2", Partitioner::Murmur2), ("crc32", Partitioner::Crc32)];
    let dead_letter_topic =
        table.text("dead_letter_topic").map(|topic| topic_name(&table, "dead_letter_topic", topic));
    let item = LaneDefinition {
        partitioner: table.choice("partitioner", &partitioners).unwrap_or(Partitioner::Murmur2),
        strict_partition: table.flag("strict_partition").unwrap_or(false),
        topics: topics(&table),
        dead_letter_topic: dead_letter_topic.unwrap_or_else(|| format!("forebay.{name}.dlq")),
        threads: table.integer("threads", 1..=256).map(|threads| threads as usize),
        nice: table.integer("nice", 0..=19).unwrap_or(0) as u8,
        max_value_bytes: table.size_bytes("max_value", 1..=100 << 20).unwrap_or(1 << 20) as usize,
        future_bound_ms: table.duration_ms("future_bound", 0..=400 * DAY).unwrap_or(300 * SECOND),
        allowed_lateness_ms: table.duration_ms("allowed_lateness", 0..=400 * DAY).unwrap_or(3600 * SECOND),
        disk_bytes: table.size_bytes("disk", 1 << 20..=1 << 50),
        name,
    };
    finish(table, item)
}

fn topics(lane: &Table<'_>) -> Vec<TopicDefinition> {
    let tables = lane.tables("topic", "lane.topic");
    if tables.is_empty() {
        lane.error("topic", "a lane reads at least one topic: add [[lane.topic]] with its name");
    }
    let topic = |(number, table): (usize, _)| {
        let table = named(&lane.place, "topic", number, table, lane.errors());
        let name = table.required("name", "the Kafka topic's name").unwrap_or_default();
        let topic = TopicDefinition {
            name: topic_name(&table, "name", name),
            priority: table.integer("priority", 0..=255).unwrap_or(0) as u8,
            views: Vec::new(),
        };
        table.finish();
        topic
    };
    tables.into_iter().enumerate().map(topic).collect()
}

fn view(table: Table<'_>) -> Placed<ViewDraft> {
    let id = "a number of its own, never given to another view, that names it in stored records";
    if table.value("id").is_none() {
        table.error("id", format_args!("missing: {id}"));
    }
    let (ttl_ms, max_ttl_ms) = ttls(&table);
    let item = ViewDraft {
        name: name(&table, "name", "every view has a name"),
        id: table.integer("id", 1..=65_535).unwrap_or(0) as u16,
        lane: table.required("lane", "the lane it belongs to").unwrap_or_default().to_owned(),
        entity_kind: name(&table, "entity", "what its entity ids name, such as \"customer\""),
        topics: table.texts("topics").into_iter().map(str::to_owned).collect(),
        event_time: event_time(&table),
        ttl_ms,
        max_ttl_ms,
        history: history(&table),
        avro_json: table.flag("avro_json").unwrap_or(false),
        write_once: false,
        fields: fields(&table),
    };
    if item.topics.is_empty() {
        table.error("topics", "name at least one topic of the lane that feeds this view");
    }
    finish(table, item)
}

fn history(table: &Table<'_>) -> HistoryClass {
    let classes = [HistoryClass::Latest, HistoryClass::Full].map(|class| (class.as_str(), class));
    table.choice("history", &classes).unwrap_or(HistoryClass::Latest)
}

fn ttls(table: &Table<'_>) -> (i64, i64) {
    let ttl = table.duration_ms("ttl", TTL_MS);
    let ttl_ms = ttl.unwrap_or(DEFAULT_TTL_MS);
    let max_ttl_ms = table.duration_ms("max_ttl", TTL_MS).unwrap_or(ttl_ms);
    let ttl_is_known = table.value("ttl").is_none() || ttl.is_some();
    if ttl_is_known && max_ttl_ms < ttl_ms {
        let (ttl, max_ttl) = (show_duration(ttl_ms), show_duration(max_ttl_ms));
        table.error(
            "max_ttl",
            format_args!("{max_ttl} is less than the ttl of {ttl}: raise it, or leave it out"),
        );
    }
    (ttl_ms, max_ttl_ms)
}

fn event_time(view: &Table<'_>) -> EventTimeSource {
    const EXPECTED: &str = r#"expected "kafka", { header = "name" } or { path = "a.b", unit = "ms" or "s" }"#;
    match view.value("event_time") {
        None => EventTimeSource::Kafka,
        Some(toml::Value::String(word)) if word == "kafka" => EventTimeSource::Kafka,
        Some(toml::Value::Table(table)) if table.contains_key("path") != table.contains_key("header") => {
            event_time_table(Table::new(format!("{}: event_time", view.place), table, view.errors()))
        }
        Some(other) => {
            view.error("event_time", format_args!("{EXPECTED}, found {}", table::found(other)));
            EventTimeSource::Kafka
        }
    }
}

fn event_time_table(table: Table<'_>) -> EventTimeSource {
    let source = if let Some(header) = table.text("header") {
        if header.is_empty() {
            table.error("header", "empty: name the record header that holds milliseconds");
        }
        EventTimeSource::Header(header.to_owned())
    } else {
        let units = [("ms", TimeUnit::Milliseconds), ("s", TimeUnit::Seconds)];
        EventTimeSource::Path {
            path: path(&table, table.text("path").unwrap_or_default()),
            unit: table.choice("unit", &units).unwrap_or(TimeUnit::Milliseconds),
        }
    };
    table.finish();
    source
}

fn fields(view: &Table<'_>) -> Vec<Field> {
    let field =
        |(number, table): (usize, _)| field(named(&view.place, "field", number, table, view.errors()));
    view.tables("field", "view.field").into_iter().enumerate().map(field).collect()
}

fn field(table: Table<'_>) -> Field {
    let name = name(&table, "name", "every field has a name");
    if table.value("type").is_none() {
        table.error(
            "type",
            format_args!("missing: one of {}", FieldType::ALL.map(FieldType::as_str).join(", ")),
        );
    }
    let field_type =
        table.choice("type", &FieldType::ALL.map(|field_type| (field_type.as_str(), field_type)));
    let default = table.value("default").zip(field_type).and_then(|(value, field_type)| {
        let default = field_type.default_from(value);
        if default.is_none() {
            let found = table::found(value);
            table.error(
                "default",
                format_args!("expected a value of type {}, found {found}", field_type.as_str()),
            );
        }
        default
    });
    let path = path(&table, table.text("path").unwrap_or(&name));
    table.finish();
    Field { name, path, field_type: field_type.unwrap_or(FieldType::Json), default, slot: 0 }
}

fn path(table: &Table<'_>, text: &str) -> Vec<String> {
    let steps: Vec<String> = text.split('.').map(str::to_owned).collect();
    if steps.iter().any(String::is_empty) {
        table.error(
            "path",
            format_args!("expected names joined by dots, such as \"signal.snr\", found \"{text}\""),
        );
    } else if steps.len() > MAX_PATH_STEPS {
        table.error("path", format_args!("{} steps: at most {MAX_PATH_STEPS} are possible", steps.len()));
    }
    steps
}

fn service(table: Table<'_>) -> Placed<ServiceDraft> {
    if table.value("version").is_none() {
        table.error("version", "missing: 1 for the first, and a new one for every change of its features");
    }
    let item = ServiceDraft {
        name: name(&table, "name", "every feature service has a name"),
        version: table.integer("version", 1..=i64::from(u32::MAX)).unwrap_or(0) as u32,
        features: table.texts("features").into_iter().map(str::to_owned).collect(),
    };
    if item.features.is_empty() {
        table.error("features", "name at least one feature, as \"view.field\" or \"view.*\"");
    }
    finish(table, item)
}

pub(super) fn finish<T>(table: Table<'_>, item: T) -> Placed<T> {
    let place = table.place.clone();
    table.finish();
    Placed { place, item }
}

/// A name of ours: it goes into file names, consumer groups, metrics and requests.
pub(super) fn name(table: &Table<'_>, key: &'static str, purpose: &str) -> String {
    let name = table.required(key, purpose).unwrap_or_default();
    let allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let begins = !name.starts_with(['-', '.']);
    if !(allowed && begins && name.len() <= 100) {
        let rule =
            "names are up to 100 letters, digits, `_`, `-` and `.`, and begin with a letter, digit or `_`";
        table.error(key, format_args!("\"{name}\" is not possible: {rule}"));
    }
    name.to_owned()
}

/// Kafka's rule for topics.
pub(super) fn topic_name(table: &Table<'_>, key: &'static str, name: &str) -> String {
    let allowed = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if !(allowed && name.len() <= 249 && ![".", ".."].contains(&name)) {
        let rule = "Kafka topics are up to 249 letters, digits, `_`, `-` and `.`";
        table.error(key, format_args!("\"{name}\" is not possible: {rule}"));
    }
    name.to_owned()
}
