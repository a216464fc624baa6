//! From files to checked definitions: one file, or a directory of `*.toml` files merged in the order of their names.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Definitions, check, grammar};
use crate::config::table::Errors;

/// Everything wrong with the definitions, one line each: file, place, what was expected, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionErrors(pub Vec<String>);

impl fmt::Display for DefinitionErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for DefinitionErrors {}

/// Reads a file or a directory of `*.toml` files.
pub fn load(path: &Path) -> Result<Definitions, DefinitionErrors> {
    let mut texts = Vec::new();
    for file in files(path)? {
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        texts.push((file.display().to_string(), text));
    }
    compile(texts.iter().map(|(file, text)| (file.as_str(), text.as_str())))
}

/// Definitions from text.
pub fn parse(text: &str) -> Result<Definitions, DefinitionErrors> {
    compile([("definitions", text)])
}

fn compile<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Definitions, DefinitionErrors> {
    let errors = Errors::default();
    let mut draft = grammar::Draft::default();
    for (file, text) in files {
        grammar::read(file, text, &errors, &mut draft);
    }
    let definitions = if draft.incomplete { Definitions::default() } else { check::check(draft, &errors) };
    let errors = errors.into_vec();
    if errors.is_empty() { Ok(definitions) } else { Err(DefinitionErrors(errors)) }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, DefinitionErrors> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| unreadable(path, &error))?;
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|end| end == "toml");
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(is_toml).collect();
    files.sort();
    if files.is_empty() {
        let message =
            format!("{}: no *.toml file in this directory: put the definitions there", path.display());
        return Err(DefinitionErrors(vec![message]));
    }
    Ok(files)
}

fn unreadable(path: &Path, error: &std::io::Error) -> DefinitionErrors {
    DefinitionErrors(vec![format!("{}: cannot be read: {error}", path.display())])
}
