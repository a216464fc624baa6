//! The registry: running servers take up what is applied, without a restart; what does not fit is refused, or held back
//! where somebody wrote it into the topic by hand; a restart reads everything back.

use anyhow::ensure;
use forebay_tests::v1::{
    ApplyRequest, ApplyResponse, Definition, DefinitionFile, ListDefinitionsRequest, RegistryStatus,
    RemoveRequest,
};
use forebay_tests::{
    Bed, Cell, Connection, POINTS, Record, Server, ServerConfig, event_now, eventually, run, run_dir,
};
use tonic::{Code, Status};

const REGISTRY: &str = "[registry]\ntopic = \"{ns}.registry\"\n";

const MORE: &str = r#"# More of it.
[[view]]
id = 2
name = "more"
lane = "main"
entity = "customer"
topics = ["{ns}.points"]
event_time = { path = "ts" }
field = [{ name = "i", type = "int64" }, { name = "j", type = "int64" }]
"#;

const SERVICE: &str = "[[feature_service]]\nname = \"added\"\nversion = 1\nfeatures = [\"more.i\"]\n";

/// A server whose registry's topic was created as people create it.
async fn start(name: &str) -> Bed {
    let (config, kafka, namespace, definitions) = Bed::new(name).config(REGISTRY).prepare().await;
    create_topics(&config).await;
    let server = config.start().await;
    server.wait_ready().await;
    let client = server.connect().await;
    Bed { kafka, namespace, definitions, server, client, partitions: 2 }
}

async fn create_topics(config: &ServerConfig) {
    let file = config.file();
    let file = file.to_str().expect("UTF-8");
    run(["topics", "create", "--config", file, "--partitions", "2"]).await.ok();
}

/// A full replica of a bed: a consumer group and files of its own, the same registry.
async fn replica(bed: &Bed) -> Server {
    let group = format!("{}-replica", bed.namespace);
    let more = format!("[server]\ninstance = \"two\"\n{}", REGISTRY.replace("{ns}", &bed.namespace));
    let dir = run_dir().join(&group);
    let server =
        ServerConfig::write(&dir, &bed.kafka.bootstrap, &group, &bed.definitions, &more).start().await;
    server.wait_ready().await;
    server
}

async fn apply(bed: &Bed, toml: &str, dry_run: bool) -> Result<ApplyResponse, Status> {
    let toml = toml.replace("{ns}", &bed.namespace);
    let files = vec![DefinitionFile { name: "asked.toml".into(), toml }];
    let request = ApplyRequest { files, dry_run };
    Ok(bed.client.registry.clone().apply(request).await?.into_inner())
}

async fn remove(bed: &Bed, kind: &str, name: &str, version: u32) -> Result<Vec<String>, Status> {
    let request = RemoveRequest { kind: kind.into(), name: name.into(), version, dry_run: false };
    Ok(bed.client.registry.clone().remove(request).await?.into_inner().changes)
}

async fn definitions(client: &Connection) -> Vec<Definition> {
    let all = client.registry.clone().list_definitions(ListDefinitionsRequest::default()).await;
    all.expect("definitions").into_inner().definitions
}

/// `kind/name@version from source` of all that does not come from a file.
async fn of_registry(client: &Connection) -> Vec<String> {
    let all = definitions(client).await.into_iter().filter(|found| found.source == "registry");
    all.map(|found| format!("{}/{}@{}", found.kind, found.name, found.version)).collect()
}

async fn registry_status(client: &Connection) -> RegistryStatus {
    client.status().await.expect("status").registry.expect("a registry")
}

async fn at_offset(client: &Connection, offset: i64) {
    eventually("the registry is read", || async {
        let status = registry_status(client).await;
        ensure!(status.offset >= offset, "{status:?}");
        Ok(())
    })
    .await
}

