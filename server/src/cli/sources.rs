//! A configuration file and the definitions it names, as the commands beside `serve` need them. Errors name everything
//! that is wrong and end the process with 2.

use std::path::Path;

use super::output::BadInput;
use crate::config::Config;
use crate::definitions::{self, Definitions};

/// The configuration, with the environment's overrides.
pub fn config(path: &Path) -> Result<Config, BadInput> {
    config_with(path, &[])
}

/// The configuration, with the environment's overrides and, over those, the command line's, named as there.
pub fn config_with(path: &Path, overrides: &[(&str, &str)]) -> Result<Config, BadInput> {
    let overrides = overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_with(path, overrides).map_err(|errors| BadInput(errors.to_string()))
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
