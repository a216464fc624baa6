//! Reading TOML that people wrote so that they learn everything wrong with it at once: each read notes its key and its
//! errors and goes on, and keys nobody asked for are errors at the end. Called by `config` and `definitions`.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Value;

use super::suggest::did_you_mean;
use super::units;

/// Every error found so far, one line each.
#[derive(Debug, Default)]
pub struct Errors(RefCell<Vec<String>>);

impl Errors {
    /// Notes one: where it is, what was expected, what to do.
    pub fn add(&self, place: impl Display, message: impl Display) {
        self.0.borrow_mut().push(format!("{place}: {message}"));
    }

    /// All of them, in the order they were found.
    pub fn into_vec(self) -> Vec<String> {
        self.0.into_inner()
    }
}

/// One TOML table with the keys asked for so far.
#[derive(Debug)]
pub struct Table<'t> {
    /// Where it is, for messages: `forebay.toml: [server]`.
    pub place: String,
    table: &'t toml::Table,
    errors: &'t Errors,
    asked: RefCell<Vec<&'static str>>,
}

/// Parses a file's text; an error names the line.
pub fn parse(file: &str, text: &str, errors: &Errors) -> Option<toml::Table> {
    let note = |error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
        errors.add(format_args!("{file}: line {line}"), error.message().replace('\n', ", "));
    };
    text.parse().map_err(note).ok()
}

impl<'t> Table<'t> {
    /// Nothing asked yet.
    pub fn new(place: String, table: &'t toml::Table, errors: &'t Errors) -> Self {
        Table { place, table, errors, asked: RefCell::default() }
    }

    /// Where errors of this table go.
    pub fn errors(&self) -> &'t Errors {
        self.errors
    }

    /// Notes an error at a key.
    pub fn error(&self, key: &str, message: impl Display) {
        self.errors.add(format_args!("{}: {key}", self.place), message);
    }

    /// The value of a key, whatever it is.
    pub fn value(&self, key: &'static str) -> Option<&'t Value> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn read<T>(&self, key: &'static str, expected: &str, read: impl Fn(&'t Value) -> Option<T>) -> Option<T> {
        let value = self.value(key)?;
        let got = read(value);
        if got.is_none() {
            self.error(key, format_args!("expected {expected}, found {}", found(value)));
        }
        got
    }

    /// A string.
    pub fn text(&self, key: &'static str) -> Option<&'t str> {
        self.read(key, "a string in quotes", Value::as_str)
    }

    /// A string that must be there and not empty. What it is for is said when it is missing.
    pub fn required(&self, key: &'static str, purpose: &str) -> Option<&'t str> {
        if self.value(key).is_none() {
            self.error(key, format_args!("missing: {purpose}"));
        }
        let text = self.text(key)?;
        if text.is_empty() {
            self.error(key, format_args!("empty: {purpose}"));
        }
        Some(text).filter(|text| !text.is_empty())
    }

    /// true or false; also as text, because environment variables are text.
    pub fn flag(&self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |value| value.as_bool().or_else(|| value.as_str()?.parse().ok()))
    }

    /// A whole number; also as text, because environment variables are text.
    pub fn integer(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let number = |value: &Value| value.as_integer().or_else(|| value.as_str()?.parse().ok());
        self.read(key, &expected, |value| number(value).filter(|number| range.contains(number)))
    }

    /// A duration, in ms.
    pub fn duration_ms(&self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let ms = self.read(key, units::DURATION, |value| units::duration_ms(value.as_str()?))?;
        let show = |ms: &i64| units::show_duration(*ms);
        self.within(key, ms, &range, show(&ms), show)
    }

    /// A size, in bytes.
    pub fn size_bytes(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = self.read(key, units::SIZE, |value| units::size_bytes(value.as_str()?))?;
        let show = |bytes: &u64| units::show_size(*bytes);
        self.within(key, bytes, &range, show(&bytes), show)
    }

    fn within<T: PartialOrd>(
        &self,
        key: &str,
        value: T,
        range: &RangeInclusive<T>,
        shown: String,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        let (least, most) = (show(range.start()), show(range.end()));
        self.error(key, format_args!("{shown} is outside {least} to {most}"));
        None
    }

    /// One of a few words with its meaning.
    pub fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let chosen = choices.iter().find(|(name, _)| *name == text);
        if chosen.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let hint = did_you_mean(text, choices.iter().map(|(name, _)| *name));
            self.error(key, format_args!("expected {}, found \"{text}\"{hint}", names.join(" or ")));
        }
        chosen.map(|(_, meaning)| *meaning)
    }

    /// A list of strings; empty when absent.
    pub fn texts(&self, key: &'static str) -> Vec<&'t str> {
        let all = |value: &'t Value| value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
        self.read(key, "a list of strings", all).unwrap_or_default()
    }

    /// The tables written as `[[key]]`; empty when absent. `header` is the full name for messages.
    pub fn tables(&self, key: &'static str, header: &str) -> Vec<&'t toml::Table> {
        let all =
            |value: &'t Value| value.as_array()?.iter().map(Value::as_table).collect::<Option<Vec<_>>>();
        self.read(key, &format!("tables, each begun with [[{header}]]"), all).unwrap_or_default()
    }

    /// A table inside this one, written as `[header]`.
    pub fn table(&self, key: &'static str, place: String) -> Option<Table<'t>> {
        let table = self.read(key, "a table", Value::as_table)?;
        Some(Table::new(place, table, self.errors))
    }

    /// The names in it, for tables whose keys are free.
    pub fn entries(&self) -> impl Iterator<Item = (&'t String, &'t Value)> + use<'t> {
        self.table.iter()
    }

    /// Keys nobody asked for are errors.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.table.keys().filter(|key| !asked.contains(&key.as_str())) {
            let hint = did_you_mean(key, asked.iter().copied());
            self.errors.add(&self.place, format_args!("unknown key \"{key}\"{hint}"));
        }
    }
}

/// A value as messages show it.
pub fn found(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{text}\""),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value.to_string(),
    }
}