fn more(i: i64) -> Record {
    let payload = format!(r#"{{"ts":{},"i":{i},"j":{}}}"#, event_now(), i + 1);
    Record::new("points", b"k", payload).header("forebay-view", "more")
}

#[tokio::test]
async fn a_running_server_takes_up_what_is_applied_and_two_agree() {
    let mut bed = start("registry").await;
    let two = replica(&bed).await;
    let there = two.connect().await;
    let applied = apply(&bed, &format!("{SERVICE}{MORE}"), false).await.expect("good");
    assert!(applied.changes.contains(&"view \"more\" is new".to_owned()), "{:?}", applied.changes);
    assert!(applied.diff.contains("+ # More of it.\n+ [[view]]\n"), "{}", applied.diff);
    let first = applied.offset.expect("it was written");
    at_offset(&there, first).await;
    bed.put(more(9)).await;
    assert_eq!(bed.cells("more", b"k").await["i"], Cell::present(9));
    // A new version of the service beside the old, and a view that changes.
    let second = SERVICE.replace("version = 1", "version = 2").replace("more.i", "more.j");
    let wider = MORE
        .replace("[{ name = \"i\"", "[{ name = \"late\", path = \"j\", type = \"double\" }, { name = \"i\"");
    let applied = apply(&bed, &format!("{second}{wider}"), false).await.expect("good");
    assert_eq!(
        applied.changes,
        ["view \"more\": field \"late\" is new", "feature service \"added@2\" is new"]
    );
    assert_eq!(bed.cells("more", b"k").await["late"], Cell::present(10.0));
    let last = applied.offset.expect("it was written");
    assert_eq!(last, first + 2, "one record each");
    at_offset(&there, last).await;
    let here = of_registry(&bed.client).await;
    assert_eq!(here, ["feature_service/added@1", "feature_service/added@2", "view/more@0"]);
    assert_eq!(of_registry(&there).await, here);
    let same = apply(&bed, &second, false).await.expect("nothing to do");
    assert_eq!(
        (same.changes.len(), same.diff.as_str(), same.offset),
        (0, "", None),
        "nothing is written twice"
    );
    // A restart reads it back before a data point is judged.
    bed.server.kill9();
    let place = bed.send(more(11)).await;
    bed.restart().await;
    bed.applied(&[place]).await;
    assert_eq!(bed.cells("more", b"k").await["i"], Cell::present(11));
    assert_eq!(of_registry(&bed.client).await, here);
    assert_eq!(bed.counters("main").await.dead_lettered, 0);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let bed = start("registry_dry").await;
    let shown = apply(&bed, MORE, true).await.expect("good");
    assert_eq!(
        (shown.changes.as_slice(), shown.offset),
        (["view \"more\" is new".to_owned()].as_slice(), None)
    );
    assert_eq!(bed.kafka.end_offsets(&bed.topic("registry")).await, [0]);
    assert_eq!(of_registry(&bed.client).await, Vec::<String>::new());
}

#[tokio::test]
async fn bad_65_an_incompatible_apply_is_refused_with_its_reasons() {
    let bed = start("registry_bad").await;
    let points = POINTS
        .split_once("[[view]]")
        .expect("a view")
        .1
        .split_once("[[feature_service]]")
        .expect("its end")
        .0;
    let points = format!("[[view]]{points}");
    for (toml, code, words) in [
        (
            points.replace("\"customer\"", "\"device\""),
            Code::FailedPrecondition,
            "from \"customer\" to \"device\"",
        ),
        (MORE.replace("id = 2", "id = 1"), Code::InvalidArgument, "id 1 is the id of another view already"),
        (
            MORE.replace("\"main\"", "\"mian\""),
            Code::InvalidArgument,
            "asked.toml: view \"more\": lane: no lane \"mian\"",
        ),
        (
            "[[feature_service]]\nname = \"some\"\nversion = 1\nfeatures = [\"points.s\"]\n".into(),
            Code::FailedPrecondition,
            "make version 2",
        ),
        (SERVICE.into(), Code::InvalidArgument, "no view \"more\" is defined"),
        ("view = 3".into(), Code::InvalidArgument, "[[view]]"),
        ("x = = 3".into(), Code::InvalidArgument, "line 1"),
        (String::new(), Code::InvalidArgument, "no definition"),
    ] {
        let status = apply(&bed, &toml, false).await.expect_err(&toml);
        assert_eq!(status.code(), code, "{toml}: {status:?}");
        assert!(status.message().contains(words), "{words:?} is not in {:?}", status.message());
    }
    assert_eq!(bed.kafka.end_offsets(&bed.topic("registry")).await, [0], "nothing of it was written");
    let without = Bed::new("registry_off").start().await;
    let status = apply(&without, MORE, false).await.expect_err("no registry");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(definitions(&without.client).await.len(), 5, "what is in the files is listed all the same");
}

#[tokio::test]
async fn what_is_written_by_hand_and_does_not_fit_is_held_back() {
    let mut bed = start("registry_hand").await;
    apply(&bed, MORE, false).await.expect("good");
    bed.put(more(9)).await;
    let topic = bed.topic("registry");
    let by_hand = |key: &str, toml: &str| {
        let (kind, name) = key.split_once('/').expect("kind/name");
        let toml = toml.replace("{ns}", &bed.namespace);
        let value = serde_json::json!({"kind": kind, "name": name, "version": 0, "toml": toml});
        Record::new(&topic, key.as_bytes(), value.to_string())
    };
    let broken = Record::new(&topic, b"view/more", "not JSON");
    let typed = by_hand("view/other", &MORE.replace("\"more\"", "\"other\""));
    let good = by_hand("view/good", &MORE.replace("\"more\"", "\"good\"").replace("id = 2", "id = 3"));
    let places = bed.kafka.send_all(&[broken, typed, good]).await;
    at_offset(&bed.client, places[2].offset).await;
    let held = registry_status(&bed.client).await.held_back;
    assert_eq!(held.len(), 2, "{held:?}");
    assert!(held[0].contains("registry: view \"other\": id 2 is the id of another view"), "{held:?}");
    assert!(held[1].contains("view/more") && held[1].contains("not JSON"), "{held:?}");
    assert_eq!(
        of_registry(&bed.client).await,
        ["view/good@0", "view/more@0"],
        "the last good ones stay in force"
    );
    assert_eq!(bed.cells("more", b"k").await["i"], Cell::present(9));
    assert_eq!(bed.server.metric("forebay_registry_held_back").await, Some(2.0));
    bed.server.wait_log("registry: held back").await;
    // Another's change is not in the way of the next, and mends what it mends.
    apply(&bed, SERVICE, false).await.expect("good");
    apply(&bed, MORE, false).await.expect("it is written again");
    assert_eq!(registry_status(&bed.client).await.held_back.len(), 1);
    remove(&bed, "view", "other", 0).await.expect("nobody needs it");
    assert_eq!(registry_status(&bed.client).await.held_back, Vec::<String>::new());
    bed.restart().await;
    assert_eq!(of_registry(&bed.client).await.len(), 3);
}

#[tokio::test]
async fn a_removal_is_a_tombstone_and_refused_while_something_needs_it() {
    let mut bed = start("registry_remove").await;
    apply(&bed, &format!("{MORE}{SERVICE}"), false).await.expect("good");
    let refused = remove(&bed, "view", "more", 0).await.expect_err("the service needs it");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("feature service \"added\""), "{refused:?}");
    let of_file = remove(&bed, "view", "points", 0).await.expect_err("it is in a file");
    assert!(
        of_file.code() == Code::FailedPrecondition && of_file.message().contains("all.toml"),
        "{of_file:?}"
    );
    assert_eq!(remove(&bed, "view", "nothing", 0).await.expect_err("none").code(), Code::NotFound);
    assert_eq!(remove(&bed, "vew", "more", 0).await.expect_err("no kind").code(), Code::InvalidArgument);
    assert_eq!(remove(&bed, "feature_service", "added", 1).await.expect("nobody needs it").len(), 1);
    remove(&bed, "view", "more", 0).await.expect("nobody needs it any more");
    assert_eq!(of_registry(&bed.client).await, Vec::<String>::new());
    let last = bed.kafka.read_topic(&bed.topic("registry")).await.pop().expect("records");
    assert_eq!((last.key.as_deref(), last.value), (Some(b"view/more".as_slice()), None));
    bed.restart().await;
    assert_eq!(of_registry(&bed.client).await, Vec::<String>::new());
    // Its id stays taken, here and after.
    let other = MORE.replace("\"more\"", "\"other\"");
    apply(&bed, &other.replace("id = 2", "id = 4"), false).await.expect("an id of its own");
}

