//! Decodes every file of a shard for people and for tools: MANIFEST, segments, codec generations, index
//! checkpoints, or the whole directory. Opens read-only, takes no lock, works beside a running writer and on damaged files as far as they are whole.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::codec::Coding;
use crate::coding::{self, Codecs, Library, Owner, Stored};
use crate::error::{InspectError, OpenError};
use crate::index_file;
use crate::log::footer::Footer;
use crate::log::frame::{Frame, FrameRecord};
use crate::log::segment::{self, FRAMES_AT, Segment};
use crate::manifest::{self, Manifest};
use crate::record::{self, Location};
use crate::types::Kind;

/// Shows a file or a whole shard directory, readable or as JSON lines.
///
/// # Errors
/// `Unknown` for what no shard has; `Damaged` after everything that is whole has been shown.
pub fn dump(path: &Path, json: bool, out: &mut dyn Write) -> Result<(), InspectError> {
    let mut to = Output { json, out, topics: Vec::new(), codecs: None };
    if path.is_dir() {
        return directory(path, &mut to);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name == manifest::NAME {
        return show_manifest(path, &mut to).map(|_| ());
    }
    if let Some(number) = codec_number(path) {
        return show_codec(path, number, &mut to);
    }
    if path.parent().is_some_and(|parent| parent.ends_with(index_file::DIR)) {
        return show_index(path, &mut to);
    }
    if !name.ends_with(".seg") {
        return Err(InspectError::Unknown(path.to_path_buf()));
    }
    if let Some(dir) = path.parent() {
        // Only for the topics' names; a segment can be shown without.
        to.topics = Manifest::load(dir).map(|manifest| names(&manifest)).unwrap_or_default();
    }
    show_segment(path, &mut to)
}

fn names(manifest: &Manifest) -> Vec<String> {
    manifest.topics.iter().map(|topic| topic.name.clone()).collect()
}

/// Shows all that is whole, then names the first damage.
fn directory(dir: &Path, to: &mut Output<'_>) -> Result<(), InspectError> {
    let numbers = segment::numbers(dir).map_err(failed(dir))?;
    let path = dir.join(manifest::NAME);
    if numbers.is_empty() && !path.exists() {
        return Err(InspectError::Unknown(dir.to_path_buf()));
    }
    let shown = show_manifest(&path, to);
    let mut named = Vec::new();
    if let Ok(manifest) = &shown {
        named = (manifest.first_segment..=manifest.last_segment).collect();
    }
    let mut result = shown.map(|_| ());
    for number in coding::numbers(dir).map_err(failed(dir))? {
        result = result.and(show_codec(&coding::path(dir, number), number, to));
    }
    for number in index_file::numbers(dir) {
        result = result.and(show_index(&index_file::path(dir, number), to));
    }
    named.extend(numbers.into_iter().filter(|number| !named.contains(number)).collect::<Vec<_>>());
    named.sort_unstable();
    for number in named {
        let shown = show_segment(&segment::path(dir, number), to);
        result = result.and(shown);
    }
    result
}

fn show_manifest(path: &Path, to: &mut Output<'_>) -> Result<Manifest, InspectError> {
    let bytes = fs::read(path).map_err(failed(path))?;
    let manifest = Manifest::decode(path, &bytes).map_err(damaged)?;
    to.topics = names(&manifest);
    let mut value = serde_json::to_value(&manifest).expect("a manifest is plain data");
    value["what"] = json!("manifest");
    value["file"] = json!(path.display().to_string());
    to.show(path, &value)?;
    Ok(manifest)
}

fn show_index(path: &Path, to: &mut Output<'_>) -> Result<(), InspectError> {
    let mut shown = index_file::describe(path).map_err(|detail| InspectError::Damaged {
        file: path.to_path_buf(),
        at: 0,
        detail,
    })?;
    shown["file"] = json!(path.display().to_string());
    to.show(path, &shown)
}

/// The number of a codec generation's file.
fn codec_number(path: &Path) -> Option<u32> {
    let number = coding::number_of(path.file_name()?.to_str()?)?;
    (coding::path(path.parent()?.parent()?, number) == path).then_some(number)
}

fn show_codec(path: &Path, number: u32, to: &mut Output<'_>) -> Result<(), InspectError> {
    let bytes = fs::read(path).map_err(failed(path))?;
    let known = coding::decode_file(&bytes, number, None);
    let known = known.map_err(|detail| InspectError::Damaged { file: path.to_path_buf(), at: 0, detail })?;
    to.show(
        path,
        &json!({
            "what": "codec", "file": path.display().to_string(), "number": number, "view": known.view,
            "samples": known.samples, "bytes": bytes.len(), "slots": known.generation.slots(),
            "dictionary_bytes": known.generation.dictionary_bytes(),
        }),
    )?;
    for mut block in known.generation.blocks() {
        block["what"] = json!("block");
        to.show(path, &block)?;
    }
    Ok(())
}

fn show_segment(path: &Path, to: &mut Output<'_>) -> Result<(), InspectError> {
    let segment = Segment::open(path, false).map_err(damaged)?;
    let header = &segment.header;
    if let Some(dir) = path.parent() {
        let owner = Owner { shard: header.shard, stream: header.stream };
        // Payloads whose generation cannot be loaded are shown as they are stored.
        to.codecs = Codecs::load(dir, owner, &Library::default()).ok().map(|loaded| loaded.codecs);
    }
    to.show(
        path,
        &json!({
            "what": "segment", "file": path.display().to_string(), "number": header.number,
            "shard": hex(&header.shard), "format": header.format, "bytes": segment.map.len(),
            "capacity": header.capacity, "first_sequence": header.first_sequence, "stream": header.stream,
            "previous": sum(header.previous),
        }),
    )?;
    let mut at = FRAMES_AT;
    let why = loop {
        match Frame::at(&segment, at) {
            Ok(frame) => {
                show_frame(&segment, &frame, to)?;
                at = frame.end();
            }
            Err(why) => break why,
        }
    };
    show_end(&segment, at, why, to)
}

fn show_frame(segment: &Segment, frame: &Frame<'_>, to: &mut Output<'_>) -> Result<(), InspectError> {
    let header = &frame.header;
    let positions =
        positions(&to.topics, frame.positions().map(|position| (position.offset, position.ingest_time_ms)));
    to.show(
        &segment.path,
        &json!({
            "what": "frame", "at": frame.at, "bytes": frame.end() - frame.at, "sequence": header.sequence,
            "records": header.record_count, "durable": header.durable, "previous": sum(header.previous),
            "sum": sum(header.head_sum), "positions": positions,
        }),
    )?;
    for record in frame.records() {
        let record = record.map_err(|at| InspectError::Damaged {
            file: segment.path.clone(),
            at,
            detail: "a record that is not whole in a frame that is".to_owned(),
        })?;
        let shown = show_record(&record, to);
        to.show(&segment.path, &shown)?;
    }
    Ok(())
}

fn show_record(record: &FrameRecord<'_>, to: &Output<'_>) -> Value {
    let header = &record.header;
    let mut value = json!({
        "what": "record", "at": record.at, "view": header.view, "entity": text_or_hex(record.entity),
        "kind": if header.kind() == Kind::Value { "value" } else { "tombstone" },
        "event_time_ms": header.event_time_ms, "ingest_time_ms": header.ingest_time_ms,
        "expiry_ms": header.expiry_ms, "topic": topic_name(&to.topics, usize::from(header.topic)),
        "offset": header.offset, "late": header.is_late(), "mixed": header.is_mixed(), "depth": header.depth,
        "prev": pointer(header.prev), "jump": pointer(header.jump), "late_before": pointer(header.late),
        "codec": header.codec, "payload_bytes": header.payload_len,
    });
    let stored = Stored::of(header, record.payload);
    value["coding"] = match stored {
        Some(stored) => json!(format!("{:?}", stored.coding).to_lowercase()),
        None => json!("unknown"),
    };
    let payload = stored.and_then(|stored| match &to.codecs {
        Some(codecs) => codecs.decoded(stored),
        None => (stored.coding == Coding::Raw).then(|| stored.bytes.to_vec()),
    });
    value["payload"] = match payload {
        _ if record::short_sum(record.payload) != header.payload_sum => json!("damaged"),
        Some(payload) => json!(text_or_hex(&payload)),
        None => json!("its codec generation is missing or damaged"),
    };
    value
}

/// What follows the last frame: the footer, or free space, or damage.
fn show_end(segment: &Segment, at: u64, why: &'static str, to: &mut Output<'_>) -> Result<(), InspectError> {
    let Some(footer) = Footer::of(segment) else {
        if segment.has_written(at) || segment.map.len() < segment.capacity() {
            let detail =
                format!("{why}; after a crash this is the log's end, and the next opening clears it");
            return Err(InspectError::Damaged { file: segment.path.clone(), at, detail });
        }
        return to
            .show(&segment.path, &json!({ "what": "free", "at": at, "bytes": segment.capacity() - at }));
    };
    let summary = &footer.summary;
    let last = footer.positions().map(|position| (position.offset, position.ingest_time_ms));
    to.show(
        &segment.path,
        &json!({
            "what": "footer", "records": footer.len(), "first_sequence": summary.first_sequence,
            "last_sequence": summary.last_sequence, "frames_end": summary.frames_end,
            "max_expiry_ms": summary.max_expiry_ms, "sum": sum(summary.last_sum),
            "positions": positions(&to.topics, last),
        }),
    )?;
    if at != summary.frames_end {
        let detail = format!("{why}; the footer says that frames go on to byte {}", summary.frames_end);
        return Err(InspectError::Damaged { file: segment.path.clone(), at, detail });
    }
    Ok(())
}

/// Where lines go, and in which form.
struct Output<'o> {
    json: bool,
    out: &'o mut dyn Write,
    topics: Vec<String>,
    /// Of the segment that is shown.
    codecs: Option<Codecs>,
}

