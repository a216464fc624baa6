//! The TOML grammar of `[[model]]`: one model by itself, with its defaults and bounds. What it says of other definitions is
//! `model::check`'s. Called by `grammar`.

use toml::Value;

use super::grammar::{Placed, finish, name, named};
use super::model::{Datatype, Input, Limits, Missing, Model, Output};
use crate::config::table::{self, Table};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;

/// One `[[model]]`.
pub(super) fn read(table: Table<'_>) -> Placed<Model> {
    if table.value("version").is_none() {
        table.error("version", "missing: 1 for the first, and a new one when it is another model");
    }
    let name = name(&table, "name", "every model has a name");
    let texts = |key| table.texts(key).into_iter().map(str::to_owned).collect();
    let item = Model {
        version: table.integer("version", 1..=i64::from(u32::MAX)).unwrap_or(0) as u32,
        endpoint: endpoint(&table),
        model_name: table.text("model_name").unwrap_or(&name).to_owned(),
        model_version: table.text("model_version").unwrap_or_default().to_owned(),
        feature_service: feature_service(&table),
        triggers: texts("triggers"),
        states: texts("states"),
        inputs: inputs(&table),
        outputs: outputs(&table),
        limits: limits(&table),
        name,
    };
    finish(table, item)
}

fn endpoint(table: &Table<'_>) -> String {
    const PURPOSE: &str = "where its server listens for gRPC, as \"http://host:port\"";
    let Some(text) = table.required("endpoint", PURPOSE) else { return String::new() };
    let port = text.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':'));
    let is_host = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._[]:".contains(c))
    };
    if !port.is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok()) {
        table.error("endpoint", format_args!("expected \"http://host:port\", found \"{text}\""));
    }
    text.to_owned()
}

fn feature_service(table: &Table<'_>) -> String {
    const PURPOSE: &str = "the features it sees, as \"name@version\"";
    let Some(text) = table.required("feature_service", PURPOSE) else { return String::new() };
    if !text.contains('@') {
        let reason = "a model sees the features it was trained on, whatever versions come later";
        table.error("feature_service", format_args!("expected \"{text}@version\": {reason}"));
    }
    text.to_owned()
}

fn inputs(model: &Table<'_>) -> Vec<Input> {
    let tables = model.tables("inputs", "model.inputs");
    if tables.is_empty() {
        model.error("inputs", "a model takes at least one tensor: add [[model.inputs]] with its features");
    }
    let input = |(number, table)| input(part(model, "input", number, table));
    tables.into_iter().enumerate().map(input).collect()
}

/// An input or output, whose place is its tensor.
fn part<'t>(model: &Table<'t>, kind: &str, number: usize, table: &'t toml::Table) -> Table<'t> {
    match table.get("tensor").and_then(Value::as_str) {
        Some(tensor) => Table::new(format!("{}: {kind} \"{tensor}\"", model.place), table, model.errors()),
        None => named(&model.place, kind, number, table, model.errors()),
    }
}

fn input(table: Table<'_>) -> Input {
    let datatype = datatype(&table);
    let input = Input {
        tensor: table.required("tensor", "the tensor's name").unwrap_or_default().to_owned(),
        datatype,
        features: table.texts("features").into_iter().map(str::to_owned).collect(),
        missing: missing(&table, datatype),
    };
    if input.features.is_empty() {
        table.error("features", "name at least one feature, as \"view.field\"");
    }
    table.finish();
    input
}

fn datatype(table: &Table<'_>) -> Datatype {
    if table.value("datatype").is_none() {
        let all = Datatype::ALL.map(Datatype::as_str).join(", ");
        table.error("datatype", format_args!("missing: one of {all}"));
    }
    let choices = Datatype::ALL.map(|datatype| (datatype.as_str(), datatype));
    table.choice("datatype", &choices).unwrap_or(Datatype::Fp64)
}

/// "nan", "refuse", or { value = ... }.
fn missing(table: &Table<'_>, datatype: Datatype) -> Missing {
    let is_float = matches!(datatype, Datatype::Fp64 | Datatype::Fp32);
    let read = |value: &Value| match value {
        Value::String(word) if word == "refuse" => Some(Missing::Refuse),
        Value::String(word) if word == "nan" && is_float => Some(Missing::Nan),
        Value::Table(inner) if inner.len() == 1 => {
            inner.get("value").and_then(|value| datatype.element(value)).map(Missing::Value)
        }
        _ => None,
    };
    let Some(value) = table.value("missing") else { return Missing::Refuse };
    read(value).unwrap_or_else(|| {
        let nan = if is_float { ", \"nan\"" } else { "" };
        let expected = format!("\"refuse\"{nan} or {{ value = a value of {datatype} }}");
        table.error("missing", format_args!("expected {expected}, found {}", table::found(value)));
        Missing::Refuse
    })
}

fn outputs(model: &Table<'_>) -> Vec<Output> {
    let tables = model.tables("outputs", "model.outputs");
    if tables.is_empty() {
        model.error("outputs", "a model gives at least one tensor: add [[model.outputs]]");
    }
    let output = |(number, table)| output(part(model, "output", number, table));
    tables.into_iter().enumerate().map(output).collect()
}

fn output(table: Table<'_>) -> Output {
    let tensor = table.required("tensor", "the tensor's name").unwrap_or_default().to_owned();
    let name = table.text("name").unwrap_or(&tensor).to_owned();
    let output = Output { name, tensor, datatype: datatype(&table) };
    table.finish();
    output
}

fn limits(table: &Table<'_>) -> Limits {
    let ms = |key, most, default| table.duration_ms(key, 1..=most).unwrap_or(default) as u64;
    let empty = toml::Table::new();
    let place = format!("{}: circuit", table.place);
    let circuit = table.table("circuit", place.clone()).unwrap_or(Table::new(place, &empty, table.errors()));
    let limits = Limits {
        timeout_ms: ms("timeout", HOUR, 2 * SECOND),
        attempts: table.integer("attempts", 1..=100).unwrap_or(3) as u32,
        backoff_ms: ms("backoff", HOUR, 100),
        max_backoff_ms: ms("max_backoff", HOUR, 5 * SECOND),
        max_in_flight: table.integer("max_in_flight", 1..=10_000).unwrap_or(16) as usize,
        rate_per_s: table.integer("rate_per_s", 1..=1_000_000).map(|rate| rate as u32),
        circuit_failures: circuit.integer("failures", 0..=1_000_000).unwrap_or(10) as u32,
        circuit_open_ms: circuit.duration_ms("open", 1..=HOUR).unwrap_or(10 * SECOND) as u64,
    };
    circuit.finish();
    limits
}
