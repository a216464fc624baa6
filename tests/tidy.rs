//! The house rules, as tests: how files open and how long they are, where `unsafe` may be, which crate may use which, what
//! must not be in the code, and that every promise and every bad input of the catalogue has its test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CRATES: [&str; 6] = ["proto", "storage", "server", "client", "bench", "tests"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}

/// Every .rs file of the workspace's crates, by path from the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in CRATES {
        collect(&root().join(name), &mut found);
    }
    assert!(found.len() > 20, "the files are where they should be");
    found
}

fn collect(dir: &Path, into: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(dir).expect("readable").map(|entry| entry.expect("readable").path());
    let mut entries: Vec<PathBuf> = entries.collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned();
            into.push((name, std::fs::read_to_string(&path).expect("readable")));
        }
    }
}

/// Panics with all of them if there are any.
fn none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

/// A file's lines before its unit tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .enumerate()
        .map(|(i, line)| (i + 1, line))
}

fn is_test(file: &str) -> bool {
    file.starts_with("tests/") || file.ends_with("/tests.rs") || file.contains("/tests/")
}

/// The rule's own words, written so that this file does not break them.
fn word(parts: [&str; 2]) -> String {
    parts.concat()
}

#[test]
fn every_file_says_what_it_is() {
    let broken = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(file, _)| file);
    none("a file opens with `//! ` lines: what it is, who calls it, what it must not know", broken.collect());
}

#[test]
fn no_file_is_two_subjects() {
    let long = |(file, text): (String, String)| {
        let lines = code(&text).count();
        (lines > 400).then(|| format!("{file}: {lines}"))
    };
    none("at most 400 lines before the tests", sources().into_iter().filter_map(long).collect());
}

#[test]
fn unsafe_is_in_its_rooms_and_says_why_it_is_sound() {
    let allowed = ["storage/src/map.rs", "server/src/kafka/ffi.rs"];
    let keyword = word(["unsa", "fe"]);
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let said = line.split("//").next().unwrap_or_default();
            let used = said.split(|c: char| !c.is_alphanumeric() && c != '_').any(|token| token == keyword);
            if !used || said.contains('"') {
                continue;
            }
            let comment = lines[..i].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            let sound = comment.into_iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            if !allowed.contains(&file.as_str()) || !sound {
                broken.push(format!("{file}:{}: {line}", i + 1));
            }
        }
    }
    none(&format!("{keyword} only in {allowed:?}, each with a SAFETY comment above it"), broken);
}

#[test]
fn nothing_is_left_undone() {
    let words =
        [["todo", "!("], ["unimplem", "ented!("], ["#[ign", "ore"], ["FIX", "ME"], ["XX", "X:"]].map(word);
    let mut broken = Vec::new();
    for (file, text) in sources() {
        for (i, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                broken.push(format!("{file}:{}: {line}", i + 1));
            }
        }
    }
    none(&format!("none of {words:?}"), broken);
}

#[test]
fn tests_wait_for_conditions() {
    let sleep = word(["slee", "p("]);
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let from = if is_test(&file) { 0 } else { code(&text).count() };
        for (i, line) in text.lines().enumerate().skip(from) {
            if line.contains(&sleep) {
                broken.push(format!("{file}:{}: {line}", i + 1));
            }
        }
    }
    none("no sleeping in tests", broken);
}

#[test]
fn modules_are_named_for_their_subject() {
    let vague = ["utils.rs", "util.rs", "common.rs", "manager.rs", "helpers.rs", "misc.rs"];
    let broken = sources().into_iter().map(|(file, _)| file);
    let broken = broken.filter(|file| vague.iter().any(|name| file.ends_with(&format!("/{name}"))));
    none("no file named for nothing", broken.collect());
}

