//! Models: where one is served, which features become its input tensors, what it answers, when it is asked and how hard.
//! Read from `[[model]]` by `grammar`, checked against the other definitions by `check`, compared by `compatible`. The
//! executor asks them; nothing here knows how.

use std::collections::HashSet;
use std::fmt;

use toml::Value;

use super::compatible::Found;
use super::grammar::{Placed, finish, name, named};
use super::{Definitions, FieldType};
use crate::config::suggest::did_you_mean;
use crate::config::table::{self, Errors, Table};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;

/// A model that judges entities: a version of it, as a server of the Open Inference Protocol serves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Name without version.
    pub name: String,
    /// 1 and up.
    pub version: u32,
    /// `http://host:port` of its server.
    pub endpoint: String,
    /// What its server calls it.
    pub model_name: String,
    /// Which version its server is asked for; empty: the server chooses.
    pub model_version: String,
    /// "name@version" of the features it sees.
    pub feature_service: String,
    /// Names of the triggers whose edges it judges; none: only what is asked for explicitly.
    pub triggers: Vec<String>,
    /// Only edges to these states; none: to every state.
    pub states: Vec<String>,
    /// Its input tensors, in order.
    pub inputs: Vec<Input>,
    /// What is kept of its answer, in order.
    pub outputs: Vec<Output>,
    /// How hard it may be asked.
    pub limits: Limits,
}

/// One input tensor: a row of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// The tensor's name.
    pub tensor: String,
    /// Its datatype.
    pub datatype: Datatype,
    /// "view.field", in the order of the columns.
    pub features: Vec<String>,
    /// What stands in for a feature that has no value.
    pub missing: Missing,
}

/// One output tensor that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The tensor's name.
    pub tensor: String,
    /// Its name in a prediction's outputs.
    pub name: String,
    /// Its datatype.
    pub datatype: Datatype,
}

/// Datatypes of the Open Inference Protocol that features can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    /// IEEE 754 double.
    Fp64,
    /// IEEE 754 single.
    Fp32,
    /// 64-bit signed.
    Int64,
    /// 32-bit signed.
    Int32,
    /// true or false.
    Bool,
    /// Bytes; text is UTF-8.
    Bytes,
}

/// What stands in for a feature that has no value.
#[derive(Debug, Clone, PartialEq)]
pub enum Missing {
    /// Not a number; only in floating point.
    Nan,
    /// A value of the tensor's datatype.
    Value(Element),
    /// The model is not asked.
    Refuse,
}

/// One element of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    /// FP64 and FP32.
    Float(f64),
    /// INT64 and INT32.
    Int(i64),
    /// BOOL.
    Bool(bool),
    /// BYTES.
    Bytes(Vec<u8>),
}

/// How hard a model may be asked, and when it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for one answer, ms.
    pub timeout_ms: u64,
    /// How often it is asked for one prediction before that fails.
    pub attempts: u32,
    /// Longest pause after the first failure, ms; it doubles with each.
    pub backoff_ms: u64,
    /// Longest pause, ms.
    pub max_backoff_ms: u64,
    /// Most requests at the same time.
    pub max_in_flight: usize,
    /// Most requests a second; none: no limit.
    pub rate_per_s: Option<u32>,
    /// Failures in a row after which it is left alone; 0: never.
    pub circuit_failures: u32,
    /// How long it is left alone before one request tries it again, ms.
    pub circuit_open_ms: u64,
}

impl Model {
    /// "name@version".
    pub fn title(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether an edge of this trigger to this state is its to judge.
    pub fn judges(&self, trigger: &str, state: &str) -> bool {
        let wants_state = self.states.is_empty() || self.states.iter().any(|wanted| wanted == state);
        wants_state && self.watches(trigger)
    }

    /// Whether it judges edges of this trigger.
    pub fn watches(&self, trigger: &str) -> bool {
        self.triggers.iter().any(|wanted| wanted == trigger)
    }
}

impl Datatype {
    /// Every datatype.
    pub const ALL: [Datatype; 6] =
        [Datatype::Fp64, Datatype::Fp32, Datatype::Int64, Datatype::Int32, Datatype::Bool, Datatype::Bytes];