#[tokio::test]
async fn a_server_is_not_ready_before_it_has_read_the_registry() {
    let (config, ..) = Bed::new("registry_late").config(REGISTRY).prepare().await;
    let mut server = config.start().await;
    eventually("it says what it waits for", || async {
        let (code, body) = server.http_get("/readyz").await?;
        ensure!(
            code == 503 && body.contains("does not exist; create it with `forebay topics create`"),
            "{body}"
        );
        Ok(())
    })
    .await;
    assert_eq!(server.http_get("/healthz").await.expect("an answer").0, 200);
    create_topics(&config).await;
    server.wait_ready().await;
    assert_eq!(registry_status(&server.connect().await).await.offset, -1);
    assert_eq!(server.terminate().await, 0);
}

#[tokio::test]
async fn lanes_of_the_registry_take_a_restart() {
    let mut bed = start("registry_lane").await;
    bed.kafka.create_topics(&[&bed.topic("extra")], 2).await;
    let lane = "[[lane]]\nname = \"extra\"\ndead_letter_topic = \"{ns}.dlq\"\n[[lane.topic]]\nname = \"{ns}.extra\"\n";
    let applied = apply(&bed, lane, false).await.expect("good");
    assert!(
        applied.changes[0].starts_with("not before a restart: the lanes change"),
        "{:?}",
        applied.changes
    );
    let held = registry_status(&bed.client).await.held_back;
    assert!(held[0].contains("restart the server"), "{held:?}");
    let applied = apply(&bed, MORE, false).await.expect("it is in nobody's way");
    assert!(applied.changes.contains(&"view \"more\" is new".to_owned()), "{:?}", applied.changes);
    bed.restart().await;
    bed.client.wait_shards("extra", 2).await;
    assert_eq!(registry_status(&bed.client).await.held_back, Vec::<String>::new());
}

