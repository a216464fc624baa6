//! JSON as the model reads it: checked as a whole, nothing converted, so that what is valid but does not fit a Rust
//! number or string is still valid. Used by the model alone.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A JSON value as its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<'j>(&'j str);

/// The object a payload is, or the dead-letter reason.
pub(crate) fn parse(payload: &[u8]) -> Result<Json<'_>, &'static str> {
    let text: &RawValue = serde_json::from_slice(payload).map_err(|_| "not_json")?;
    let json = Json(text.get());
    match () {
        () if deepest(json.0) > 128 => Err("too_deep"),
        () if !json.0.starts_with('{') => Err("not_object"),
        () => Ok(json),
    }
}

fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

impl<'j> Json<'j> {
    fn object(self) -> Option<BTreeMap<String, &'j RawValue>> {
        serde_json::from_str(self.0).ok()
    }

    /// Follows a dotted path; with `avro`, looks through the single-key object that Avro-JSON puts around a record.
    /// What is null is not there.
    pub(crate) fn walk(self, path: &str, avro: bool) -> Option<Json<'j>> {
        let mut at = self;
        for key in path.split('.') {
            let object = at.object()?;
            let through = || object.values().next().filter(|_| avro && object.len() == 1);
            let inside = || Json(through()?.get()).object()?.get(key).copied();
            at = Json(object.get(key).copied().or_else(inside)?.get());
        }
        (at.0 != "null").then_some(at)
    }

    /// The integer it is, wrapped by Avro-JSON or not.
    pub(crate) fn integer(self, avro: bool) -> Option<i64> {
        let wrapped = || {
            let object = self.object().filter(|object| avro && object.len() == 1)?;
            let value = object.get("long").or(object.get("int"))?;
            value.get().parse().ok()
        };
        self.0.parse().ok().or_else(wrapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_valid_but_unusual_is_valid() {
        for text in [r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#, r#"{"a":99999999999999999999}"#, " {} "] {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
        let deep = |levels| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert!(parse(deep(128).as_bytes()).is_ok());
        assert_eq!(parse(deep(129).as_bytes()).unwrap_err(), "too_deep");
        assert_eq!(parse(b"[]").unwrap_err(), "not_object");
        assert_eq!(parse(b"\xef\xbb\xbf{}").unwrap_err(), "not_json");
    }

    #[test]
    fn paths_look_through_wrappers_where_asked() {
        let json = parse(br#"{"ts":{"long":5},"r":{"com.x.R":{"ts":6}},"ts":{"long":7}}"#).expect("JSON");
        assert_eq!(json.walk("ts", true).and_then(|found| found.integer(true)), Some(7));
        assert_eq!(json.walk("ts", false).and_then(|found| found.integer(false)), None);
        assert_eq!(json.walk("r.ts", true).and_then(|found| found.integer(true)), Some(6));
        assert!(json.walk("r.ts", false).is_none());
    }
}
