//! How well payloads still fit what was learned: the caller's reason to train again. Called by the engine's writer.

use super::encode::Encoder;
use super::{Coding, Encoded};

/// Counts since the last reset. Belongs to a view, not to a generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drift {
    /// Payloads encoded.
    pub payloads: u64,
    /// Of them, those that fit no shape. The caller counts only what its scanner found to be JSON.
    pub unfit: u64,
    /// Scalars of payloads that fit.
    pub scalars: u64,
    /// Of them, those that did not fit their slots.
    pub escapes: u64,
    /// Bytes of payloads.
    pub raw_bytes: u64,
    /// Bytes they are stored in.
    pub stored_bytes: u64,
}

impl Drift {
    /// Counts a payload of `raw_bytes` that was encoded to `stored_bytes`.
    pub fn count(&mut self, encoded: Encoded, encoder: &Encoder, raw_bytes: usize, stored_bytes: usize) {
        self.payloads += 1;
        self.unfit += u64::from(!encoded.valid);
        self.raw_bytes += raw_bytes as u64;
        self.stored_bytes += stored_bytes as u64;
        if encoded.coding == Coding::Shape {
            self.scalars += encoder.scalars().len() as u64;
            self.escapes += u64::from(encoder.escapes());
        }
    }

    /// Share of payloads that fit no shape, 0 to 1.
    pub fn unfit_share(&self) -> f64 {
        self.unfit as f64 / self.payloads.max(1) as f64
    }

    /// Share of the bytes that they are stored in.
    pub fn stored_share(&self) -> f64 {
        self.stored_bytes as f64 / self.raw_bytes.max(1) as f64
    }

    /// Share of scalars that did not fit their slots, 0 to 1.
    pub fn escape_share(&self) -> f64 {
        self.escapes as f64 / self.scalars.max(1) as f64
    }
}
