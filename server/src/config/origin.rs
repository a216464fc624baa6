//! Where each key of the configuration was given, for people who ask why it has its value. Made by `Config::parse`.

use std::collections::BTreeMap;

use toml::Value;

/// Where the keys that were given were given; of `server.tls.cert` and the like by full name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

/// Where one key was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the file.
    File,
    /// By this variable of the environment, or on the command line, which names it so.
    Environment(String),
}

impl Origins {
    /// What a file gives.
    pub(super) fn of_file(root: &toml::Table) -> Origins {
        let mut origins = Origins::default();
        origins.add_all("", root);
        origins
    }

    fn add_all(&mut self, before: &str, table: &toml::Table) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => self.add_all(&format!("{before}{key}."), inner),
                _ => drop(self.0.insert(format!("{before}{key}"), Origin::File)),
            }
        }
    }

    /// Notes what a variable gives, over the file.
    pub(super) fn override_with(&mut self, key: String, variable: &str) {
        self.0.insert(key, Origin::Environment(variable.to_owned()));
    }

    /// Where a key was given; nothing if nowhere.
    pub fn of(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }
}
