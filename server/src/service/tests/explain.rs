//! Settings in force: none is missing, and each says where it is from.

use std::collections::BTreeMap;

use forebay_proto::v1::Setting;

use super::super::explain::settings;
use super::*;
use crate::config::keys;

fn by_key(bed: &Bed, lane: &str) -> BTreeMap<String, Setting> {
    settings(&bed.context, lane).into_iter().map(|setting| (setting.key.clone(), setting)).collect()
}

fn told(settings: &BTreeMap<String, Setting>, key: &str) -> (String, String, String) {
    let setting = settings.get(key).unwrap_or_else(|| panic!("{key} is not told"));
    (setting.value.clone(), setting.origin.clone(), setting.reason.clone())
}

#[test]
fn every_key_of_the_configuration_is_told_in_its_place() {
    let settings = by_key(&Bed::new(), "");
    // That section is another program's.
    for key in keys().filter(|key| !key.starts_with("execute.")) {
        assert!(settings.contains_key(&key), "{key} is not told");
    }
    for setting in settings.values() {
        let known = ["file", "default", "definitions", "tuned"].contains(&setting.origin.as_str());
        assert!(known, "{setting:?}");
        assert!(setting.origin != "tuned" || !setting.reason.is_empty(), "{setting:?}");
    }
}

#[test]
fn what_is_configured_is_from_the_file_and_the_rest_has_its_reason() {
    let bed = Bed::configured(
        "[read]\nmax_in_flight = 7\n[storage]\nsync_interval = \"10ms\"\n\
         [kafka.settings]\n\"sasl.password\" = \"hush\"\n[kafka.consumer]\n\"queued.max.messages.kbytes\" = 1024\n",
    );
    let settings = by_key(&bed, "");
    assert_eq!(told(&settings, "read.max_in_flight"), ("7".into(), "file".into(), String::new()));
    assert_eq!(told(&settings, "storage.sync_interval").0, "10ms");
    assert_eq!(told(&settings, "read.max_queue"), ("500ms".into(), "default".into(), String::new()));
    let (value, origin, reason) = told(&settings, "read.threads");
    assert_eq!((value.as_str(), origin.as_str(), reason.as_str()), ("2", "tuned", "one for each of 2 cores"));
    assert_eq!(told(&settings, "kafka.settings.sasl.password").0, "(given)");
    assert_eq!(told(&settings, "lane.main.fetch").0, "1MiB");
    assert_eq!(told(&settings, "lane.main.fetch").1, "file");
    assert!(!settings.values().any(|setting| setting.value.contains("hush")));
}

#[test]
fn a_lane_says_what_it_is_bounded_by() {
    let bed = Bed::new();
    let of_main = by_key(&bed, "main");
    for bound in ["threads", "nice", "fetch", "disk", "memory"] {
        assert!(of_main.contains_key(&format!("lane.main.{bound}")), "{bound}");
    }
    let threads = told(&of_main, "lane.main.threads").2;
    assert!(threads.contains("2 cores shared by 2 lanes"), "{threads}");
    assert!(threads.contains("4 partitions: 4 shards a thread"), "{threads}");
    assert!(!of_main.keys().any(|key| key.starts_with("lane.away.")), "only the lane that was asked for");
}