    /// As in the protocol and in definitions.
    pub fn as_str(self) -> &'static str {
        match self {
            Datatype::Fp64 => "FP64",
            Datatype::Fp32 => "FP32",
            Datatype::Int64 => "INT64",
            Datatype::Int32 => "INT32",
            Datatype::Bool => "BOOL",
            Datatype::Bytes => "BYTES",
        }
    }

    /// Whether a tensor of it can hold features of this type. Whole numbers and flags become floating point; a fraction
    /// never becomes a whole number.
    pub fn holds(self, field: FieldType) -> bool {
        match self {
            Datatype::Fp64 | Datatype::Fp32 => !matches!(field, FieldType::String | FieldType::Json),
            Datatype::Int64 | Datatype::Int32 => {
                matches!(field, FieldType::Int64 | FieldType::Timestamp | FieldType::Bool)
            }
            Datatype::Bool => field == FieldType::Bool,
            Datatype::Bytes => matches!(field, FieldType::String | FieldType::Json),
        }
    }

    fn element(self, value: &Value) -> Option<Element> {
        Some(match (self, value) {
            (Datatype::Fp64 | Datatype::Fp32, Value::Float(number)) => Element::Float(*number),
            (Datatype::Fp64 | Datatype::Fp32, Value::Integer(number)) => Element::Float(*number as f64),
            (Datatype::Int64, Value::Integer(number)) => Element::Int(*number),
            (Datatype::Int32, Value::Integer(number)) => Element::Int(i32::try_from(*number).ok()?.into()),
            (Datatype::Bool, Value::Boolean(value)) => Element::Bool(*value),
            (Datatype::Bytes, Value::String(text)) => Element::Bytes(text.clone().into_bytes()),
            _ => return None,
        })
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

/// What a model says of the other definitions.
pub(super) fn check(model: &Placed<Model>, definitions: &Definitions, errors: &Errors) {
    let Placed { place, item } = model;
    for trigger in &item.triggers {
        let known = definitions.triggers.iter().map(|trigger| trigger.name.as_str());
        if !known.clone().any(|known| known == trigger) {
            let hint = did_you_mean(trigger, known);
            errors.add(place, format_args!("triggers: no trigger \"{trigger}\" is defined{hint}"));
        }
    }
    twice(place, "inputs: tensor", item.inputs.iter().map(|input| input.tensor.as_str()), errors);
    twice(place, "outputs: tensor", item.outputs.iter().map(|output| output.tensor.as_str()), errors);
    twice(place, "outputs: name", item.outputs.iter().map(|output| output.name.as_str()), errors);
    match definitions.service(&item.feature_service) {
        Ok(service) => {
            let seen = definitions.feature_names(service);
            item.inputs.iter().for_each(|input| check_input(model, input, &seen, definitions, errors));
        }
        Err(_) if item.feature_service.is_empty() => {}
        Err(unknown) => errors.add(place, format_args!("feature_service: {unknown}")),
    }
}

fn check_input(
    model: &Placed<Model>,
    input: &Input,
    seen: &[String],
    definitions: &Definitions,
    errors: &Errors,
) {
    let place = format!("{}: input \"{}\": features", model.place, input.tensor);
    for feature in &input.features {
        if !seen.contains(feature) {
            let hint = did_you_mean(feature, seen.iter().map(String::as_str));
            let service = &model.item.feature_service;
            errors.add(&place, format_args!("feature service \"{service}\" has no \"{feature}\"{hint}"));
        } else if let Some(field) = definitions.feature_type(feature)
            && !input.datatype.holds(field)
        {
            let (datatype, field) = (input.datatype, field.as_str());
            errors.add(&place, format_args!("a tensor of {datatype} cannot hold \"{feature}\", a {field}"));
        }
    }
}

fn twice<'n>(place: &str, what: &str, names: impl Iterator<Item = &'n str>, errors: &Errors) {
    let mut seen = HashSet::new();
    for name in names.filter(|name| !seen.insert(*name)) {
        errors.add(place, format_args!("{what} \"{name}\" is listed twice"));
    }
}

/// What is asked of a version and what it answers stays; where it is served, and when and how hard it is asked, may change.
pub(super) fn compatible(old: &Definitions, new: &Definitions, found: &mut Found) {
    let of = |definitions: &Definitions, title: &str| {
        definitions.models.iter().find(|model| model.title() == title).cloned()
    };
    for model in &new.models {
        let title = model.title();
        match of(old, &title) {
            None => found.changes.push(format!("model \"{title}\" is new")),
            Some(before) => same_model(&before, model, found),
        }
    }
    for title in old.models.iter().map(|model| model.title()).filter(|title| of(new, title).is_none()) {
        found.changes.push(format!("model \"{title}\" is removed: it is not asked any more"));
    }
}

fn same_model(old: &Model, new: &Model, found: &mut Found) {
    let title = new.title();
    let fixed = [
        ("feature_service", old.feature_service != new.feature_service),
        ("inputs", old.inputs != new.inputs),
        ("outputs", old.outputs != new.outputs),
        ("model_name", old.model_name != new.model_name),
        ("model_version", old.model_version != new.model_version),
    ];
    let next = new.version.saturating_add(1);
    for (what, _) in fixed.into_iter().filter(|(_, differs)| *differs) {
        found.reasons.push(format!(
            "model \"{title}\" changes its {what}: its predictions say which model made them, make version {next}"
        ));
    }
    let free = [
        ("endpoint", old.endpoint != new.endpoint),
        ("triggers", old.triggers != new.triggers),
        ("states", old.states != new.states),
        ("limits", old.limits != new.limits),
    ];
    for (what, _) in free.into_iter().filter(|(_, differs)| *differs) {
        found.changes.push(format!("model \"{title}\" changes its {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Definitions, compatible, parse};
    use super::*;

    const BASE: &str = r#"
[[lane]]
name = "main"
[[lane.topic]]
name = "points"
[[view]]
id = 1
name = "signal"
lane = "main"
entity = "customer"
topics = ["points"]
field = [
  { name = "snr", type = "double" },
  { name = "errors", type = "int64" },
  { name = "firmware", type = "string" },
]
[[feature_service]]
name = "health"
version = 1
features = ["signal.snr", "signal.errors", "signal.firmware"]
[[feature_service]]
name = "health"
version = 2
features = ["signal.snr"]
[[model]]
name = "judge"
version = 1
endpoint = "http://127.0.0.1:9000"
feature_service = "health@1"
inputs = [{ tensor = "x", datatype = "FP64", features = ["signal.snr", "signal.errors"], missing = "nan" }]
outputs = [{ tensor = "y", datatype = "INT64" }]
"#;

    fn defined(text: &str) -> Definitions {
        parse(text).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// The errors of the definitions with one piece replaced.
    fn with(old: &str, new: &str) -> Vec<String> {
        assert!(BASE.contains(old), "{old}");
        parse(&BASE.replacen(old, new, 1)).map(|_| Vec::new()).unwrap_or_else(|errors| errors.0)
    }

    #[test]
    fn a_model_has_the_documented_defaults() {
        let definitions = defined(BASE);
        let model = &definitions.models[0];
        assert_eq!((model.title().as_str(), model.model_name.as_str()), ("judge@1", "judge"));
        assert_eq!((model.outputs[0].name.as_str(), &model.inputs[0].missing), ("y", &Missing::Nan));
        let limits = Limits {
            timeout_ms: 2000,
            attempts: 3,
            backoff_ms: 100,
            max_backoff_ms: 5000,
            max_in_flight: 16,
            rate_per_s: None,
            circuit_failures: 10,
            circuit_open_ms: 10_000,
        };
        assert_eq!(model.limits, limits);
    }

    #[test]
    fn edges_are_chosen_by_trigger_and_state() {
        let mut model = Model::clone(&defined(BASE).models[0]);
        assert!(!model.judges("low_snr", "RED"));
        model.triggers = vec!["low_snr".into()];
        assert!(model.judges("low_snr", "RED") && model.judges("low_snr", "GREEN"));
        model.states = vec!["RED".into()];
        assert!(model.judges("low_snr", "RED") && !model.judges("low_snr", "GREEN"));
    }

    #[test]
    fn bad_61_a_model_says_what_is_wrong_with_it() {
        for (old, new, expected) in [
            ("\"http://127.0.0.1:9000\"", "\"http://a b:9000\"", "endpoint: expected \"http://host:port\""),
            ("\"http://127.0.0.1:9000\"", "\"127.0.0.1:9000\"", "endpoint: expected \"http://host:port\""),
            ("\"health@1\"", "\"health\"", "feature_service: expected \"health@version\""),
            ("\"health@1\"", "\"health@3\"", "has no version 3: the highest is 2"),
            ("\"health@1\"", "\"health@2\"", "\"health@2\" has no \"signal.errors\""),
            ("\"FP64\"", "\"FP46\"", "did you mean \"FP64\"?"),
            ("\"FP64\"", "\"INT64\"", "missing: expected \"refuse\" or { value = a value of INT64 }"),
            (
                "\"nan\"",
                "{ value = \"x\" }",
                "missing: expected \"refuse\", \"nan\" or { value = a value of FP64 }",
            ),
            (
                "\"signal.errors\"]",
                "\"signal.firmware\"]",
                "a tensor of FP64 cannot hold \"signal.firmware\", a string",
            ),
            ("\"signal.errors\"]", "\"signal.erors\"]", "did you mean \"signal.errors\"?"),
            ("inputs =", "triggers = [\"nope\"]\ninputs =", "triggers: no trigger \"nope\" is defined"),
            ("inputs =", "timeout = 5\ninputs =", "timeout: expected a duration"),
            (
                "inputs =",
                "circuit = { opn = \"5s\" }\ninputs =",
                "unknown key \"opn\"; did you mean \"open\"?",
            ),
            (
                "outputs = [",
                "outputs = [{ tensor = \"y\", datatype = \"FP64\" }, ",
                "tensor \"y\" is listed twice",
            ),
        ] {
            let errors = with(old, new);
            assert!(errors.iter().any(|error| error.contains(expected)), "{expected}\n{errors:#?}");
        }
        assert!(with("\"nan\"", "{ value = -1 }").is_empty());
        let twice = format!("{BASE}{}", BASE.split_at(BASE.find("[[model]]").unwrap_or_default()).1);
        let errors = parse(&twice).expect_err("defined twice").0;
        assert!(errors[0].contains("version 1 of this name is defined already"), "{errors:?}");
    }

    #[test]
    fn bad_65_a_version_of_a_model_stays_the_same_model() {
        let old = defined(BASE);
        let change = |from: &str, to: &str| compatible(&old, &defined(&BASE.replacen(from, to, 1)));
        for (from, to, what) in [
            ("datatype = \"INT64\"", "datatype = \"FP64\"", "outputs"),
            ("\"nan\"", "\"refuse\"", "inputs"),
            (
                "feature_service = \"health@1\"",
                "feature_service = \"health@1\"\nmodel_name = \"other\"",
                "model_name",
            ),
        ] {
            let reasons = change(from, to).expect_err(what);
            let expected = format!("model \"judge@1\" changes its {what}");
            assert!(
                reasons[0].starts_with(&expected) && reasons[0].ends_with("make version 2"),
                "{reasons:?}"
            );
        }
        assert_eq!(change("9000", "9001"), Ok(vec!["model \"judge@1\" changes its endpoint".into()]));
        let gone = defined(&BASE[..BASE.find("[[model]]").unwrap_or_default()]);
        assert_eq!(compatible(&gone, &old), Ok(vec!["model \"judge@1\" is new".into()]));
        assert!(compatible(&old, &gone).unwrap_or_default()[0].contains("is removed"));
    }
}
