//! How a definition stands in the registry's topic: the record's key is `kind/name` or `kind/name@version`, its value
//! JSON with the same and the TOML. A null value takes the definition out.

use serde::{Deserialize, Serialize};

use crate::definitions::pieces::{self, Key, Piece};

#[derive(Debug, Serialize, Deserialize)]
struct Value {
    kind: String,
    name: String,
    #[serde(default)]
    version: u32,
    toml: String,
}

/// The value of a definition's record.
pub fn encode(piece: &Piece) -> String {
    let Key { kind, name, version } = &piece.key;
    let value =
        Value { kind: (*kind).into(), name: name.clone(), version: *version, toml: piece.toml.clone() };
    serde_json::to_string(&value).expect("text and numbers are JSON")
}

/// The definition of a record, or why it is none.
pub(super) fn decode(path: &str, payload: &[u8]) -> Result<Piece, String> {
    let value: Value = serde_json::from_slice(payload).map_err(|error| {
        format!("key \"{path}\": the value is not JSON with kind, name, version and toml: {error}")
    })?;
    let key =
        Key::new(&value.kind, &value.name, value.version).map_err(|why| format!("key \"{path}\": {why}"))?;
    if key.path() != path {
        return Err(format!("key \"{path}\": the value is of {}", key.path()));
    }
    let pieces = pieces::split("registry", &value.toml).map_err(|errors| errors.to_string())?;
    match pieces.as_slice() {
        [piece] if piece.key == key => Ok(Piece { key, toml: value.toml }),
        _ => Err(format!("key \"{path}\": its toml has to define {key} and nothing else")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_was_written_and_nothing_else() {
        let toml = "[[feature_service]]\nname = \"s\"\nversion = 2\nfeatures = [\"v.a\"] # why\n";
        let piece = pieces::split("f", toml).unwrap().remove(0);
        let text = encode(&piece);
        assert_eq!(decode("feature_service/s@2", text.as_bytes()), Ok(piece));
        for (path, payload) in [
            ("feature_service/s@1", text.clone()),
            ("feature_service/s@2", text.replace("name = ", "name= \\\"x\\\"\\nfeature = ")),
            ("feature_service/s@2", "{}".into()),
            ("feature_service/s@2", text.replace("feature_service\"", "view\"")),
            ("thing/s", text.replace("feature_service", "thing")),
        ] {
            assert!(decode(path, payload.as_bytes()).is_err(), "{path} {payload}");
        }
    }
}
