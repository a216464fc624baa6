//! Every key of `forebay.toml` with its range and default. Called by `Config::parse`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::Value;

use super::owned;
use super::table::{self, Errors, Table};
use super::{
    AssemblyConfig, Config, ExecuteConfig, IngestConfig, KafkaConfig, Origins, ReadConfig, RegistryConfig,
    ServerConfig, StorageConfig, TlsConfig, TriggersConfig,
};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const NAME: &str = "up to 100 letters, digits, `_`, `-` and `.`";

/// Reads and checks everything. `from` names the environment's overrides by section.
pub(super) fn config(
    file: &str,
    root: &toml::Table,
    from: &BTreeMap<String, Vec<String>>,
    dir: &Path,
    errors: &Errors,
) -> Config {
    let empty = toml::Table::new();
    let root = Table::new(file.to_owned(), root, errors);
    let section = |name: &'static str| {
        let place = place(file, name, from);
        root.table(name, place.clone()).unwrap_or_else(|| Table::new(place, &empty, errors))
    };
    let within = |section: &str| place(file, section, from);
    let server = server(section("server"), within("server.tls"), dir);
    let kafka = kafka(section("kafka"), within);
    let config = Config {
        execute: execute(section("execute"), dir, &server),
        server,
        storage: storage(section("storage"), dir),
        ingest: ingest(section("ingest")),
        triggers: triggers(section("triggers")),
        read: read(section("read")),
        registry: registry(section("registry")),
        assembly: assembly(section("assembly"), &kafka.group),
        kafka,
        origins: Origins::default(),
    };
    root.finish();
    config
}

fn place(file: &str, section: &str, from: &BTreeMap<String, Vec<String>>) -> String {
    match from.get(section) {
        None => format!("{file}: [{section}]"),
        Some(variables) => format!("{file}: [{section}] with {}", variables.join(", ")),
    }
}

fn server(table: Table<'_>, tls_place: String, dir: &Path) -> ServerConfig {
    let config = ServerConfig {
        instance: name(&table, "instance").unwrap_or_else(host_name),
        listen: address(&table, "listen", 7400),
        http_listen: address(&table, "http_listen", 7401),
        definitions: path(&table, "definitions", dir).unwrap_or_else(|| dir.join("definitions")),
        insecure: table.flag("insecure").unwrap_or(false),
        tls: table.table("tls", tls_place).map(|table| tls(table, dir)),
    };
    for (key, address) in [("listen", config.listen), ("http_listen", config.http_listen)] {
        needs_consent(&table, key, address, &config);
    }
    table.finish();
    config
}

/// Addresses that others can reach need TLS, or to be meant.
fn needs_consent(table: &Table<'_>, key: &str, address: SocketAddr, server: &ServerConfig) {
    if !address.ip().is_loopback() && server.tls.is_none() && !server.insecure {
        let advice = "add [server.tls], or set server.insecure = true if everybody who can reach it may";
        table.error(key, format_args!("{address} can be reached from other machines: {advice}"));
    }
}

fn tls(table: Table<'_>, dir: &Path) -> TlsConfig {
    let required = |key, purpose: &str| {
        table.required(key, purpose);
        path(&table, key, dir).unwrap_or_default()
    };
    let config = TlsConfig {
        cert: required("cert", "the file of the certificate chain, PEM"),
        key: required("key", "the file of the private key, PEM"),
        client_ca: path(&table, "client_ca", dir),
    };
    table.finish();
    config
}

fn kafka(table: Table<'_>, place: impl Fn(&str) -> String) -> KafkaConfig {
    let settings = |key: &'static str| {
        let inner = table.table(key, place(&format!("kafka.{key}")));
        inner.map(settings).unwrap_or_default()
    };
    let config = KafkaConfig {
        bootstrap: bootstrap(&table),
        group: name(&table, "group").unwrap_or_else(|| "forebay".into()),
        topics_check_interval_ms: duration(&table, "topics_check_interval", 100..=24 * HOUR, 30 * SECOND),
        settings: settings("settings"),
        consumer: settings("consumer"),
        producer: settings("producer"),
    };
    table.finish();
    config
}

