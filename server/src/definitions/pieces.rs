//! Single definitions: what names each, and how a file is taken apart into them. For the registry, which keeps them one
//! by one, and for whoever lists them. A new kind of definition joins with a line of `KINDS`.

use std::fmt;

use toml::{Table, Value};

use super::load::DefinitionErrors;
use crate::config::suggest::did_you_mean;
use crate::config::table::{self, Errors};

/// A kind of definition.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its key at the root of a file, and its name in the registry.
    pub name: &'static str,
    /// Several versions of one name stand beside each other; otherwise a name is defined once.
    pub versioned: bool,
    /// Written as `[name]`, once and without a name of its own; otherwise `[[name]]`.
    pub single: bool,
}

/// Every kind.
pub const KINDS: [Kind; 6] = [
    Kind { name: "lane", versioned: false, single: false },
    Kind { name: "view", versioned: false, single: false },
    Kind { name: "feature_service", versioned: true, single: false },
    Kind { name: "trigger", versioned: false, single: false },
    Kind { name: "model", versioned: true, single: false },
    Kind { name: "diagnoses", versioned: false, single: true },
];

/// What names a definition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// One of `KINDS`.
    pub kind: &'static str,
    /// Unique within its kind, with the version where there are several.
    pub name: String,
    /// 0 for kinds without versions.
    pub version: u32,
}

/// One definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What names it.
    pub key: Key,
    /// As it would stand in a file by itself.
    pub toml: String,
}

impl Key {
    /// Checks what a person or a record says.
    pub fn new(kind: &str, name: &str, version: u32) -> Result<Key, String> {
        let found = KINDS.iter().find(|known| known.name == kind).ok_or_else(|| {
            format!("kind: no kind \"{kind}\"{}", did_you_mean(kind, KINDS.iter().map(|kind| kind.name)))
        })?;
        match (found.versioned, version, name) {
            (_, _, "") => Err(format!("name: a {kind} has a name")),
            (true, 0, _) => Err(format!("version: a {kind} has a version, as in {name}@1")),
            (false, 1.., _) => Err(format!("version: a {kind} has none beside others; leave it out")),
            _ => Ok(Key { kind: found.name, name: name.into(), version }),
        }
    }

    /// `view/modem_health` or `feature_service/triage@2`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind, self.title())
    }

    /// `modem_health` or `triage@2`.
    pub fn title(&self) -> String {
        match self.version {
            0 => self.name.clone(),
            version => format!("{}@{version}", self.name),
        }
    }

    fn of(kind: &Kind, table: &Table) -> Result<Key, String> {
        let name = match kind.single {
            true => kind.name,
            false => table.get("name").and_then(Value::as_str).unwrap_or_default(),
        };
        let version = table.get("version").and_then(Value::as_integer).filter(|_| kind.versioned);
        Key::new(kind.name, name, version.and_then(|version| version.try_into().ok()).unwrap_or(0))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.replace('_', " "), self.title())
    }
}

/// The definitions of a file, in its order, each with its text and the comments before it.
pub fn split(file: &str, text: &str) -> Result<Vec<Piece>, DefinitionErrors> {
    let errors = Errors::default();
    let pieces = table::parse(file, text, &errors).map(|root| {
        let whole = tables(file, &root, &errors);
        by_text(text, &whole).unwrap_or_else(|| whole.into_iter().map(rendered).collect())
    });
    let errors = errors.into_vec();
    pieces.filter(|_| errors.is_empty()).ok_or(DefinitionErrors(errors))
}

/// Takes out of a file's root what `gone` says.
pub(super) fn remove(root: &mut Table, gone: impl Fn(&Key) -> bool) {
    for kind in &KINDS {
        let is_gone = |table: &Table| Key::of(kind, table).is_ok_and(|key| gone(&key));
        match root.get_mut(kind.name) {
            Some(Value::Array(items)) => items.retain(|item| !item.as_table().is_some_and(is_gone)),
            Some(Value::Table(table)) if is_gone(table) => drop(root.remove(kind.name)),
            _ => {}
        }
    }
}

/// Names of the definitions of one kind, in file order.
pub(super) fn names<'t>(root: &'t Table, kind: &str) -> Vec<&'t str> {
    let items = root.get(kind).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.get("name")?.as_str()).collect()
}

/// Every definition of a root, kind by kind.
fn tables(file: &str, root: &Table, errors: &Errors) -> Vec<(Key, Table)> {
    for key in root.keys().filter(|key| KINDS.iter().all(|kind| kind.name != *key)) {
        let hint = did_you_mean(key, KINDS.iter().map(|kind| kind.name));
        errors.add(file, format_args!("unknown key \"{key}\"{hint}"));
    }
    let mut all = Vec::new();
    for kind in &KINDS {
        let place = |number: usize| format!("{file}: {} number {}", kind.name.replace('_', " "), number + 1);
        let found = match root.get(kind.name) {
            None => continue,
            Some(Value::Array(items)) if !kind.single => items.iter().map(Value::as_table).collect(),
            Some(Value::Table(table)) if kind.single => Some(vec![table]),
            Some(_) => None,
        };
        let Some(found) = found else {
            let header = if kind.single { format!("[{}]", kind.name) } else { format!("[[{}]]", kind.name) };
            errors.add(file, format_args!("{}: expected tables begun with {header}", kind.name));
            continue;
        };
        for (number, table) in found.into_iter().enumerate() {
            match Key::of(kind, table) {
                Ok(key) => all.push((key, table.clone())),
                Err(message) => errors.add(place(number), message),
            }
        }
    }
    all
}

