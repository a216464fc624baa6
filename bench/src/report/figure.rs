//! How a figure is written as JSON and read back: what is not known is `null` there and NaN here.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a number, or null for what is none.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    known(*value).serialize(serializer)
}

/// Reads a number or null.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// The same for the points of a curve.
pub mod points {
    use super::{Deserialize, Deserializer, Serializer, known};

    /// Writes pairs of numbers, null for what is none.
    pub fn serialize<S: Serializer>(points: &[(f64, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(points.iter().map(|(at, value)| (known(*at), known(*value))))
    }

    /// Reads pairs of numbers or nulls.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(f64, f64)>, D::Error> {
        let points = Vec::<(Option<f64>, Option<f64>)>::deserialize(deserializer)?;
        let figure = |value: Option<f64>| value.unwrap_or(f64::NAN);
        Ok(points.into_iter().map(|(at, value)| (figure(at), figure(value))).collect())
    }
}
