//! The part of JSON Schema that the server's OpenAPI file uses, so that tests can hold real answers to it. A keyword it
//! does not know is a failure, not a pass.

use serde_json::{Map, Value};

/// What is wrong with a value by a schema of an OpenAPI document, a line each; empty: nothing.
pub fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "$", &mut found);
    found
}

const SAID_ONLY: [&str; 2] = ["description", "default"];

fn check(document: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else {
        return found.extend((schema != &Value::Bool(true)).then(|| format!("{at}: not a schema: {schema}")));
    };
    for (keyword, wanted) in schema {
        match keyword.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().and_then(|text| text.strip_prefix('#')).unwrap_or("?");
                match document.pointer(pointer) {
                    Some(target) => check(document, target, value, at, found),
                    None => found.push(format!("{at}: no {wanted}")),
                }
            }
            "type" if !is_of_type(wanted, value) => {
                found.push(format!("{at}: {value} is not of type {wanted}"))
            }
            "enum" if !wanted.as_array().is_some_and(|all| all.contains(value)) => {
                found.push(format!("{at}: {value} is not one of {wanted}"));
            }
            "anyOf" | "oneOf" => {
                let fits = |schema: &&Value| violations(document, schema, value).is_empty();
                let count = wanted.as_array().map_or(0, |all| all.iter().filter(fits).count());
                if count == 0 || (keyword == "oneOf" && count > 1) {
                    found.push(format!("{at}: {value} fits {count} of {keyword}"));
                }
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, wanted, item, &format!("{at}[{i}]"), found);
                }
            }
            "required" => {
                let absent = wanted.as_array().into_iter().flatten().filter(|name| {
                    value.is_object() && value.get(name.as_str().unwrap_or_default()).is_none()
                });
                found.extend(absent.map(|name| format!("{at}: {name} is missing")));
            }
            "properties" | "additionalProperties" => {}
            "type" | "enum" => {}
            other if SAID_ONLY.contains(&other) => {}
            other => found.push(format!("{at}: unknown keyword {other}")),
        }
    }
    if let Some(members) = value.as_object() {
        check_members(document, schema, members, at, found);
    }
}

fn check_members(
    document: &Value,
    schema: &Map<String, Value>,
    members: &Map<String, Value>,
    at: &str,
    found: &mut Vec<String>,
) {
    for (name, member) in members {
        let place = format!("{at}.{name}");
        let declared = schema.get("properties").and_then(|properties| properties.get(name));
        match (declared, schema.get("additionalProperties")) {
            (Some(schema), _) => check(document, schema, member, &place, found),
            (None, Some(Value::Bool(false))) => found.push(format!("{place}: not described")),
            (None, Some(schema)) => check(document, schema, member, &place, found),
            (None, None) => {}
        }
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match wanted.as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    }
}
