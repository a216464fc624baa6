//! From a snapshot to a model's input tensors: one row, `[1, n]`, as its definition says. Called by `model`; the reverse is
//! `answer`.

use forebay_proto::inference::InferTensorContents;
use forebay_proto::inference::model_infer_request::InferInputTensor;
use forebay_proto::v1::{Snapshot, SnapshotFeature, Status};
use serde_json::Value;

use crate::definitions::Model;
use crate::definitions::model::{Datatype, Element, Input, Missing};

/// The tensors of one snapshot; or why the model cannot be asked.
pub(super) fn tensors(model: &Model, snapshot: &Snapshot) -> Result<Vec<InferInputTensor>, String> {
    model.inputs.iter().map(|input| tensor(input, snapshot)).collect()
}

fn tensor(input: &Input, snapshot: &Snapshot) -> Result<InferInputTensor, String> {
    let mut contents = InferTensorContents::default();
    for feature in &input.features {
        push(&mut contents, input.datatype, element(input, feature, snapshot)?);
    }
    Ok(InferInputTensor {
        name: input.tensor.clone(),
        datatype: input.datatype.to_string(),
        shape: vec![1, input.features.len() as i64],
        contents: Some(contents),
        ..InferInputTensor::default()
    })
}

fn element(input: &Input, feature: &str, snapshot: &Snapshot) -> Result<Element, String> {
    let found = find(snapshot, feature);
    let status = match found {
        Some((_, of_view)) if of_view != Status::Present => of_view,
        _ => Status::NotFound,
    };
    match found.and_then(|(value, _)| value) {
        Some(value) if value.status() == Status::Present => {
            convert(input.datatype, &value.json).ok_or_else(|| {
                let found = String::from_utf8_lossy(&value.json);
                format!("{feature} does not fit {}: {found}", input.datatype)
            })
        }
        other => {
            let status = other.map_or(status, |value| value.status());
            match &input.missing {
                Missing::Nan => Ok(Element::Float(f64::NAN)),
                Missing::Value(element) => Ok(element.clone()),
                Missing::Refuse => Err(format!("{feature} has no value: {}", status.as_str_name())),
            }
        }
    }
}

/// A feature, and the status of its view's value. Names of views and features may have dots in them.
fn find<'s>(snapshot: &'s Snapshot, feature: &str) -> Option<(Option<&'s SnapshotFeature>, Status)> {
    snapshot.values.iter().find_map(|value| {
        let name = feature.strip_prefix(value.view.as_str())?.strip_prefix('.')?;
        Some((value.features.iter().find(|feature| feature.name == name), value.status()))
    })
}

/// JSON text as an element; `None` if it is none of this datatype.
fn convert(datatype: Datatype, json: &[u8]) -> Option<Element> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let whole = || value.as_i64().or_else(|| value.as_bool().map(i64::from));
    Some(match datatype {
        Datatype::Fp64 | Datatype::Fp32 => Element::Float(float(&value, json)?),
        Datatype::Int64 => Element::Int(whole()?),
        Datatype::Int32 => Element::Int(i32::try_from(whole()?).ok()?.into()),
        Datatype::Bool => Element::Bool(value.as_bool()?),
        Datatype::Bytes => match value {
            Value::String(text) => Element::Bytes(text.into_bytes()),
            _ => Element::Bytes(json.to_vec()),
        },
    })
}

