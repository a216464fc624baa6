//! From a model's answer to the outputs of a prediction, and whether what its server says of itself is what was declared.
//! Anything that is not as declared is an error that says what was expected. Called by `model`.

use forebay_proto::inference::model_infer_response::InferOutputTensor;
use forebay_proto::inference::model_metadata_response::TensorMetadata;
use forebay_proto::inference::{InferTensorContents, ModelInferResponse, ModelMetadataResponse};
use serde_json::{Map, Value};

use crate::definitions::Model;
use crate::definitions::model::{Datatype, Output};

/// Most bytes of outputs as JSON: they are kept for as long as the diagnosis.
const MAX_OUTPUT_BYTES: usize = 256 << 10;

/// The declared outputs by name, as a JSON object.
pub(super) fn outputs(model: &Model, answer: &ModelInferResponse) -> Result<Vec<u8>, String> {
    let mut object = Map::new();
    for output in &model.outputs {
        let value = value(output, answer).map_err(|what| format!("output \"{}\": {what}", output.tensor))?;
        object.insert(output.name.clone(), value);
    }
    let json = Value::Object(object).to_string().into_bytes();
    match json.len() {
        0..=MAX_OUTPUT_BYTES => Ok(json),
        bytes => Err(format!("outputs of {bytes} bytes: expected at most {MAX_OUTPUT_BYTES}")),
    }
}

fn value(output: &Output, answer: &ModelInferResponse) -> Result<Value, String> {
    let found = answer.outputs.iter().position(|tensor| tensor.name == output.tensor);
    let at = found.ok_or_else(|| {
        let names: Vec<_> = answer.outputs.iter().map(|tensor| tensor.name.as_str()).collect();
        format!("expected, found only [{}]", names.join(", "))
    })?;
    let tensor = &answer.outputs[at];
    if tensor.datatype != output.datatype.as_str() {
        return Err(format!("expected {}, found {}", output.datatype, tensor.datatype));
    }
    let elements = match answer.raw_output_contents.get(at) {
        Some(raw) => raw_elements(output.datatype, raw),
        None => {
            elements(output.datatype, tensor.contents.as_ref().unwrap_or(&InferTensorContents::default()))
        }
    };
    shaped(tensor, elements?)
}

/// One row: a number if there is one, a list if there are more, lists of lists if the shape says so.
fn shaped(tensor: &InferOutputTensor, elements: Vec<Value>) -> Result<Value, String> {
    let shape = &tensor.shape;
    if shape.first().is_some_and(|rows| *rows != 1) {
        return Err(format!("expected one row, found shape {shape:?}"));
    }
    let product =
        shape.iter().try_fold(1_usize, |product, size| product.checked_mul(usize::try_from(*size).ok()?));
    if product != Some(elements.len()) {
        return Err(format!("expected the elements of shape {shape:?}, found {}", elements.len()));
    }
    let inner = shape.get(1..).unwrap_or_default();
    let mut values = elements;
    for size in inner.iter().skip(1).rev() {
        // The product of all sizes is the number of elements, which is not 0 if there is a chunk.
        values = values.chunks((*size).max(1) as usize).map(|chunk| Value::from(chunk.to_vec())).collect();
    }
    match values.len() {
        1 if inner.iter().all(|size| *size == 1) => Ok(innermost(values.remove(0))),
        _ => Ok(Value::from(values)),
    }
}

fn innermost(value: Value) -> Value {
    match value {
        Value::Array(mut values) if values.len() == 1 => innermost(values.remove(0)),
        value => value,
    }
}

fn elements(datatype: Datatype, contents: &InferTensorContents) -> Result<Vec<Value>, String> {
    match datatype {
        Datatype::Fp64 => contents.fp64_contents.iter().map(|number| float(*number)).collect(),
        Datatype::Fp32 => contents.fp32_contents.iter().map(|number| single(*number)).collect(),
        Datatype::Int64 => Ok(contents.int64_contents.iter().map(|number| Value::from(*number)).collect()),
        Datatype::Int32 => Ok(contents.int_contents.iter().map(|number| Value::from(*number)).collect()),
        Datatype::Bool => Ok(contents.bool_contents.iter().map(|flag| Value::from(*flag)).collect()),
        Datatype::Bytes => contents.bytes_contents.iter().map(|bytes| text(bytes)).collect(),
    }
}