#[tokio::test]
async fn the_command_line_applies_describes_and_removes() {
    let bed = start("registry_cli").await;
    let dir = bed.server.config.dir.join("asked");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("more.toml"), MORE.replace("{ns}", &bed.namespace)).expect("written");
    std::fs::write(dir.join("service.toml"), SERVICE).expect("written");
    let (server, dir) = (format!("http://{}", bed.server.grpc), dir.to_str().expect("UTF-8").to_owned());
    let forebay = async |arguments: &[&str]| {
        run(["--server", &server].into_iter().chain(arguments.iter().copied())).await
    };
    let shown = forebay(&["apply", "-f", &dir, "--dry-run"]).await.ok().stdout;
    assert!(shown.contains("+ name = \"more\"") && shown.contains("view \"more\" is new"), "{shown}");
    let unasked = forebay(&["apply", "-f", &dir]).await;
    assert!(unasked.code == 2 && unasked.stderr.contains("--yes"), "{unasked:?}");
    let applied = forebay(&["apply", "-f", &dir, "--yes", "--json"]).await.ok().json();
    assert_eq!(
        (&applied["applied"], &applied["servers"]),
        (&true.into(), &serde_json::json!([])),
        "{applied}"
    );
    let view = forebay(&["describe", "view", "more"]).await.ok().stdout;
    assert!(view.starts_with("# from registry\n# More of it.\n"), "{view}");
    let all = forebay(&["describe"]).await.ok().stdout;
    assert!(all.contains("feature_service") && all.contains("all.toml"), "{all}");
    assert_eq!(forebay(&["describe", "trigger", "none"]).await.code, 2);
    let status = forebay(&["status"]).await.ok().stdout;
    assert!(status.contains(&format!("registry {}: read to offset 1", bed.topic("registry"))), "{status}");
    assert_eq!(forebay(&["registry", "remove", "view", "more"]).await.code, 1);
    let removed = forebay(&["registry", "remove", "feature_service", "added@1", "--json"]).await.ok().json();
    assert_eq!(removed["changes"][0], "feature service \"added@1\" is removed");
}
