//! Changing definitions under a running server: what is compatible is taken up at once, what is not is refused with every
//! reason and changes nothing.

use forebay_tests::v1;
use forebay_tests::{Bed, Cell, POINTS, Record, Status, event_now};
use tonic::Code;

const MORE: &str = r#"
[[view]]
id = 2
name = "more"
lane = "main"
entity = "customer"
topics = ["{ns}.points"]
event_time = { path = "ts" }
field = [{ name = "i", type = "int64" }]
[[feature_service]]
name = "added"
version = 1
features = ["more.i"]
"#;

fn write(bed: &Bed, toml: &str) {
    let toml = toml.replace("{ns}", &bed.namespace);
    std::fs::write(bed.server.config.dir.join("definitions/all.toml"), toml).expect("written");
}

async fn reload(bed: &Bed, dry_run: bool) -> Result<Vec<String>, tonic::Status> {
    let answer =
        bed.client.admin.clone().reload_definitions(v1::ReloadDefinitionsRequest { dry_run }).await?;
    Ok(answer.into_inner().changes)
}

async fn views(bed: &Bed) -> Vec<String> {
    let all =
        bed.client.admin.clone().describe_views(v1::DescribeViewsRequest::default()).await.expect("views");
    all.into_inner().views.into_iter().map(|view| view.name).collect()
}

#[tokio::test]
async fn a_reload_adds_a_view_live() {
    let mut bed = Bed::new("reload").start().await;
    assert_eq!(reload(&bed, false).await.expect("nothing to do"), Vec::<String>::new());
    write(&bed, &format!("{POINTS}{MORE}"));
    let changes = reload(&bed, true).await.expect("compatible");
    assert!(changes.iter().any(|change| change.contains("more")), "{changes:?}");
    assert_eq!(views(&bed).await, ["points"], "a dry run changes nothing");
    assert_eq!(reload(&bed, false).await.expect("compatible"), changes);
    assert_eq!(views(&bed).await, ["points", "more"]);
    let payload = format!(r#"{{"ts":{},"i":9}}"#, event_now());
    bed.put(Record::new("points", b"k", payload).header("forebay-view", "more")).await;
    assert_eq!(bed.cells("more", b"k").await["i"], Cell::present(9));
    bed.server.kill9();
    bed.restart().await;
    assert_eq!(bed.cells("more", b"k").await["i"], Cell::present(9));
}

#[tokio::test]
async fn a_reload_changes_fields_of_what_is_stored_already() {
    let bed = Bed::new("reload_field").start().await;
    let payload = format!(r#"{{"ts":{},"i":9,"other":"x"}}"#, event_now());
    bed.put(Record::new("points", b"k", payload)).await;
    write(
        &bed,
        &POINTS.replacen(
            "[[view.field]]",
            "[[view.field]]\nname = \"other\"\ntype = \"string\"\n[[view.field]]",
            1,
        ),
    );
    assert!(!reload(&bed, false).await.expect("compatible").is_empty());
    assert_eq!(bed.cells("points", b"k").await["other"], Cell::present("x"));
}

#[tokio::test]
async fn bad_65_an_incompatible_reload_is_refused_as_a_whole() {
    let bed = Bed::new("reload_bad").start().await;
    bed.put(Record::new("points", b"k", format!(r#"{{"ts":{}}}"#, event_now()))).await;
    for (from, to, words) in [
        ("entity = \"customer\"", "entity = \"device\"", &["points", "customer", "device"][..]),
        ("id = 1", "id = 3", &["points", "3"]),
        ("name = \"points\"", "name = \"renamed\"", &["points", "renamed"]),
        ("[[lane.topic]]", "partitioner = \"crc32\"\n[[lane.topic]]", &["partitioner"]),
    ] {
        // A renamed view's services go with it, so that this is the only thing wrong.
        let changed = POINTS
            .replacen(from, to, 1)
            .replace("\"points.", if to.contains("renamed") { "\"renamed." } else { "\"points." });
        write(&bed, &format!("{changed}{MORE}"));
        let status = reload(&bed, false).await.expect_err(to);
        assert_eq!(status.code(), Code::FailedPrecondition, "{to}: {status:?}");
        for word in words {
            assert!(status.message().contains(word), "{word} is not in {:?}", status.message());
        }
        assert_eq!(views(&bed).await, ["points"], "nothing of it is taken up");
    }
    write(&bed, "not = [toml");
    let status = reload(&bed, false).await.expect_err("not TOML");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(bed.get("points", b"k").await.status, Status::Present);
}