fn bootstrap(table: &Table<'_>) -> String {
    let text = table.text("bootstrap").unwrap_or("127.0.0.1:9092");
    let has_port = |server: &str| {
        server
            .trim()
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if !text.split(',').all(has_port) {
        table.error(
            "bootstrap",
            format_args!("expected \"host:port\", or several joined by commas, found \"{text}\""),
        );
    }
    text.to_owned()
}

/// librdkafka takes text; numbers and flags are welcome without quotes.
fn settings(table: Table<'_>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (key, value) in table.entries() {
        if let Some(reason) = owned::reason(key) {
            table.error(key, format_args!("this setting is the server's own: {reason}"));
        }
        match value {
            Value::String(text) => settings.insert(key.clone(), text.clone()),
            Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => {
                settings.insert(key.clone(), value.to_string())
            }
            _ => {
                let found = table::found(value);
                table.error(key, format_args!("expected text, found {found}: put dotted names in quotes"));
                None
            }
        };
    }
    settings
}

fn storage(table: Table<'_>, dir: &Path) -> StorageConfig {
    let config = StorageConfig {
        dir: path(&table, "dir", dir).unwrap_or_else(|| dir.join("data")),
        segment_bytes: table.size_bytes("segment", 64 * KIB..=4 * GIB).unwrap_or(256 * MIB),
        // The range begins above 0.
        sync_interval_ms: table.duration_ms("sync_interval", 1..=24 * HOUR).map(|ms| ms as u64),
        sync_bytes: table.size_bytes("sync_bytes", 1..=4 * GIB).unwrap_or(8 * MIB),
        checkpoint_bytes: table.size_bytes("checkpoint", 64 * KIB..=1024 * GIB).unwrap_or(GIB),
        memory_bytes: table.size_bytes("memory", 16 * MIB..=1024 * 1024 * GIB),
        preload_bytes: table.size_bytes("preload", 0..=1024 * 1024 * GIB).unwrap_or(0),
    };
    table.finish();
    config
}

fn ingest(table: Table<'_>) -> IngestConfig {
    let config = IngestConfig {
        batch_max: table.integer("batch_max", 1..=1_000_000).unwrap_or(1000) as usize,
        batch_wait_ms: duration(&table, "batch_wait", 0..=10 * SECOND, 5),
        ready_max_lag: table.integer("ready_max_lag", 0..=i64::MAX).unwrap_or(0) as u64,
    };
    table.finish();
    config
}

fn triggers(table: Table<'_>) -> TriggersConfig {
    let config = TriggersConfig {
        emit: table.flag("emit").unwrap_or(true),
        transaction_interval_ms: duration(&table, "transaction_interval", 0..=10 * SECOND, 50),
    };
    table.finish();
    config
}

fn read(table: Table<'_>) -> ReadConfig {
    let config = ReadConfig {
        max_entities: table.integer("max_entities", 1..=1_000_000).unwrap_or(10_000) as usize,
        max_message_bytes: table.size_bytes("max_message", KIB..=GIB).unwrap_or(64 * MIB) as usize,
        default_wait_ms: duration(&table, "default_wait", 0..=HOUR, 5 * SECOND),
        threads: table.integer("threads", 1..=1024).map(|threads| threads as usize),
        max_in_flight: table.integer("max_in_flight", 1..=10_000_000).map(|reads| reads as u64),
        max_unsent_bytes: table.size_bytes("max_unsent", MIB..=1024 * GIB),
        max_queue_ms: duration(&table, "max_queue", 1..=HOUR, 500),
        cold_reads: table.integer("cold_reads", 1..=10_000).map(|reads| reads as usize),
    };
    table.finish();
    config
}

