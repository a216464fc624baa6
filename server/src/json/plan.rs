//! Paths compiled once per view. Placeholder.

use super::JsonError;

/// Paths to capture, compiled.
#[derive(Debug, Default)]
pub struct Plan {}

/// What a scan captured: raw JSON text per path.
#[derive(Debug, Default)]
pub struct Slots<'p> {
    values: Vec<Option<&'p [u8]>>,
}

impl Plan {
    /// Slot i captures `paths[i]`; with `avro`, Avro-JSON wrappers of intermediate records are looked through.
    pub fn compile(_paths: &[Vec<String>], _avro: bool) -> Plan {
        Plan {}
    }

    /// Validates all of `payload` and captures the raw text at each path (of duplicate names the last).
    pub fn scan<'p>(&self, _payload: &'p [u8], _slots: &mut Slots<'p>) -> Result<(), JsonError> {
        Ok(())
    }
}

impl<'p> Slots<'p> {
    /// No captures yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raw JSON text at path `slot`, absent if the payload has none.
    pub fn get(&self, slot: usize) -> Option<&'p [u8]> {
        self.values.get(slot).copied().flatten()
    }
}