impl Output<'_> {
    /// One line per thing: JSON, or `what name=value ...`, indented by what it is a part of.
    fn show(&mut self, file: &Path, value: &Value) -> Result<(), InspectError> {
        let written = if self.json { writeln!(self.out, "{value}") } else { self.line(value) };
        written.map_err(failed(file))
    }

    fn line(&mut self, value: &Value) -> io::Result<()> {
        let what = value["what"].as_str().unwrap_or_default();
        let indent = match what {
            "manifest" | "segment" | "codec" => "",
            "record" => "    ",
            _ => "  ",
        };
        write!(self.out, "{indent}{what}")?;
        for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| *name != "what") {
            match value {
                Value::String(text) => write!(self.out, " {name}={text}")?,
                other => write!(self.out, " {name}={other}")?,
            }
        }
        writeln!(self.out)
    }
}

fn positions(topics: &[String], offsets: impl Iterator<Item = (i64, i64)>) -> Value {
    let one = |(topic, (offset, ingest_time_ms)): (usize, (i64, i64))| {
        let name = topic_name(topics, topic);
        (offset >= 0).then(|| json!({ "topic": name, "offset": offset, "ingest_time_ms": ingest_time_ms }))
    };
    offsets.enumerate().filter_map(one).collect()
}

fn topic_name(topics: &[String], topic: usize) -> String {
    topics.get(topic).cloned().unwrap_or_else(|| topic.to_string())
}

fn pointer(at: u64) -> String {
    Location(at).to_string()
}

fn sum(sum: u64) -> String {
    format!("{sum:016x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text where it is text, `hex:...` otherwise.
fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => format!("hex:{}", hex(bytes)),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InspectError + use<> {
    let path = path.to_path_buf();
    move |source| InspectError::Io { path, source }
}

fn damaged(error: OpenError) -> InspectError {
    match error {
        OpenError::Corrupt { file, at, detail } => InspectError::Damaged { file, at, detail },
        OpenError::NewerFormat { file, found, known } => {
            let detail = format!("format {found} is newer than {known}, the newest this version reads");
            InspectError::Damaged { file, at: 0, detail }
        }
        OpenError::Io { path, source } => InspectError::Io { path, source },
        other => InspectError::Damaged { file: Default::default(), at: 0, detail: other.to_string() },
    }
}
