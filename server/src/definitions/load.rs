//! From files to checked definitions: one file, or a directory of `*.toml` files merged in the order of their names.

use std::fmt;
use std::path::{Path, PathBuf};

use super::pieces::{self, Key, Piece};
use super::{Definitions, check, grammar};
use crate::config::table::{self, Errors};

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
    compile(texts(path)?.iter().map(|(file, text)| (file.as_str(), text.as_str())))
}

/// The names and texts of a file or of a directory's `*.toml` files, in the order of their names.
pub(super) fn texts(path: &Path) -> Result<Vec<(String, String)>, DefinitionErrors> {
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        Ok((file.display().to_string(), text))
    };
    files(path)?.into_iter().map(read).collect()
}

/// Definitions from text.
pub fn parse(text: &str) -> Result<Definitions, DefinitionErrors> {
    compile([("definitions", text)])
}

pub(super) fn compile<'t>(
    files: impl IntoIterator<Item = (&'t str, &'t str)>,
) -> Result<Definitions, DefinitionErrors> {
    compile_over(files, &[])
}

/// Files with single definitions laid over them: each takes the place of the files' of its key. With each piece comes
/// where it is from, for messages.
pub(super) fn compile_over<'t>(
    files: impl IntoIterator<Item = (&'t str, &'t str)>,
    over: &[(&str, &Piece)],
) -> Result<Definitions, DefinitionErrors> {
    let errors = Errors::default();
    let mut draft = grammar::Draft::default();
    let mut lanes: Vec<String> = Vec::new();
    let is_replaced = |key: &Key| over.iter().any(|(_, piece)| piece.key == *key);
    let mut read = |place: &str, text: &str, replace: bool| match table::parse(place, text, &errors) {
        None => draft.incomplete = true,
        Some(mut root) => {
            lanes.extend(pieces::names(&root, "lane").into_iter().map(str::to_owned));
            if replace {
                pieces::remove(&mut root, is_replaced);
            }
            grammar::read(place, &root, &errors, &mut draft);
        }
    };
    files.into_iter().for_each(|(file, text)| read(file, text, true));
    over.iter().for_each(|(place, piece)| read(place, &piece.toml, false));
    // A lane that is replaced keeps its place: their order counts.
    draft.lanes.sort_by_key(|lane| lanes.iter().position(|name| *name == lane.item.name));
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
