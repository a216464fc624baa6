//! How results are shown: tables for people, JSON for programs, times as RFC 3339, ids as text or hex. Writes to
//! standard output only here; knows no command.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use forebay_client::{OffsetVector, Position, Status};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What was asked cannot be: wrong usage, configuration or definitions. Ends the process with 2 instead of 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadInput(pub String);

/// Prints a line. Fails when nobody reads any more.
pub fn line(text: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Prints one JSON document on one line.
pub fn json_line(value: &impl serde::Serialize) -> io::Result<()> {
    line(serde_json::to_string(value)?)
}

/// A table for people: as wide as the terminal, without frames so that it can be cut and pasted.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A table as text, without spaces at the ends of lines.
pub fn rendered(table: &Table) -> String {
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A progress line on standard error, if that is a terminal. `total` in the given unit; 0: unknown.
pub fn progress(total: u64, unit: &str) -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target);
    let template = match total {
        0 => format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}"),
        _ => format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left"),
    };
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// ms since the epoch as RFC 3339 in UTC; the number itself where that cannot be written.
pub fn rfc3339(ms: i64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| ms.to_string())
}

/// A span as people say it: the two largest units.
pub fn span(ms: i64) -> String {
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let Some(first) = units.iter().position(|(_, size)| ms >= *size) else { return "0ms".into() };
    let (unit, size) = units[first];
    let mut text = format!("{sign}{}{unit}", ms / size);
    if let Some((unit, smaller)) = units.get(first + 1).filter(|(unit, _)| *unit != "ms") {
        let rest = ms % size / smaller;
        if rest > 0 {
            text.push_str(&format!(" {rest}{unit}"));
        }
    }
    text
}

/// Bytes as people say them.
pub fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// An entity id or key: as text if it can be read, else `hex:...`.
pub fn id(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("hex:") && !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("hex:{}", hex::encode(bytes)),
    }
}

/// As `id`, cut where it would spoil a table.
pub fn short_id(bytes: &[u8]) -> String {
    const MOST: usize = 64;
    let id = id(bytes);
    match id.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}... ({} bytes)", &id[..cut], bytes.len()),
        None => id,
    }
}

/// `topic/partition@offset`.
pub fn position(position: &Position) -> String {
    format!("{}/{}@{}", position.topic, position.partition, position.offset)
}

/// A status as the contract names it.
pub fn status(status: Status) -> &'static str {
    status.as_str_name()
}

/// A JSON object under construction, whose values may be payloads as they came: any number, any order of names.
#[derive(Debug, Default)]
pub struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// One more member.
    pub fn push(&mut self, name: impl Into<String>, value: impl serde::Serialize) {
        let value =
            serde_json::value::to_raw_value(&value).expect("maps have text keys, and nothing else fails");
        self.0.push((name.into(), value));
    }

    /// Without members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl serde::Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A payload as a JSON value, as it came if it is JSON (but on one line), else as text.
pub fn raw_json(bytes: &[u8]) -> Box<RawValue> {
    // Inside JSON strings line breaks are escaped: those found are spaces between tokens.
    let text = String::from_utf8_lossy(bytes).replace(['\n', '\r'], " ");
    RawValue::from_string(text).unwrap_or_else(|_| {
        let text = Value::from(String::from_utf8_lossy(bytes));
        RawValue::from_string(text.to_string()).expect("a JSON string is JSON")
    })
}

/// A payload for people: indented if it is JSON.
pub fn pretty_json(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => format!("{value:#}"),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// `{"topic": {"0": 5}}`.
pub fn vector_json(vector: &OffsetVector) -> Value {
    let topics = vector.topics.iter().map(|topic| {
        let offsets = topic.partitions.iter().zip(&topic.offsets);
        let offsets: Map<_, _> =
            offsets.map(|(partition, offset)| (partition.to_string(), json!(offset))).collect();
        (topic.topic.clone(), Value::Object(offsets))
    });
    Value::Object(topics.collect())
}

/// `{"topic": ..., "partition": ..., "offset": ...}`.
pub fn position_json(position: &Position) -> Value {
    json!({"topic": position.topic, "partition": position.partition, "offset": position.offset})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (ms, text) in [
            (0, "0ms"),
            (250, "250ms"),
            (1_250, "1s"),
            (61_000, "1m 1s"),
            (3_600_000, "1h"),
            (90_061_000, "1d 1h"),
            (-61_000, "-1m 1s"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn ids_that_are_no_text_are_hex() {
        assert_eq!(id(b"c-1"), "c-1");
        assert_eq!(id(&[0xff, 0]), "hex:ff00");
        assert_eq!(id(b"a\nb"), "hex:610a62");
        assert_eq!(id(b"hex:1"), "hex:6865783a31", "reads back as the same id");
        assert_eq!(short_id(b"c-1"), "c-1");
        assert!(short_id(&[b'k'; 300]).ends_with("k... (300 bytes)"));
    }

    #[test]
    fn payloads_stay_byte_for_byte_in_json() {
        assert_eq!(raw_json(br#"{"a": 1.50,"a":2}"#).get(), r#"{"a": 1.50,"a":2}"#);
        assert_eq!(raw_json(b"{\n\"a\":1e400}").get(), r#"{ "a":1e400}"#);
        assert_eq!(raw_json(b"{broken").get(), r#""{broken""#);
        let mut object = Object::default();
        object.push("b", raw_json(b"1e400"));
        object.push("a", "text");
        assert_eq!(serde_json::to_string(&object).expect("JSON"), r#"{"b":1e400,"a":"text"}"#);
    }

    #[test]
    fn a_table_has_headings_and_no_trailing_spaces() {
        let mut table = table(&["lane", "state"]);
        table.add_row(["main", "READY"]);
        let text = rendered(&table);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("LANE") && lines[1].contains("READY"), "{text}");
        assert!(lines.iter().all(|line| !line.ends_with(' ')), "{text:?}");
    }
}