#[test]
fn crates_use_only_what_they_may() {
    let ours = ["forebay_proto", "forebay_storage", "forebay_client", "forebay_server", "forebay_tests"];
    let forbidden = |crate_name: &str| -> Vec<&str> {
        let mut names: Vec<&str> = ours.to_vec();
        match crate_name {
            "storage" => names.extend(["tokio", "tonic", "rdkafka", "prost", "axum"]),
            "client" => {
                names.retain(|name| *name != "forebay_proto");
                names.push("rdkafka");
            }
            "proto" => names.push("rdkafka"),
            "server" => names.retain(|name| *name == "forebay_tests"),
            _ => names.clear(),
        }
        names
    };
    let mut broken = Vec::new();
    for (file, text) in sources() {
        let crate_name = file.split('/').next().unwrap_or_default();
        for (i, line) in code(&text) {
            let said = line.split("//").next().unwrap_or_default();
            let uses = |name: &&str| {
                let of_path = said.contains(&format!("{name}::"));
                let own = *name == format!("forebay_{crate_name}");
                of_path && !own
            };
            if let Some(name) = forbidden(crate_name).iter().find(|name| uses(name)) {
                broken.push(format!("{file}:{i}: {crate_name} must not know {name}"));
            }
        }
    }
    for (name, dependencies) in CRATES.map(|name| (name, dependencies(name))) {
        for other in forbidden(name) {
            let other = other.replace('_', "-");
            if dependencies.contains(&other) && other != format!("forebay-{name}") {
                broken.push(format!("{name}/Cargo.toml: {name} must not depend on {other}"));
            }
        }
    }
    none("who may know whom", broken);
}

/// Names under `[dependencies]` of a crate.
fn dependencies(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("readable");
    let table: toml::Table = text.parse().expect("TOML");
    let dependencies = table.get("dependencies").and_then(toml::Value::as_table);
    dependencies.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

/// Names of test functions of the whole workspace.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources() {
        let mut marked = false;
        for line in text.lines().map(str::trim_start) {
            let attribute = line.starts_with("#[");
            marked |= attribute && line.contains("test");
            if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked && !attribute) {
                names.insert(rest.split(['(', '<']).next().unwrap_or_default().to_owned());
            }
            marked &= attribute || line.starts_with("//");
        }
    }
    names
}

#[test]
fn every_bad_input_of_the_catalogue_has_a_test() {
    let tests = tests();
    let numbers = (1..=30).chain(34..=52).chain(60..=65);
    let without =
        numbers.filter(|number| !tests.iter().any(|test| test.starts_with(&format!("bad_{number:02}_"))));
    none("a test named bad_NN_ for every number", without.map(|number| number.to_string()).collect());
}

#[test]
fn every_promise_of_the_readme_has_a_test() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let promised = readme.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| {
        let number = word.strip_prefix('P')?.parse::<u32>().ok()?;
        (1..=24).contains(&number).then_some(number)
    });
    let (tests, promised) = (tests(), promised.collect::<BTreeSet<_>>());
    let without = promised
        .iter()
        .filter(|number| !tests.iter().any(|test| test.starts_with(&format!("p{number:02}_"))));
    none("a promise without its test is not made", without.map(|number| format!("P{number}")).collect());
    let wanted = [2, 8, 13, 14, 17, 18, 24];
    let missing =
        wanted.iter().filter(|number| !tests.iter().any(|test| test.starts_with(&format!("p{number:02}_"))));
    none("these are tested", missing.map(|number| format!("P{number}")).collect());
}

#[test]
fn nothing_of_a_machine_is_in_the_text() {
    let words = [["/work", "/"], ["/tmp/", "w/"], ["/home", "/"], ["/root", "/"]].map(word);
    let mut broken = Vec::new();
    let mut texts = sources();
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "storage/FORMAT.md",
        "bench/RESULTS.md",
    ] {
        let text = std::fs::read_to_string(root().join(name));
        texts.push((name.to_owned(), text.unwrap_or_else(|error| panic!("{name}: {error}"))));
    }
    for (file, text) in texts {
        for (i, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) {
                broken.push(format!("{file}:{}: {line}", i + 1));
            }
        }
    }
    none("paths of one machine", broken);
}
