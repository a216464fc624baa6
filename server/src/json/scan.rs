//! The strict one-pass walk. Placeholder.

/// Why a payload is not a data point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON by RFC 8259 (or not UTF-8).
    #[error("not JSON at byte {at}: {detail}")]
    NotJson {
        /// Byte offset in the payload.
        at: usize,
        /// What was found and expected.
        detail: &'static str,
    },
    /// JSON, but a scalar or array.
    #[error("JSON, but not an object")]
    NotObject,
    /// Nested deeper than 128 levels.
    #[error("nested deeper than 128 levels")]
    TooDeep,
}