/// The same definitions, each by the lines it was written in; `None` if the lines do not show where each begins.
fn by_text(text: &str, whole: &[(Key, Table)]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    for section in sections(text) {
        let errors = Errors::default();
        let root = table::parse("", &section, &errors)?;
        let found = tables("", &root, &errors);
        match <[_; 1]>::try_from(found) {
            Ok([(key, table)]) if whole.contains(&(key.clone(), table.clone())) => {
                pieces.push(Piece { key, toml: section });
            }
            Err(found) if found.is_empty() && root.is_empty() => {}
            _ => return None,
        }
    }
    (pieces.len() == whole.len()).then_some(pieces)
}

/// The text cut before each header of a definition and the comments above it.
fn sections(text: &str) -> Vec<String> {
    let (mut sections, mut section, mut comments) = (Vec::new(), String::new(), String::new());
    for line in text.lines() {
        let line_of = |into: &mut String| {
            into.push_str(line);
            into.push('\n');
        };
        if is_header(line) {
            sections.push(std::mem::take(&mut section));
            section = std::mem::take(&mut comments);
            line_of(&mut section);
        } else if line.trim_start().starts_with('#') {
            line_of(&mut comments);
        } else {
            section.push_str(&std::mem::take(&mut comments));
            line_of(&mut section);
        }
    }
    section.push_str(&comments);
    sections.push(section);
    sections.into_iter().map(|section| section.trim_matches('\n').to_owned() + "\n").collect()
}

fn is_header(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    KINDS.iter().any(|kind| match kind.single {
        true => line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(kind.name),
        false => line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) == Some(kind.name),
    })
}

fn rendered((key, table): (Key, Table)) -> Piece {
    let single = KINDS.iter().any(|kind| kind.name == key.kind && kind.single);
    let value = if single { Value::Table(table) } else { Value::Array(vec![Value::Table(table)]) };
    let root = Table::from_iter([(key.kind.to_owned(), value)]);
    Piece { toml: toml::to_string(&root).unwrap_or_else(|_| root.to_string()), key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(pieces: &[Piece]) -> Vec<String> {
        pieces.iter().map(|piece| piece.key.path()).collect()
    }

    #[test]
    fn a_file_is_cut_where_definitions_begin_and_keeps_their_comments() {
        let text = "# About the file.\n\n# The lane.\n[[lane]]\nname = \"main\"\n[[lane.topic]]\nname = \"t\" # x\n\n\
                    # A service.\n[[feature_service]] # first\nname = \"s\"\nversion = 2\nfeatures = [\"v.*\"]\n";
        let pieces = split("f.toml", text).unwrap();
        assert_eq!(titles(&pieces), ["lane/main", "feature_service/s@2"]);
        assert_eq!(
            pieces[0].toml,
            "# The lane.\n[[lane]]\nname = \"main\"\n[[lane.topic]]\nname = \"t\" # x\n"
        );
        assert!(pieces[1].toml.starts_with("# A service.\n[[feature_service]] # first\n"), "{pieces:?}");
        assert_eq!(pieces[1].key.to_string(), "feature service \"s@2\"");
    }

    #[test]
    fn text_that_hides_its_definitions_is_rendered_anew() {
        let text = "view = [{ name = \"a\", id = 1 }]\n[[lane]]\nname = \"\"\"x\n[[view]]\n\"\"\"\n";
        let pieces = split("f.toml", text).unwrap();
        assert_eq!(pieces.len(), 2, "{pieces:?}");
        for piece in &pieces {
            assert_eq!(split("again", &piece.toml).unwrap(), std::slice::from_ref(piece), "{piece:?}");
        }
    }

    #[test]
    fn the_example_is_taken_apart_without_loss() {
        let pieces = split("example", include_str!("../../../ops/definitions.example.toml")).unwrap();
        let count = |kind: &str| pieces.iter().filter(|piece| piece.key.kind == kind).count();
        assert_eq!((count("lane"), count("view"), count("feature_service")), (1, 3, 2));
        let texts: Vec<_> = pieces.iter().map(|piece| ("piece", piece.toml.as_str())).collect();
        let again = super::super::load::compile(texts).unwrap();
        let own = again.views.iter().filter(|view| view.name.starts_with("forebay."));
        assert_eq!((again.views.len() - own.count(), again.services.len()), (3, 2));
    }

    #[test]
    fn bad_60_what_has_no_name_or_is_of_no_kind_is_named() {
        let errors = |text: &str| split("f.toml", text).unwrap_err().0.join("\n");
        assert!(errors("[[views]]\n").contains("did you mean \"view\"?"));
        assert_eq!(errors("[[view]]\nid = 1\n"), "f.toml: view number 1: name: a view has a name");
        assert!(errors("[[feature_service]]\nname = \"s\"\n").contains("has a version"));
        assert!(errors("[view]\nid = 1\n").contains("expected tables begun with [[view]]"));
        assert!(errors("x = = 1").contains("line 1"));
    }
}