/// Little-endian; BYTES with a length of 4 bytes before each.
fn raw_elements(datatype: Datatype, raw: &[u8]) -> Result<Vec<Value>, String> {
    match datatype {
        Datatype::Fp64 => chunks(raw)?.map(|bytes| float(f64::from_le_bytes(bytes))).collect(),
        Datatype::Fp32 => chunks(raw)?.map(|bytes| single(f32::from_le_bytes(bytes))).collect(),
        Datatype::Int64 => Ok(chunks(raw)?.map(|bytes| i64::from_le_bytes(bytes).into()).collect()),
        Datatype::Int32 => Ok(chunks(raw)?.map(|bytes| i32::from_le_bytes(bytes).into()).collect()),
        Datatype::Bool => Ok(raw.iter().map(|byte| (*byte != 0).into()).collect()),
        Datatype::Bytes => raw_texts(raw),
    }
}

fn chunks<const N: usize>(raw: &[u8]) -> Result<impl Iterator<Item = [u8; N]>, String> {
    let (chunks, rest) = raw.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(format!("expected elements of {N} bytes, found {} bytes", raw.len()));
    }
    Ok(chunks.iter().copied())
}

fn raw_texts(mut raw: &[u8]) -> Result<Vec<Value>, String> {
    let mut texts = Vec::new();
    while !raw.is_empty() {
        let (length, rest) = raw.split_first_chunk::<4>().ok_or("expected a length of 4 bytes")?;
        let length = u32::from_le_bytes(*length) as usize;
        let (bytes, rest) = rest.split_at_checked(length).ok_or("an element is cut off")?;
        texts.push(text(bytes)?);
        raw = rest;
    }
    Ok(texts)
}

fn float(number: f64) -> Result<Value, String> {
    let finite = serde_json::Number::from_f64(number).map(Value::Number);
    finite.ok_or_else(|| format!("expected a finite number, found {number}"))
}

/// The shortest decimal that is this single, not its long expansion as a double.
fn single(number: f32) -> Result<Value, String> {
    float(number.to_string().parse().unwrap_or(f64::from(number)))
}

fn text(bytes: &[u8]) -> Result<Value, String> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| "expected UTF-8 text".to_owned())
}

/// Whether a model server's description of itself allows what is declared. What it does not describe is not compared.
pub(super) fn fits(model: &Model, said: &ModelMetadataResponse) -> Result<(), String> {
    if !said.inputs.is_empty() {
        for input in &model.inputs {
            let tensor = described("input", &input.tensor, input.datatype, &said.inputs)?;
            check_shape(tensor, input.features.len())?;
        }
        let is_declared =
            |tensor: &&TensorMetadata| model.inputs.iter().any(|input| input.tensor == tensor.name);
        if let Some(more) = said.inputs.iter().find(|tensor| !is_declared(tensor)) {
            return Err(format!("input \"{}\": its server takes it, and it is not declared", more.name));
        }
    }
    if !said.outputs.is_empty() {
        for output in &model.outputs {
            described("output", &output.tensor, output.datatype, &said.outputs)?;
        }
    }
    Ok(())
}

fn described<'t>(
    kind: &str,
    name: &str,
    datatype: Datatype,
    tensors: &'t [TensorMetadata],
) -> Result<&'t TensorMetadata, String> {
    let Some(tensor) = tensors.iter().find(|tensor| tensor.name == name) else {
        let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        return Err(format!("{kind} \"{name}\": its server has only [{}]", names.join(", ")));
    };
    if tensor.datatype != datatype.as_str() {
        let theirs = &tensor.datatype;
        return Err(format!("{kind} \"{name}\": declared {datatype}, and its server has {theirs}"));
    }
    Ok(tensor)
}

