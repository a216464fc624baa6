//! `forebay dlq`: what was put aside can be listed, looked at and sent again, once its reason is gone.

use forebay_tests::{Bed, Output, Record, Status, event_now, eventually, run};

async fn dlq(bed: &Bed, arguments: &[&str]) -> Output {
    let file = bed.server.config.file();
    let config = ["--config", file.to_str().expect("UTF-8")];
    run(["dlq"].into_iter().chain(arguments.iter().copied()).chain(config)).await
}

#[tokio::test]
async fn dead_letters_are_listed_and_shown() {
    let bed = Bed::new("dlq_list").start().await;
    bed.letter(Record::new("points", b"one", "nope"), "not_json").await;
    bed.letter(Record::new("points", b"two", "[]"), "not_object").await;
    let listed = dlq(&bed, &["list", "--json"]).await.ok().json_lines();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let reasons: std::collections::BTreeSet<_> = listed.iter().map(|line| line["reason"].as_str()).collect();
    assert_eq!(reasons, [Some("not_json"), Some("not_object")].into());
    assert!(listed.iter().all(|line| line["topic"] == bed.topic("points").as_str()), "{listed:?}");
    let table = dlq(&bed, &["list"]).await.ok().stdout;
    assert!(table.contains("not_json") && table.contains("not_object"), "{table}");
    let shown = dlq(&bed, &["show", "0"]).await.ok().stdout;
    assert!(shown.contains("nope") || shown.contains("[]"), "{shown}");
}

#[tokio::test]
async fn p18_dead_letters_are_driven_again_when_their_reason_is_gone() {
    let mut bed = Bed::new("dlq_redrive").start().await;
    let payload = format!(r#"{{"ts":{},"i":5}}"#, event_now());
    let early = Record::new("points", b"early", payload.clone()).header("forebay-view", "later");
    bed.letter(early.header("own", "header"), "unknown_view").await;
    bed.letter(Record::new("points", b"never", "nope"), "not_json").await;
    let later = format!(
        "{}\n[[view]]\nid = 2\nname = \"later\"\nlane = \"main\"\nentity = \"customer\"\n\
         topics = [\"{}\"]\nevent_time = {{ path = \"ts\" }}\n",
        bed.definitions,
        bed.topic("points")
    );
    std::fs::write(bed.server.config.dir.join("definitions/all.toml"), &later).expect("written");
    bed.server.terminate().await;
    bed.restart().await;
    bed.definitions = later;
    assert_eq!(bed.get("later", b"early").await.status, Status::NotFound);
    dlq(&bed, &["redrive"]).await.ok();
    eventually("it is readable", || async {
        let row = bed.get("later", b"early").await;
        anyhow::ensure!(row.status == Status::Present && row.json == payload.as_bytes(), "{row:?}");
        Ok(())
    })
    .await;
    bed.settled().await;
    let sent = bed.kafka.read_topic(&bed.topic("points")).await;
    let again = sent.iter().rev().find(|record| record.key.as_deref() == Some(b"early")).expect("sent again");
    assert_eq!(again.header("own").as_deref(), Some("header"), "with its own headers");
    assert!(
        again.headers.iter().all(|(name, _)| !name.starts_with("forebay-dlq-")),
        "and without ours: {again:?}"
    );
    let letters = bed.kafka.read_topic(&bed.topic("dlq")).await;
    let still = letters.iter().filter(|letter| letter.key.as_deref() == Some(b"never")).count();
    assert!(still >= 2, "what is still bad comes back as a dead letter");
}
