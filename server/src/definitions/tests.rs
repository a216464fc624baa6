//! Definitions as people write them, right and wrong. Tests only.

use super::*;
use crate::json::Slots;
use crate::json::typed::cell;

const MINIMAL: &str = r#"
[[lane]]
name = "main"
[[lane.topic]]
name = "points"
[[view]]
id = 1
name = "signal"
lane = "main"
entity = "customer"
topics = ["points"]
[[view.field]]
name = "snr"
type = "double"
"#;

/// The one error of a text.
fn error(text: &str) -> String {
    let mut errors = parse(text).expect_err("refused").0;
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

/// The errors of the minimal definitions with one piece replaced.
fn with(old: &str, new: &str) -> Vec<String> {
    assert!(MINIMAL.contains(old), "{old}");
    parse(&MINIMAL.replacen(old, new, 1)).map(|_| Vec::new()).unwrap_or_else(|errors| errors.0)
}

fn defined(text: &str) -> Definitions {
    parse(text).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn defaults_are_those_documented() {
    let definitions = defined(MINIMAL);
    let (lane, view) = (&definitions.lanes[0], &definitions.views[0]);
    assert_eq!(lane.partitioner, Partitioner::Murmur2);
    assert_eq!(lane.dead_letter_topic, "forebay.main.dlq");
    assert_eq!((lane.threads, lane.nice), (None, 0));
    assert_eq!((lane.max_value_bytes, lane.strict_partition), (1 << 20, false));
    assert_eq!((lane.future_bound_ms, lane.allowed_lateness_ms), (300_000, 3_600_000));
    assert_eq!(
        (lane.topics[0].priority, lane.topics[0].views.as_slice()),
        (0, ["signal".to_owned()].as_slice())
    );
    assert_eq!(view.event_time, EventTimeSource::Kafka);
    assert_eq!((view.ttl_ms, view.max_ttl_ms), (604_800_000, 604_800_000));
    assert_eq!((view.history, view.avro_json), (HistoryClass::Latest, false));
    assert_eq!((view.fields[0].path.as_slice(), view.fields[0].slot), (["snr".to_owned()].as_slice(), 0));
    assert_eq!(view.fingerprint(), "view signal of customer in lane main");
}

#[test]
fn a_view_reads_its_fields_through_its_plan() {
    let text = MINIMAL
        .replace("[[view.field]]", "event_time = { path = \"at.time\", unit = \"s\" }\n[[view.field]]")
        + "[[view.field]]\nname = \"where\"\npath = \"place.city\"\ntype = \"string\"\ndefault = \"nowhere\"\n\
           [[view.field]]\nname = \"more\"\ntype = \"json\"\ndefault = { a = [1, 2.5] }\n";
    let definitions = defined(&text);
    let view = definitions.view("signal").unwrap();
    let payload = br#"{"at":{"time":1700000000},"snr":31.5,"place":{"city":"\u00c9vora"}}"#;
    let mut slots = Slots::new();
    view.plan.scan(payload, &mut slots).unwrap();
    assert_eq!(slots.get(0, payload), Some(b"1700000000".as_slice()));
    let cells: Vec<_> =
        view.fields.iter().map(|field| cell(field, view.avro_json, slots.get(field.slot, payload))).collect();
    let json = Cell::Json(br#"{"a":[1,2.5]}"#.as_slice().into());
    assert_eq!(cells, [Cell::Double(31.5), Cell::Str("\u{c9}vora".into()), json]);
    assert_eq!(view.fields[1].default_json(), "\"nowhere\"");
}

#[test]
fn services_list_fields_in_order_of_mention() {
    let service = "[[view.field]]\nname = \"b\"\ntype = \"bool\"\n[[feature_service]]\nname = \"s\"\nversion = 1\n\
                   features = [\"signal.b\", \"signal.*\"]\n[[feature_service]]\nname = \"s\"\nversion = 3\n\
                   features = [\"signal.snr\"]\n";
    let definitions = defined(&(MINIMAL.to_owned() + service));
    let names = |wanted: &str| definitions.feature_names(definitions.service(wanted).unwrap());
    assert_eq!(names("s@1"), ["signal.b", "signal.snr"]);
    assert_eq!(names("s"), ["signal.snr"]);
    let unknown = |wanted: &str| definitions.service(wanted).unwrap_err().to_string();
    assert_eq!(unknown("s@2"), "feature service \"s\" has no version 2: the highest is 3");
    assert_eq!(unknown("z"), "no feature service \"z\"; did you mean \"s\"?");
    assert_eq!(definitions.view("sginal").unwrap_err().0, "no view \"sginal\"; did you mean \"signal\"?");
    let field = definitions.views[0].field("snnr").unwrap_err();
    assert_eq!(field.0, "view \"signal\" has no field \"snnr\"; did you mean \"snr\"?");
}

#[test]
fn bad_60_unknown_keys_are_named_with_the_nearest_known_one() {
    assert_eq!(
        with("entity", "entitty")[..],
        [
            "definitions: view \"signal\": entity: missing: what its entity ids name, such as \"customer\"",
            "definitions: view \"signal\": unknown key \"entitty\"; did you mean \"entity\"?",
        ]
    );
    assert_eq!(
        with("[[lane.topic]]", "thread = 2\n[[lane.topic]]")[..],
        ["definitions: lane \"main\": unknown key \"thread\"; did you mean \"threads\"?"]
    );
    assert_eq!(
        error(&(MINIMAL.to_owned() + "[[views]]\n")),
        "definitions: unknown key \"views\"; did you mean \"view\"?"
    );
    assert_eq!(
        with("type =", "unit = 1\ntype =")[..],
        ["definitions: view \"signal\": field \"snr\": unknown key \"unit\""]
    );
}

#[test]
fn bad_61_wrong_types_and_units_say_what_is_expected() {
    let place = "definitions: view \"signal\"";
    let ttl = |text: &str| {
        with("topics = [\"points\"]", &format!("topics = [\"points\"]\nttl = {text}")).join("\n")
    };
    let duration = r#"expected a duration such as "500ms", "5s", "10m", "1h" or "7d""#;
    assert_eq!(ttl("7"), format!("{place}: ttl: {duration}, found 7"));
    assert_eq!(ttl("\"7 days\""), format!("{place}: ttl: {duration}, found \"7 days\""));
    assert_eq!(
        with("id = 1", "id = \"x\"")[..],
        [format!("{place}: id: expected a whole number from 1 to 65535, found \"x\"")]
    );
    assert_eq!(with("id = 1", "id = 65536").len(), 1);
    assert_eq!(
        with("[\"points\"]", "\"points\"")[0],
        format!("{place}: topics: expected a list of strings, found \"points\"")
    );
    assert_eq!(
        with("\"double\"", "\"doubel\"")[..],
        [format!(
            "{place}: field \"snr\": type: expected \"double\" or \"int64\" or \"bool\" or \"string\" or \"timestamp\" or \
             \"json\", found \"doubel\"; did you mean \"double\"?"
        )]
    );
    assert_eq!(
        with("type = \"double\"", "type = \"int64\"\ndefault = 1.5")[..],
        [format!("{place}: field \"snr\": default: expected a value of type int64, found 1.5")]
    );
    assert!(with("[[lane.topic]]", "max_value = \"1MB\"\n[[lane.topic]]")[0].contains("expected a size"));
    assert!(
        with("[[view.field]]", "event_time = \"kafak\"\n[[view.field]]")[0].contains("expected \"kafka\"")
    );
    assert!(with("[[view.field]]", "event_time = {}\n[[view.field]]")[0].contains("expected \"kafka\""));
    assert_eq!(error("[[lane]\n"), error("[[lane]"), "an error of syntax names its line");
    assert!(error("a = 1\nb = = 2").starts_with("definitions: line 2: "), "{}", error("a = 1\nb = = 2"));
}

#[test]
fn every_error_is_named_not_only_the_first() {
    let text = MINIMAL
        .replace("id = 1", "id = 0")
        .replace("\"double\"", "\"float\"")
        .replace("entity = \"customer\"", "");
    assert_eq!(parse(&text).unwrap_err().0.len(), 3);
}

#[test]
fn bad_63_names_and_ids_are_used_once() {
    let view = MINIMAL.split_once("[[view]]").unwrap().1;
    let errors = |text: String| parse(&text).unwrap_err().0;
    assert_eq!(
        errors(format!("{MINIMAL}[[view]]{view}"))[..],
        [
            "definitions: view \"signal\": a view of this name is defined already (definitions: view \"signal\")",
            "definitions: view \"signal\": id 1 is the id of another view already (definitions: view \"signal\")",
        ]
    );
    let field = "[[view.field]]\nname = \"snr\"\ntype = \"double\"\n";
    assert_eq!(
        error(&format!("{MINIMAL}{field}")),
        "definitions: view \"signal\": field \"snr\" is listed twice"
    );
    let lane = "[[lane]]\nname = \"main\"\n[[lane.topic]]\nname = \"other\"\n";
    assert!(error(&format!("{MINIMAL}{lane}")).contains("a lane of this name is defined already"));
    let service = "[[feature_service]]\nname = \"s\"\nversion = 1\nfeatures = [\"signal.*\"]\n";
    assert!(
        error(&format!("{MINIMAL}{service}{service}")).contains("version 1 of this name is defined already")
    );
    let lane = "[[lane]]\nname = \"second\"\n[[lane.topic]]\nname = \"points\"\n";
    assert_eq!(
        error(&format!("{MINIMAL}{lane}")),
        "definitions: lane \"second\": topic \"points\" is read by lane \"main\": a topic belongs to one lane"
    );
    assert!(
        with("[[lane.topic]]", "dead_letter_topic = \"points\"\n[[lane.topic]]")[0]
            .contains("is a source topic of lane")
    );
}

#[test]
fn names_that_are_not_defined_are_errors_with_a_suggestion() {
    assert!(
        with("lane = \"main\"", "lane = \"mian\"")[0]
            .contains("no lane \"mian\" is defined; did you mean \"main\"?")
    );
    assert!(
        with("topics = [\"points\"]", "topics = [\"poins\"]")[0]
            .contains("has no topic \"poins\"; did you mean \"points\"?")
    );
    assert!(with("topics = [\"points\"]", "")[0].contains("name at least one topic"));
    assert!(with("[[lane.topic]]\nname = \"points\"", "")[0].contains("a lane reads at least one topic"));
    let service = |feature: &str| {
        error(&format!(
            "{MINIMAL}[[feature_service]]\nname = \"s\"\nversion = 1\nfeatures = [\"{feature}\"]\n"
        ))
    };
    assert!(service("sginal.snr").contains("no view \"sginal\" is defined; did you mean \"signal\"?"));
    assert!(service("signal.snnr").contains("view \"signal\" has no field \"snnr\"; did you mean \"snr\"?"));
    assert!(service("signal").contains("expected \"view.field\" or \"view.*\""));
    for name in ["a b", "", ".hidden", "../up", "\u{e9}", &"x".repeat(101)] {
        assert!(!with("name = \"signal\"", &format!("name = \"{name}\"")).is_empty(), "{name}");
    }
    for path in ["", "a..b", ".a", "a."] {
        assert!(
            with("type =", &format!("path = \"{path}\"\ntype =")).join("").contains("joined by dots"),
            "{path}"
        );
    }
    assert!(error("").contains("nothing is defined"));
}

#[test]
fn bad_65_a_ttl_is_between_1_s_and_400_d() {
    let ttl = |text: &str| with("topics = [\"points\"]", &format!("topics = [\"points\"]\n{text}"));
    for text in ["0s", "-1s", "999ms", "401d", "3650d"] {
        let errors = ttl(&format!("ttl = \"{text}\""));
        assert!(errors[0].ends_with("is outside 1s to 400d"), "{errors:?}");
    }
    assert!(ttl("ttl = 0")[0].contains("expected a duration"));
    assert_eq!(ttl("ttl = \"1s\"\nmax_ttl = \"400d\""), Vec::<String>::new());
    assert!(ttl("ttl = \"2d\"\nmax_ttl = \"1d\"")[0].contains("max_ttl: 1d is less than the ttl of 2d"));
}

#[test]
fn bad_65_a_reload_that_would_reinterpret_stored_records_is_refused() {
    let old = defined(MINIMAL);
    let reasons = |text: &str| compatible(&old, &defined(text)).expect_err("refused");
    let swap = |from: &str, to: &str| reasons(&MINIMAL.replace(from, to)).join("\n");
    assert!(swap("name = \"signal\"", "name = \"other\"").contains("takes id 1"));
    assert!(swap("id = 1", "id = 2").contains("changes its id from 1 to 2"));
    assert!(swap("customer", "device").contains("changes its entity from \"customer\" to \"device\""));
    assert!(swap("\"double\"", "\"string\"").contains("changes its type from double to string"));
    assert!(swap("type =", "path = \"other\"\ntype =").contains("changes its path from snr to other"));
    assert!(
        swap("topics =", "event_time = { path = \"ts\" }\ntopics =")
            .contains("event_time from \"kafka\" to \"path ts\"")
    );
    assert!(swap("topics =", "avro_json = true\ntopics =").contains("changes avro_json"));
    assert_eq!(
        swap("[[lane.topic]]", "threads = 2\n[[lane.topic]]"),
        "lane \"main\" changes its threads: restart the server for that"
    );
    let topic = swap("[[view]]", "[[lane.topic]]\nname = \"more\"\n[[view]]");
    assert_eq!(topic, "lane \"main\" changes its topics: restart the server for that");
    let lane = swap("[[view]]", "[[lane]]\nname = \"more\"\n[[lane.topic]]\nname = \"more\"\n[[view]]");
    assert!(lane.contains("restart the server to add, remove or reorder lanes"));
}

#[test]
fn a_reload_takes_up_additions() {
    let old = defined(MINIMAL);
    assert_eq!(compatible(&old, &defined(MINIMAL)), Ok(Vec::new()));
    let text = MINIMAL.replace("topics =", "ttl = \"1d\"\ntopics =")
        + "[[view.field]]\nname = \"b\"\ntype = \"bool\"\n[[view]]\nid = 2\nname = \"new\"\nlane = \"main\"\nentity = \"e\"\n\
           topics = [\"points\"]\n[[feature_service]]\nname = \"s\"\nversion = 1\nfeatures = [\"signal.*\"]\n";
    let changes = compatible(&old, &defined(&text)).unwrap();
    assert_eq!(
        changes,
        [
            "view \"signal\": ttl 7d becomes 1d for data points that arrive from now on",
            "view \"signal\": max_ttl 7d becomes 1d for data points that arrive from now on",
            "view \"signal\": field \"b\" is new",
            "view \"new\" is new",
            "feature service \"s@1\" is new",
        ]
    );
}

#[test]
fn bad_65_an_id_stays_taken_after_its_view_is_gone() {
    let with = defined(MINIMAL);
    let another = MINIMAL.replace("id = 1", "id = 2").replace("\"signal\"", "\"speed\"");
    let without = defined(&another).after(&with);
    assert_eq!(without.retired.get(&1).map(String::as_str), Some("signal"));
    let reused = format!("{another}{}", MINIMAL.split_at(MINIMAL.find("[[view]]").unwrap()).1)
        .replace("\"signal\"", "\"other\"");
    let reasons = compatible(&without, &defined(&reused)).unwrap_err();
    assert!(reasons.iter().any(|reason| reason.contains("takes id 1")), "{reasons:?}");
    // The view itself may come back.
    compatible(&without, &with).unwrap();
}

#[test]
fn a_service_version_keeps_its_features() {
    let service =
        |features: &str| format!("[[feature_service]]\nname = \"s\"\nversion = 1\nfeatures = [{features}]\n");
    let field = "[[view.field]]\nname = \"b\"\ntype = \"bool\"\n";
    let text = |more: &str, features: &str| defined(&format!("{MINIMAL}{more}{}", service(features)));
    let all = text(field, "\"signal.*\"");
    let fewer = compatible(&all, &text("", "\"signal.*\"")).unwrap_err();
    assert_eq!(
        fewer,
        ["signal.b is removed while feature service \"s@1\" uses it: remove the service version first"]
    );
    let more = compatible(&text("", "\"signal.*\""), &all).unwrap();
    assert!(more.contains(&"feature service \"s@1\" has signal.b too".to_owned()), "{more:?}");
    let other = compatible(&all, &text(field, "\"signal.b\"")).unwrap_err();
    assert!(other[0].contains("changes its features") && other[0].contains("make version 2"));
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let (lane, view) = MINIMAL.split_at(MINIMAL.find("[[view]]").unwrap());
    assert!(load(dir.path()).unwrap_err().0[0].contains("no *.toml file in this directory"));
    std::fs::write(dir.path().join("b.toml"), view).unwrap();
    std::fs::write(dir.path().join("a.toml"), lane).unwrap();
    std::fs::write(dir.path().join("ignored.txt"), "not TOML").unwrap();
    assert_eq!(load(dir.path()).unwrap().views.len(), 1);
    std::fs::write(dir.path().join("b.toml"), view.replace("\"main\"", "\"x\"")).unwrap();
    let errors = load(dir.path()).unwrap_err();
    let file = dir.path().join("b.toml").display().to_string();
    assert_eq!(errors.to_string(), format!("{file}: view \"signal\": lane: no lane \"x\" is defined"));
    assert!(load(&dir.path().join("none")).unwrap_err().0[0].contains("cannot be read"));
}

#[test]
fn the_example_is_valid() {
    let definitions = defined(include_str!("../../../ops/definitions.example.toml"));
    assert_eq!((definitions.lanes.len(), definitions.views.len(), definitions.services.len()), (2, 8, 2));
    assert_eq!(definitions.lanes[0].topics[1].views, ["speed_test", "contact"]);
    assert_eq!(definitions.services[1].features.len(), 3);
}
