//! `forebay.toml`: every key with its unit, default and meaning. Placeholder for the reading of it.

pub mod suggest;
pub mod table;
pub mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The server's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[kafka]`
    pub kafka: KafkaConfig,
    /// `[storage]`
    pub storage: StorageConfig,
    /// `[ingest]`
    pub ingest: IngestConfig,
    /// `[read]`
    pub read: ReadConfig,
}

/// `[server]`
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// When given, clients must present a certificate it signed.
    pub client_ca: Option<PathBuf>,
}

/// `[kafka]`
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Shards are in `<dir>/<lane>/<partition>/`.
    pub dir: PathBuf,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Sync at least this often while there is something to sync.
    pub sync_interval_ms: u64,
    /// Sync after this many bytes.
    pub sync_bytes: u64,
}

/// `[ingest]`
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// Most messages applied as one frame.
    pub batch_max: usize,
    /// Longest wait for a batch to fill.
    pub batch_wait_ms: u64,
    /// A shard is READY when it is within this many offsets of the end seen at start.
    pub ready_max_lag: u64,
}

/// `[read]`
#[derive(Debug, Clone)]
pub struct ReadConfig {
    /// Most entities per request.
    pub max_entities: usize,
    /// Largest gRPC request.
    pub max_message_bytes: usize,
    /// How long a `wait_for` waits when the request has no deadline.
    pub default_wait_ms: u64,
}
