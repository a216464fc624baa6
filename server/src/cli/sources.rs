//! A configuration file and the definitions it names, as the commands beside `serve` need them. Errors name everything
//! that is wrong and end the process with 2.

use std::path::Path;

use super::output::BadInput;
use crate::config::Config;
use crate::definitions::{self, Definitions};

/// The configuration, with the environment's overrides.
pub fn config(path: &Path) -> Result<Config, BadInput> {
    Config::load(path).map_err(|errors| BadInput(errors.to_string()))
}

/// The definitions of a file or directory.
pub fn definitions(path: &Path) -> Result<Definitions, BadInput> {
    definitions::load(path).map_err(|errors| BadInput(errors.to_string()))
}

/// Both.
pub fn both(path: &Path) -> Result<(Config, Definitions), BadInput> {
    let config = config(path)?;
    let definitions = definitions(&config.server.definitions)?;
    Ok((config, definitions))
}
