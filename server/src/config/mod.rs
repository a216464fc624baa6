//! `forebay.toml`: the server's configuration, checked. `read` has every key with its range and default, `environment`
//! the overrides, `owned` the librdkafka settings that are not the operator's; `table`, `units` and `suggest` read TOML so
//! that every error is told at once, and serve the definitions too. Knows nothing of what the values are used for.

mod environment;
mod origin;
mod owned;
mod read;
pub mod suggest;
pub mod table;
#[cfg(test)]
mod tests;
pub mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use environment::keys;
pub use origin::{Origin, Origins};

/// The server's configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[kafka]`
    pub kafka: KafkaConfig,
    /// `[storage]`
    pub storage: StorageConfig,
    /// `[ingest]`
    pub ingest: IngestConfig,
    /// `[triggers]`
    pub triggers: TriggersConfig,
    /// `[read]`
    pub read: ReadConfig,
    /// `[execute]`
    pub execute: ExecuteConfig,
    /// `[registry]`
    pub registry: RegistryConfig,
    /// `[assembly]`
    pub assembly: AssemblyConfig,
    /// Which keys were given, and where.
    pub origins: Origins,
}

/// Everything wrong with the configuration, one line each: file, section, key, what was expected, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<String>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// The file, with the environment's `FOREBAY_<SECTION>_<KEY>` over it.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        Config::load_with(path, [])
    }

    /// As `load`, with overrides from the command line, named as in the environment, over both.
    pub fn load_with(
        path: &Path,
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigErrors> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigErrors(vec![format!("{}: cannot be read: {error}", path.display())]))?;
        let dir = path.parent().unwrap_or(Path::new(""));
        Config::parse(&path.display().to_string(), &text, dir, environment::ours().chain(overrides))
    }

    /// Configuration from text. `file` is its name for messages; relative paths are relative to `dir`.
    pub fn parse(
        file: &str,
        text: &str,
        dir: &Path,
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigErrors> {
        let errors = table::Errors::default();
        let config = table::parse(file, text, &errors).map(|mut root| {
            let mut origins = Origins::of_file(&root);
            let from = environment::apply(&mut root, overrides, &mut origins, &errors);
            Config { origins, ..read::config(file, &root, &from, dir, &errors) }
        });
        let errors = errors.into_vec();
        config.filter(|_| errors.is_empty()).ok_or(ConfigErrors(errors))
    }

    /// Every key with its unit, default and meaning, as a file to begin with. It means the same as an empty one.
    pub fn sample() -> &'static str {
        include_str!("../../../ops/forebay.toml")
    }
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Name of this server in its consumer groups; stable across restarts.
    pub instance: String,
    /// gRPC address; port 0: any free one.
    pub listen: SocketAddr,
    /// Metrics and health address.
    pub http_listen: SocketAddr,
    /// Definition file or directory, absolute or relative to the config file (already resolved).
    pub definitions: PathBuf,
    /// Allow addresses other than loopback without TLS.
    pub insecure: bool,
    /// TLS of the gRPC port.
    pub tls: Option<TlsConfig>,
}

/// `[server.tls]`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// When given, clients must present a certificate it signed.
    pub client_ca: Option<PathBuf>,
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port,...`
    pub bootstrap: String,
    /// Consumer groups are `<group>.<lane>`.
    pub group: String,
    /// How often topic ids and partition counts are checked.
    pub topics_check_interval_ms: u64,
    /// librdkafka settings for consumers and producers alike (TLS, SASL, ...).
    pub settings: BTreeMap<String, String>,
    /// Further librdkafka settings of consumers.
    pub consumer: BTreeMap<String, String>,
    /// Further librdkafka settings of producers.
    pub producer: BTreeMap<String, String>,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Shards are in `<dir>/<lane>/<partition>/`.
    pub dir: PathBuf,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Sync at least this often while there is something to sync; absent: see `tuning`.
    pub sync_interval_ms: Option<u64>,
    /// Sync after this many bytes.
    pub sync_bytes: u64,
    /// A shard's index is written out after this many bytes of new data: what a restart after a crash reads again.
    pub checkpoint_bytes: u64,
    /// Memory for indexes and newest data, all shards together; absent: what the machine suggests.
    pub memory_bytes: Option<u64>,
    /// Newest data of a shard that is read into memory before it serves.
    pub preload_bytes: u64,
}

impl StorageConfig {
    /// Memory for indexes and newest data, all shards together.
    pub fn memory_limit(&self) -> u64 {
        self.memory_bytes.unwrap_or_else(crate::memory::default_limit)
    }
}

/// `[ingest]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestConfig {
    /// Most messages applied as one frame.
    pub batch_max: usize,
    /// Longest wait for a batch to fill.
    pub batch_wait_ms: u64,
    /// A shard is READY when it is within this many offsets of the end seen at start.
    pub ready_max_lag: u64,
}

/// `[triggers]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggersConfig {
    /// Whether this server tells edges to Kafka; of several replicas one does.
    pub emit: bool,
    /// Least time between two transactions with edges.
    pub transaction_interval_ms: u64,
}

/// `[read]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadConfig {
    /// Most entities per request.
    pub max_entities: usize,
    /// Largest gRPC request.
    pub max_message_bytes: usize,
    /// How long a `wait_for` waits when the request has no deadline.
    pub default_wait_ms: u64,
    /// Threads that serve gRPC; absent, as the others that may be: see `tuning`.
    pub threads: Option<usize>,
    /// Most reads whose answers are not made yet.
    pub max_in_flight: Option<u64>,
    /// Most bytes of answers that are not sent yet.
    pub max_unsent_bytes: Option<u64>,
    /// How long a read may wait for its turn.
    pub max_queue_ms: u64,
    /// Most reads that wait for the disk at the same time.
    pub cold_reads: Option<usize>,
}

/// `[execute]`: what `forebay execute` needs beside `[kafka]` and the definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecuteConfig {
    /// `http://host:port` or `https://host:port` of the servers that keep diagnoses.
    pub servers: Vec<String>,
    /// PEM file of the certificates that sign the servers'; for `https`.
    pub tls_ca: Option<PathBuf>,
    /// Metrics and health address.
    pub http_listen: SocketAddr,
    /// Where diagnoses are asked for.
    pub requests_topic: String,
    /// Where records go that no diagnosis can be made of.
    pub dead_letter_topic: String,
    /// Most diagnoses of one model under way.
    pub max_under_way: usize,
}

/// `[registry]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    /// The compacted topic that holds definitions; absent: there is no registry.
    pub topic: Option<String>,
}

/// `[assembly]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssemblyConfig {
    /// The topic of requests; absent: none are taken.
    pub requests_topic: Option<String>,
    /// The consumer group.
    pub group: String,
    /// Threads, each a member of the group.
    pub threads: usize,
    /// Most requests of a thread without an acknowledged answer.
    pub max_in_flight: usize,
    /// Where requests go that cannot be answered; absent: `<requests_topic>.dlq`.
    pub dead_letters: Option<String>,
}

impl AssemblyConfig {
    /// Where requests of a topic go that cannot be answered.
    pub fn dead_letter_topic(&self, requests_topic: &str) -> String {
        self.dead_letters.clone().unwrap_or_else(|| format!("{requests_topic}.dlq"))
    }
}