fn execute(table: Table<'_>, dir: &Path, server: &ServerConfig) -> ExecuteConfig {
    let topic = |key, default: &str| topic(&table, key).unwrap_or_else(|| default.to_owned());
    let config = ExecuteConfig {
        servers: servers(&table),
        tls_ca: path(&table, "tls_ca", dir),
        http_listen: address(&table, "http_listen", 7402),
        requests_topic: topic("requests_topic", "forebay.diagnosis-requests"),
        dead_letter_topic: topic("dead_letter_topic", "forebay.execute.dlq"),
        max_under_way: table.integer("max_under_way", 1..=100_000).unwrap_or(256) as usize,
    };
    needs_consent(&table, "http_listen", config.http_listen, server);
    table.finish();
    config
}

fn registry(table: Table<'_>) -> RegistryConfig {
    let config = RegistryConfig { topic: topic(&table, "topic") };
    table.finish();
    config
}

/// A list; or text with commas, because environment variables are text.
fn servers(table: &Table<'_>) -> Vec<String> {
    let servers: Vec<String> = match table.value("servers") {
        None => vec!["http://127.0.0.1:7400".into()],
        Some(Value::String(text)) => text.split(',').map(|server| server.trim().to_owned()).collect(),
        Some(_) => table.texts("servers").into_iter().map(str::to_owned).collect(),
    };
    let is_address = |server: &&String| {
        let host = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://"));
        host.is_some_and(|host| !host.is_empty())
    };
    match servers.iter().find(|server| !is_address(server)) {
        Some(server) => {
            let expected = "expected \"http://host:port\" or \"https://host:port\"";
            table.error("servers", format_args!("{expected}, found \"{server}\""));
        }
        None if servers.is_empty() => table.error("servers", "name at least one server"),
        None => {}
    }
    servers
}

fn assembly(table: Table<'_>, group: &str) -> AssemblyConfig {
    let config = AssemblyConfig {
        requests_topic: topic(&table, "requests_topic"),
        group: name(&table, "group").unwrap_or_else(|| format!("{group}.assembly")),
        threads: table.integer("threads", 1..=64).unwrap_or(1) as usize,
        max_in_flight: table.integer("max_in_flight", 1..=1_000_000).unwrap_or(10_000) as usize,
        dead_letters: topic(&table, "dead_letter_topic"),
    };
    table.finish();
    config
}

/// Kafka's rule for topics.
fn topic(table: &Table<'_>, key: &'static str) -> Option<String> {
    let name = table.text(key)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 249 || !name.chars().all(allowed) || [".", ".."].contains(&name) {
        let rule = "a Kafka topic: up to 249 letters, digits, `_`, `-` and `.`";
        table.error(key, format_args!("expected {rule}, found \"{name}\""));
    }
    Some(name.to_owned())
}

fn duration(
    table: &Table<'_>,
    key: &'static str,
    range: std::ops::RangeInclusive<i64>,
    default_ms: i64,
) -> u64 {
    // Every range begins at 0 or above.
    table.duration_ms(key, range).unwrap_or(default_ms) as u64
}

/// An IP address and port; `localhost` is 127.0.0.1, so that what is listened on does not depend on a resolver.
fn address(table: &Table<'_>, key: &'static str, default_port: u16) -> SocketAddr {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, default_port));
    let Some(text) = table.text(key) else { return default };
    match text.replacen("localhost:", "127.0.0.1:", 1).parse() {
        Ok(address) => address,
        Err(_) => {
            let expected = "an IP address and port such as \"127.0.0.1:7400\" or \"[::1]:7400\"";
            table.error(key, format_args!("expected {expected}, found \"{text}\""));
            default
        }
    }
}

fn path(table: &Table<'_>, key: &'static str, dir: &Path) -> Option<PathBuf> {
    let text = table.text(key)?;
    if text.is_empty() {
        table.error(key, "empty: expected a path");
    }
    Some(dir.join(text))
}

fn name(table: &Table<'_>, key: &'static str) -> Option<String> {
    let name = table.text(key)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        table.error(key, format_args!("expected {NAME}, found \"{name}\""));
    }
    Some(name.to_owned())
}

/// Stable across restarts and different on each machine, which is what an instance's name must be.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
    let name: String = name.trim().chars().filter(allowed).take(100).collect();
    if name.is_empty() { "forebay".into() } else { name }
}
