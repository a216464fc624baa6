//! Decodes every file of a shard for people.
use crate::InspectError;
use std::io::Write;
use std::path::Path;

/// Shows a file or a whole shard directory, readable or as JSON lines.
pub fn dump(_path: &Path, _json: bool, _out: &mut dyn Write) -> Result<(), InspectError> {
    Ok(())
}