/// One row of so many features must be possible; -1 is any size.
fn check_shape(tensor: &TensorMetadata, features: usize) -> Result<(), String> {
    let takes = |size: i64, wanted: usize| size == -1 || usize::try_from(size) == Ok(wanted);
    let possible = match tensor.shape[..] {
        [] => true,
        [columns] => takes(columns, features),
        [rows, columns] => takes(rows, 1) && takes(columns, features),
        _ => false,
    };
    match possible {
        true => Ok(()),
        false => Err(format!(
            "input \"{}\": [1, {features}] is sent, and its server takes shape {:?}",
            tensor.name, tensor.shape
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensors::tests::model;
    use super::*;

    fn tensor(datatype: Datatype, shape: &[i64], contents: InferTensorContents) -> InferOutputTensor {
        InferOutputTensor {
            name: "y".into(),
            datatype: datatype.to_string(),
            shape: shape.to_vec(),
            contents: Some(contents),
            ..InferOutputTensor::default()
        }
    }

    fn read(datatype: Datatype, shape: &[i64], contents: InferTensorContents) -> Result<String, String> {
        let mut model = model();
        model.outputs[0].datatype = datatype;
        let answer = ModelInferResponse {
            outputs: vec![tensor(datatype, shape, contents)],
            ..ModelInferResponse::default()
        };
        outputs(&model, &answer).map(|json| String::from_utf8(json).expect("JSON"))
    }

    fn doubles(numbers: &[f64]) -> InferTensorContents {
        InferTensorContents { fp64_contents: numbers.to_vec(), ..InferTensorContents::default() }
    }

    #[test]
    fn one_row_is_a_value_or_lists_by_its_shape() {
        for (shape, numbers, expected) in [
            (&[1][..], &[0.5][..], r#"{"score":0.5}"#),
            (&[1, 1], &[0.5], r#"{"score":0.5}"#),
            (&[], &[0.5], r#"{"score":0.5}"#),
            (&[1, 2], &[0.25, 0.75], r#"{"score":[0.25,0.75]}"#),
            (&[1, 2, 1], &[1.0, 2.0], r#"{"score":[[1.0],[2.0]]}"#),
            (&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0], r#"{"score":[[1.0,2.0],[3.0,4.0]]}"#),
            (&[1, 0], &[], r#"{"score":[]}"#),
            (&[1, 1, 1], &[9.0], r#"{"score":9.0}"#),
        ] {
            assert_eq!(read(Datatype::Fp64, shape, doubles(numbers)).as_deref(), Ok(expected), "{shape:?}");
        }
    }

    #[test]
    fn each_datatype_is_read_typed_and_raw() {
        let contents = InferTensorContents {
            bool_contents: vec![true],
            int_contents: vec![-3],
            int64_contents: vec![i64::MIN],
            fp32_contents: vec![0.1],
            fp64_contents: vec![0.1],
            bytes_contents: vec!["\u{e9}\"".into()],
            ..InferTensorContents::default()
        };
        let raw: [(Datatype, Vec<u8>, &str); 6] = [
            (Datatype::Bool, vec![1], "true"),
            (Datatype::Int32, (-3_i32).to_le_bytes().into(), "-3"),
            (Datatype::Int64, i64::MIN.to_le_bytes().into(), "-9223372036854775808"),
            (Datatype::Fp32, 0.1_f32.to_le_bytes().into(), "0.1"),
            (Datatype::Fp64, 0.1_f64.to_le_bytes().into(), "0.1"),
            (Datatype::Bytes, [&[3, 0, 0, 0], "\u{e9}\"".as_bytes()].concat(), "\"\u{e9}\\\"\""),
        ];
        for (datatype, raw, expected) in raw {
            let expected = format!("{{\"score\":{expected}}}");
            assert_eq!(read(datatype, &[1], contents.clone()), Ok(expected.clone()), "{datatype}");
            let mut model = model();
            model.outputs[0].datatype = datatype;
            let answer = ModelInferResponse {
                outputs: vec![tensor(datatype, &[1], InferTensorContents::default())],
                raw_output_contents: vec![raw.into()],
                ..ModelInferResponse::default()
            };
            assert_eq!(outputs(&model, &answer), Ok(expected.into_bytes()), "{datatype}, raw");
        }
    }

    #[test]
    fn nonsense_says_what_was_expected() {
        let fail = |shape: &[i64], numbers: &[f64]| {
            read(Datatype::Fp64, shape, doubles(numbers)).expect_err("nonsense")
        };
        assert_eq!(fail(&[2], &[1.0, 2.0]), "output \"y\": expected one row, found shape [2]");
        assert_eq!(fail(&[1, 2], &[1.0]), "output \"y\": expected the elements of shape [1, 2], found 1");
        assert_eq!(fail(&[1, -2], &[1.0]), "output \"y\": expected the elements of shape [1, -2], found 1");
        assert_eq!(fail(&[1, i64::MAX, 9], &[1.0]).split(',').count(), 4);
        assert_eq!(fail(&[1], &[f64::NAN]), "output \"y\": expected a finite number, found NaN");
        let (model, mut answer) = (model(), ModelInferResponse::default());
        let said = |answer: &ModelInferResponse| outputs(&model, answer).expect_err("nonsense");
        assert_eq!(said(&answer), "output \"y\": expected, found only []");
        answer.outputs = vec![tensor(Datatype::Int64, &[1], InferTensorContents::default())];
        assert_eq!(said(&answer), "output \"y\": expected FP64, found INT64");
        answer.outputs[0].datatype = "FP64".into();
        answer.raw_output_contents = vec![vec![1, 2, 3].into()];
        assert_eq!(said(&answer), "output \"y\": expected elements of 8 bytes, found 3 bytes");
        let many = vec![0.123_456_789; 40_000];
        assert!(fail(&[1, 40_000], &many).contains("expected at most 262144"));
    }

    fn described(inputs: &[(&str, &str, &[i64])], outputs: &[(&str, &str)]) -> ModelMetadataResponse {
        let tensor = |name: &str, datatype: &str, shape: &[i64]| TensorMetadata {
            name: name.into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
        };
        ModelMetadataResponse {
            inputs: inputs.iter().map(|(name, datatype, shape)| tensor(name, datatype, shape)).collect(),
            outputs: outputs.iter().map(|(name, datatype)| tensor(name, datatype, &[-1])).collect(),
            ..ModelMetadataResponse::default()
        }
    }

    #[test]
    fn metadata_is_compared_as_far_as_it_says_something() {
        let model = model();
        for said in [
            described(&[], &[]),
            described(&[("x", "FP64", &[-1, 2])], &[("y", "FP64"), ("more", "BYTES")]),
            described(&[("x", "FP64", &[-1, -1])], &[]),
            described(&[("x", "FP64", &[2])], &[]),
        ] {
            assert_eq!(fits(&model, &said), Ok(()), "{said:?}");
        }
        for (said, expected) in [
            (described(&[("z", "FP64", &[-1, 2])], &[]), "input \"x\": its server has only [z]"),
            (
                described(&[("x", "FP32", &[-1, 2])], &[]),
                "input \"x\": declared FP64, and its server has FP32",
            ),
            (
                described(&[("x", "FP64", &[-1, 3])], &[]),
                "input \"x\": [1, 2] is sent, and its server takes shape [-1, 3]",
            ),
            (
                described(&[("x", "FP64", &[-1, 2]), ("z", "BOOL", &[-1, 1])], &[]),
                "input \"z\": its server takes it, and it is not declared",
            ),
            (described(&[], &[("z", "FP64")]), "output \"y\": its server has only [z]"),
            (described(&[], &[("y", "INT64")]), "output \"y\": declared FP64, and its server has INT64"),
        ] {
            assert_eq!(fits(&model, &said), Err(expected.to_owned()));
        }
    }
}