/// The double nearest to what is written; serde_json's own may be the one beside it.
fn float(value: &Value, json: &[u8]) -> Option<f64> {
    match value {
        Value::Number(_) => std::str::from_utf8(json).ok()?.trim().parse().ok(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => None,
    }
}

fn push(contents: &mut InferTensorContents, datatype: Datatype, element: Element) {
    match element {
        Element::Float(number) if datatype == Datatype::Fp32 => contents.fp32_contents.push(number as f32),
        Element::Float(number) => contents.fp64_contents.push(number),
        // It was read as, or checked to be, 32 bits.
        Element::Int(number) if datatype == Datatype::Int32 => contents.int_contents.push(number as i32),
        Element::Int(number) => contents.int64_contents.push(number),
        Element::Bool(flag) => contents.bool_contents.push(flag),
        Element::Bytes(bytes) => contents.bytes_contents.push(bytes.into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use forebay_proto::v1::SnapshotValue;

    use super::*;
    use crate::definitions::model::{Limits, Output};

    /// A model `judge@1` of trigger `low_snr` with one FP64 input over `signal.snr` and `signal.errors`, and an output `y`.
    pub(in crate::executor) fn model() -> Model {
        Model {
            name: "judge".into(),
            version: 1,
            endpoint: "http://127.0.0.1:1".into(),
            model_name: "judge".into(),
            model_version: String::new(),
            feature_service: "health@1".into(),
            triggers: vec!["low_snr".into()],
            states: vec!["RED".into()],
            inputs: vec![input(Datatype::Fp64, &["signal.snr", "signal.errors"], Missing::Refuse)],
            outputs: vec![Output { tensor: "y".into(), name: "score".into(), datatype: Datatype::Fp64 }],
            limits: Limits {
                timeout_ms: 1000,
                attempts: 3,
                backoff_ms: 1,
                max_backoff_ms: 2,
                max_in_flight: 4,
                rate_per_s: None,
                circuit_failures: 0,
                circuit_open_ms: 10_000,
            },
        }
    }

    fn input(datatype: Datatype, features: &[&str], missing: Missing) -> Input {
        let features = features.iter().map(|feature| feature.to_string()).collect();
        Input { tensor: "x".into(), datatype, features, missing }
    }

    /// A snapshot with these features of view `signal`, each as JSON text; empty text: NULL.
    pub(in crate::executor) fn snapshot(features: &[(&str, &str)]) -> Snapshot {
        let feature = |(name, json): &(&str, &str)| SnapshotFeature {
            name: name.to_string(),
            status: if json.is_empty() { Status::Null } else { Status::Present }.into(),
            json: json.as_bytes().to_vec().into(),
        };
        let value = SnapshotValue {
            view: "signal".into(),
            status: Status::Present.into(),
            features: features.iter().map(feature).collect(),
            ..SnapshotValue::default()
        };
        Snapshot { values: vec![value], ..Snapshot::default() }
    }

    fn one(datatype: Datatype, json: &str, missing: Missing) -> Result<InferTensorContents, String> {
        let tensor = tensor(&input(datatype, &["signal.snr"], missing), &snapshot(&[("snr", json)]))?;
        Ok(tensor.contents.unwrap_or_default())
    }

    #[test]
    fn features_become_one_row_in_the_declared_order() {
        let seen = snapshot(&[("errors", "7"), ("snr", "31.5"), ("other", "true")]);
        let row = tensors(&model(), &seen).expect("complete").remove(0);
        assert_eq!((row.name.as_str(), row.datatype.as_str(), &row.shape[..]), ("x", "FP64", &[1, 2][..]));
        assert_eq!(row.contents.expect("contents").fp64_contents, [31.5, 7.0]);
    }

    #[test]
    fn each_datatype_has_its_contents() {
        let get = |datatype, json| one(datatype, json, Missing::Refuse).expect(json);
        assert_eq!(get(Datatype::Fp32, "0.1").fp32_contents, [0.1_f32]);
        assert_eq!(get(Datatype::Fp64, "true").fp64_contents, [1.0]);
        assert_eq!(get(Datatype::Fp64, " 0.9926084586557181 ").fp64_contents, [0.9926084586557181]);
        assert_eq!(get(Datatype::Int64, "9223372036854775807").int64_contents, [i64::MAX]);
        assert_eq!(get(Datatype::Int32, "-5").int_contents, [-5]);
        assert_eq!(get(Datatype::Bool, "false").bool_contents, [false]);
        assert_eq!(get(Datatype::Bytes, r#""\u00e9""#).bytes_contents, ["\u{e9}".as_bytes()]);
        assert_eq!(get(Datatype::Bytes, r#"{"a":[1]}"#).bytes_contents, [br#"{"a":[1]}"#.as_slice()]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (datatype, json) in [
            (Datatype::Int32, "2147483648"),
            (Datatype::Int64, "1.5"),
            (Datatype::Bool, "1"),
            (Datatype::Fp64, "{"),
        ] {
            let error = one(datatype, json, Missing::Refuse).expect_err(json);
            assert_eq!(error, format!("signal.snr does not fit {datatype}: {json}"));
        }
    }

    #[test]
    fn what_is_missing_is_replaced_or_refused() {
        assert!(one(Datatype::Fp64, "", Missing::Nan).expect("nan").fp64_contents[0].is_nan());
        let zero = Missing::Value(Element::Int(-1));
        assert_eq!(one(Datatype::Int32, "", zero).expect("a value").int_contents, [-1]);
        let refused = one(Datatype::Fp64, "", Missing::Refuse).expect_err("refused");
        assert_eq!(refused, "signal.snr has no value: NULL");
        let mut seen = snapshot(&[]);
        let model = model();
        seen.values[0].status = Status::Expired.into();
        assert_eq!(tensors(&model, &seen).expect_err("expired"), "signal.snr has no value: EXPIRED");
        seen.values.clear();
        assert_eq!(tensors(&model, &seen).expect_err("gone"), "signal.snr has no value: NOT_FOUND");
    }
}
