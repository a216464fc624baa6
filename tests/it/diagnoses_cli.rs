//! The commands about diagnoses: for people and as JSON.

use forebay_tests::{Bed, Output, Record, event_now, run};

use crate::diagnoses::{Calls, definitions, prediction};

async fn forebay(bed: &Bed, arguments: &[&str]) -> Output {
    let server = format!("http://{}", bed.server.grpc);
    run(["--server", &server].into_iter().chain(arguments.iter().copied())).await
}

#[tokio::test]
async fn a_diagnosis_is_made_shown_judged_evaluated_and_erased_from_the_command_line() {
    let bed = Bed::new("diagnoses_cli").definitions(&definitions()).start().await;
    let ts = event_now();
    bed.put(Record::new("points", b"c-1", format!("{{\"ts\":{ts},\"i\":42,\"s\":\"hello\"}}"))).await;
    let at = ts.to_string();
    let create = ["snapshot", "create", "d-1", "--entity", "c-1", "--service", "some", "--as-of", &at];
    let made = forebay(&bed, &create).await.ok().stdout;
    for word in ["d-1", "c-1", "some@2", "hello", "42"] {
        assert!(made.contains(word), "{word} is not in\n{made}");
    }
    let document = forebay(&bed, &["snapshot", "show", "d-1", "--json"]).await.ok().stdout;
    let kept = Calls(&bed).snapshot("d-1").await.expect("there").document;
    assert_eq!(document.trim_end().as_bytes(), kept.as_ref(), "the bytes that are stored");
    Calls(&bed).predict(prediction("d-1", "m@1")).await.expect("kept");
    let record =
        ["outcome", "record", "d-1", "--label", "confirmed", "--source", "me", "--detail", "{\"n\":1}"];
    forebay(&bed, &record).await.ok();
    let shown = forebay(&bed, &["diagnosis", "show", "d-1"]).await.ok().stdout;
    for word in ["OK by m@1", "score = 0.93", "confirmed, says me", "hello"] {
        assert!(shown.contains(word), "{word} is not in\n{shown}");
    }
    let json = forebay(&bed, &["diagnosis", "show", "d-1", "--json"]).await.ok().json();
    assert_eq!(json["snapshot"]["values"][0]["json"]["i"], 42);
    assert_eq!(
        (&json["prediction"]["outputs"]["score"], &json["outcome"]["label"]),
        (&0.93.into(), &"confirmed".into())
    );
    let listed = forebay(&bed, &["diagnosis", "list", "--entity", "c-1"]).await.ok().stdout;
    assert!(listed.contains("d-1") && listed.contains("some@2"), "{listed}");
    let lines =
        forebay(&bed, &["diagnosis", "list", "--entity", "c-1", "--all", "--json"]).await.ok().json_lines();
    assert_eq!((lines.len(), &lines[0]["diagnosis_id"]), (1, &"d-1".into()));
    let lines = forebay(&bed, &["evaluate", "--model", "m@1"]).await.ok().json_lines();
    assert_eq!((lines.len(), &lines[0]["prediction"]["model"]), (1, &"m@1".into()));
    let erased = forebay(&bed, &["erase", "c-1", "--json"]).await.ok().json();
    assert_eq!((&erased["diagnoses"], &erased["tombstones"]), (&1.into(), &4.into()));
    let gone = forebay(&bed, &["diagnosis", "show", "d-1"]).await;
    assert!(gone.code == 1 && gone.said().contains("no diagnosis \"d-1\""), "{gone:?}");
    let none = forebay(&bed, &["diagnosis", "list", "--entity", "c-1"]).await.ok().stdout;
    assert!(none.contains("no diagnoses"), "{none}");
}

#[tokio::test]
async fn topics_create_makes_the_topics_of_diagnoses_too() {
    let (config, kafka, namespace, toml) =
        Bed::new("diagnoses_topics").definitions(&definitions()).prepare().await;
    let prefix = format!("{namespace}-new");
    let new =
        toml.replace(&format!("topic_prefix = \"{namespace}\""), &format!("topic_prefix = \"{prefix}\""));
    std::fs::write(config.dir.join("definitions/all.toml"), new).expect("written");
    let topics = ["snapshots", "predictions", "outcomes", "diagnoses"].map(|name| format!("{prefix}.{name}"));
    let file = config.file();
    let file = file.to_str().expect("UTF-8");
    let created =
        run(["topics", "create", "--config", file, "--partitions", "2", "--json"]).await.ok().json();
    let outcome = |topic: &String| {
        let all = created["topics"].as_array().expect("a list");
        all.iter().find(|found| found["topic"] == topic.as_str()).expect("named")["outcome"].clone()
    };
    for topic in &topics {
        assert_eq!(outcome(topic), "created", "{created}");
        assert_eq!(kafka.end_offsets(topic).await.len(), 2, "{topic}");
    }
}
