//! Environment variables over the file: `FOREBAY_STORAGE_DIR` is `dir` of `[storage]`. Called once, before the file is
//! read, so that values from both are checked alike.

use std::collections::BTreeMap;

use toml::Value;

use super::origin::Origins;
use super::suggest::did_you_mean;
use super::table::Errors;

/// Sections with their keys; `*` takes librdkafka's dotted names, `FOREBAY_KAFKA_SETTINGS_SASL_PASSWORD` is
/// `sasl.password`.
const KEYS: [(&[&str], &[&str]); 13] = [
    (&["server", "tls"], &["cert", "key", "client_ca"]),
    (&["server"], &["instance", "listen", "http_listen", "definitions", "insecure"]),
    (&["kafka", "settings"], &["*"]),
    (&["kafka", "consumer"], &["*"]),
    (&["kafka", "producer"], &["*"]),
    (&["kafka"], &["bootstrap", "group", "topics_check_interval"]),
    (&["storage"], &["dir", "segment", "sync_interval", "sync_bytes", "checkpoint", "memory", "preload"]),
    (&["ingest"], &["batch_max", "batch_wait", "ready_max_lag"]),
    (&["triggers"], &["emit", "transaction_interval"]),
    (&["registry"], &["topic"]),
    (
        &["read"],
        &[
            "max_entities",
            "max_message",
            "default_wait",
            "threads",
            "max_in_flight",
            "max_unsent",
            "max_queue",
            "cold_reads",
        ],
    ),
    (&["assembly"], &["requests_topic", "group", "threads", "max_in_flight", "dead_letter_topic"]),
    (
        &["execute"],
        &["servers", "tls_ca", "http_listen", "requests_topic", "dead_letter_topic", "max_under_way"],
    ),
];

/// Every key by its full name, but those whose names are free.
pub fn keys() -> impl Iterator<Item = String> {
    let named = KEYS.iter().filter(|(_, keys)| *keys != ["*"]);
    named.flat_map(|(section, keys)| keys.iter().map(|key| format!("{}.{key}", section.join("."))))
}

/// The variables of this process that begin as ours do.
pub(super) fn ours() -> impl Iterator<Item = (String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(text).filter(|(name, _)| name.starts_with("FOREBAY_"))
}

/// Puts the overrides into `root`, and gives their names by section. A name of a section with a key it does not have is
/// an error; names of no section are other programs'.
pub(super) fn apply(
    root: &mut toml::Table,
    overrides: impl IntoIterator<Item = (String, String)>,
    origins: &mut Origins,
    errors: &Errors,
) -> BTreeMap<String, Vec<String>> {
    let mut from: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in overrides {
        let Some((section, rest)) = section_of(&name) else { continue };
        match key_of(section, &rest) {
            Some(key) => {
                let place = section.0.join(".");
                origins.override_with(format!("{place}.{key}"), &name);
                put(root, section.0, key, value);
                from.entry(place).or_default().push(name);
            }
            None => {
                let hint = did_you_mean(&rest, section.1.iter().copied());
                let section = section.0.join(".");
                errors.add(&name, format_args!("[{section}] has no key \"{rest}\"{hint}"));
            }
        }
    }
    from
}

type Section = (&'static [&'static str], &'static [&'static str]);

/// The section a variable is of, and the rest of its name in lower case. Inner sections come first in `KEYS`.
fn section_of(name: &str) -> Option<(Section, String)> {
    let name = name.strip_prefix("FOREBAY_")?.to_ascii_lowercase();
    KEYS.iter().find_map(|section| {
        let rest = name.strip_prefix(&section.0.join("_"))?.strip_prefix('_')?;
        Some((*section, rest.to_owned()))
    })
}

fn key_of(section: Section, rest: &str) -> Option<String> {
    if section.1 == ["*"] {
        return Some(rest.replace('_', "."));
    }
    section.1.contains(&rest).then(|| rest.to_owned())
}

/// What is no table on the way is left as it is: reading it will say so.
fn put(root: &mut toml::Table, section: &[&str], key: String, value: String) {
    let mut table = root;
    for name in section {
        let inner = table.entry(*name).or_insert_with(|| Value::Table(toml::Table::new()));
        let Some(inner) = inner.as_table_mut() else { return };
        table = inner;
    }
    table.insert(key, Value::String(value));
}
