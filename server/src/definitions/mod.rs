//! What is defined: lanes with their topics, feature views with their fields, feature services, triggers, models.
//! These are the checked, compiled form that the rest of the server reads; `grammar` reads the TOML, `check` finds what is wrong with the whole,
//! `compatible` says what may change in a running server, `in_force` changes it, `pieces` takes files apart, `lookup` finds
//! things by name. Knows nothing of Kafka connections, shards or gRPC.

mod check;
mod compatible;
pub mod diagnoses;
mod grammar;
mod in_force;
mod load;
mod lookup;
pub mod model;
mod model_grammar;
pub mod pieces;
#[cfg(test)]
mod tests;
mod trigger;
#[cfg(test)]
mod trigger_tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use forebay_storage::FieldPlan;

pub use compatible::{Found, compatible};
pub use diagnoses::DiagnosesDefinition;
pub use forebay_client::Partitioner;
pub use in_force::{Checked, Held, InForce, Refusal, Source};
pub use load::{DefinitionErrors, load, parse};
pub use lookup::Unknown;
pub use model::Model;
pub use trigger::{FirstSight, StateRule, Trigger, UNKNOWN, triggers_over};

use crate::json::Plan;
use crate::json::typed::Cell;

/// The definitions in force, replaced as a whole by a reload.
pub type SharedDefinitions = Arc<arc_swap::ArcSwap<Definitions>>;

/// Everything defined, checked as a whole and immutable; a reload makes a new one.
#[derive(Debug, Default)]
pub struct Definitions {
    /// In file order.
    pub lanes: Vec<Arc<LaneDefinition>>,
    /// In file order.
    pub views: Vec<Arc<View>>,
    /// In file order.
    pub services: Vec<Arc<FeatureService>>,
    /// In file order.
    pub triggers: Vec<Arc<Trigger>>,
    /// In file order.
    pub models: Vec<Arc<Model>>,
    /// What `[diagnoses]` says, if it is there; its lane and its views are among the others.
    pub diagnoses: Option<DiagnosesDefinition>,
    /// Index into `views` by view name.
    pub view_by_name: HashMap<String, usize>,
    /// Ids of views and triggers that definitions in force before these had, and these have not, with their owners'
    /// names ("trigger:" before a trigger's): their records may still be stored, so the ids are not free.
    pub retired: BTreeMap<u16, String>,
}

/// A set of views that share partitioning, threads, memory and disk: the unit of isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDefinition {
    /// Unique; names the lane's directory and its consumer group (`<group>.<lane>`).
    pub name: String,
    /// How the producers of this lane map entity ids to partitions.
    pub partitioner: Partitioner,
    /// Quarantine data points found on a partition the partitioner would not choose (otherwise only count them).
    pub strict_partition: bool,
    /// Source topics. All have the same number of partitions; shard p is partition p of each.
    pub topics: Vec<TopicDefinition>,
    /// Where bad data points go.
    pub dead_letter_topic: String,
    /// Consumer threads; each is a member of the consumer group with shards of its own. None: see `tuning`.
    pub threads: Option<usize>,
    /// Niceness of all its threads, 0 to 19: under load the more of it, the less of the processors.
    pub nice: u8,
    /// Larger payloads are dead-lettered.
    pub max_value_bytes: usize,
    /// An event time this far ahead of the ingest time is quarantined.
    pub future_bound_ms: i64,
    /// How long past its expiry a version is remembered, so that a late older value cannot bring an entity back.
    pub allowed_lateness_ms: i64,
    /// Most disk its shards may take on one server; none: all there is.
    pub disk_bytes: Option<u64>,
}

/// One source topic of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDefinition {
    /// The Kafka topic.
    pub name: String,
    /// Among versions of equal event time the higher priority wins, before topic name and offset.
    pub priority: u8,
    /// Names of the views this topic feeds. With exactly one, records need no `forebay-view` header.
    pub views: Vec<String>,
}

/// A data point type: a named group of fields with one entity kind, lane, TTL and history class.
#[derive(Debug)]
pub struct View {
    /// Unique name.
    pub name: String,
    /// Unique number that names the view in stored records; never given to another view.
    pub id: u16,
    /// Index into `Definitions::lanes`.
    pub lane: usize,
    /// Its lane's name.
    pub lane_name: String,
    /// What the entity id names: "customer", "device".
    pub entity_kind: String,
    /// Topics that feed it; pushes go to the first.
    pub topics: Vec<String>,
    /// Where a data point's event time is found.
    pub event_time: EventTimeSource,
    /// Time to live after the event time.
    pub ttl_ms: i64,
    /// The most a record's own TTL may be; tombstones are remembered this long. At least `ttl_ms`.
    pub max_ttl_ms: i64,
    /// What is promised of past versions.
    pub history: HistoryClass,
    /// Payloads wrap optional values as Avro-JSON does: `{"string": "x"}`.
    pub avro_json: bool,
    /// Of the values of a key the first in its partition stays until it expires; the others count as duplicates.
    pub write_once: bool,
    /// Declared fields.
    pub fields: Vec<Field>,
    /// The path plan compiled from `event_time` (slot 0 when it is a path) and `fields`; see `json::Plan`.
    pub plan: Plan,
    /// The same paths, for payloads as they are stored.
    pub stored: FieldPlan,
}

/// Where a data point's event time is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventTimeSource {
    /// A path into the payload.
    Path {
        /// Object keys from the payload's root; found in slot 0 of the view's plan.
        path: Vec<String>,
        /// What the integer there counts.
        unit: TimeUnit,
    },
    /// A record header with decimal milliseconds.
    Header(String),
    /// The Kafka record timestamp.
    Kafka,
}

/// Unit of an event time in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds since the epoch.
    Milliseconds,
    /// Seconds since the epoch.
    Seconds,
}

/// What is promised of past versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryClass {
    /// Only the current version is promised.
    Latest,
    /// Every version for the TTL.
    Full,
}

/// One feature: a field of a view.
#[derive(Debug, Clone)]
pub struct Field {
    /// Unique within the view.
    pub name: String,
    /// Object keys from the payload's root; array elements are not addressed.
    pub path: Vec<String>,
    /// Declared type.
    pub field_type: FieldType,
    /// Given when the field is absent or null.
    pub default: Option<Cell<'static>>,
    /// Its slot in the view's plan.
    pub slot: usize,
}

/// Declared type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// IEEE 754 double; any JSON number in range.
    Double,
    /// 64-bit signed; a JSON number without fraction or exponent, in range.
    Int64,
    /// true or false.
    Bool,
    /// A JSON string, unescaped.
    String,
    /// Milliseconds since the epoch; as `Int64`.
    Timestamp,
    /// Any JSON, as text.
    Json,
}

/// A named, versioned list of features.
#[derive(Debug, Clone)]
pub struct FeatureService {
    /// Name without version.
    pub name: String,
    /// 1 and up.
    pub version: u32,
    /// As written: "view.field" or "view.*".
    pub declared: Vec<String>,
    /// Views in order of first mention, each with the indices of its wanted fields.
    pub features: Vec<ServiceView>,
}

/// The fields a feature service wants of one view.
#[derive(Debug, Clone)]
pub struct ServiceView {
    /// Index into `Definitions::views`.
    pub view: usize,
    /// Indices into the view's `fields`.
    pub fields: Vec<usize>,
}
