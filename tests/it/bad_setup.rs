//! Directories, definitions and configurations a server must refuse, each with words that name the thing.

use std::path::Path;

use forebay_tests::{Bed, POINTS, Record, Status, event_now, eventually, halted, run, run_dir};

fn fresh(name: &str) -> std::path::PathBuf {
    let dir = run_dir().join(format!("{name}-{:08x}", rand::random::<u32>()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Runs `forebay check` on definitions; panics unless it refuses them and says all these words.
async fn check_refuses(definitions: &str, words: &[&str]) {
    let file = fresh("check").join("definitions.toml");
    std::fs::write(&file, definitions.replace("{ns}", "ns")).expect("written");
    let output = run([Path::new("check"), &file]).await;
    assert_eq!(output.code, 2, "{output:?}\nof\n{definitions}");
    for word in words {
        assert!(output.said().contains(word), "{word:?} is not in {}\nof\n{definitions}", output.said());
    }
}

/// [`POINTS`] with the first place of one text replaced.
fn points(from: &str, to: &str) -> String {
    assert!(POINTS.contains(from), "{from}");
    POINTS.replacen(from, to, 1)
}

/// Starts a server with this configuration on top; panics unless it ends with this code and says all these words.
async fn serve_refuses(more: &str, code: i32, words: &[&str]) {
    let definitions = POINTS.replace("{ns}", "bad");
    let dir = fresh("serve");
    let config = forebay_tests::ServerConfig::write(&dir, "127.0.0.1:1", "bad", &definitions, more);
    let Err((ended, said)) = config.try_start().await else { panic!("it started with {more}") };
    assert_eq!(ended, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[tokio::test]
async fn bad_51_empty_directory_is_a_fresh_start() {
    let (config, ..) = Bed::new("bad_51").prepare().await;
    std::fs::create_dir_all(config.dir.join("data/main/0")).expect("a directory");
    let server = config.start().await;
    server.wait_ready().await;
}

#[tokio::test]
async fn bad_52_someone_elses_directory_is_left_alone() {
    let (config, kafka, namespace, definitions) = Bed::new("bad_52").prepare().await;
    let theirs = config.dir.join("data/main/0/photo.jpg");
    std::fs::create_dir_all(theirs.parent().expect("a directory")).expect("a directory");
    std::fs::write(&theirs, "not yours").expect("written");
    let server = config.start().await;
    let client = server.connect().await;
    let bed = Bed { kafka, namespace, definitions, server, client, partitions: 2 };
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains("main/0") && reason.contains("photo.jpg"), "{reason}");
    let key = bed.entity_on(1);
    bed.put(Record::new("points", &key, format!(r#"{{"ts":{}}}"#, event_now()))).await;
    eventually("the other shard serves", || async {
        anyhow::ensure!(bed.get("points", &key).await.status == Status::Present);
        Ok(())
    })
    .await;
    assert_eq!(std::fs::read(&theirs).expect("still there"), b"not yours");
    let there: Vec<_> = std::fs::read_dir(theirs.parent().expect("a directory")).expect("readable").collect();
    assert_eq!(there.len(), 1, "nothing is put beside it: {there:?}");
}

#[tokio::test]
async fn bad_52_a_shard_of_another_partition_is_not_taken_for_ours() {
    let mut bed = Bed::new("bad_52_shard").start().await;
    bed.server.terminate().await;
    let data = bed.server.config.dir.join("data/main");
    std::fs::rename(data.join("0"), data.join("x")).expect("renamed");
    std::fs::rename(data.join("1"), data.join("0")).expect("renamed");
    std::fs::rename(data.join("x"), data.join("1")).expect("renamed");
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    let reason = halted(&bed.client, "main", 0).await;
    assert!(reason.contains("belongs to"), "{reason}");
}

#[tokio::test]
async fn bad_53_two_servers_on_one_directory() {
    let bed = Bed::new("bad_53").start().await;
    let Err((code, said)) = bed.server.config.try_start().await else { panic!("the second started") };
    assert_eq!(code, 1, "{said}");
    let dir = bed.server.config.dir.join("data");
    assert!(said.contains(dir.to_str().expect("UTF-8")), "{said}");
    bed.put(Record::new("points", b"k", format!(r#"{{"ts":{}}}"#, event_now()))).await;
    assert_eq!(bed.get("points", b"k").await.status, Status::Present, "the first is not disturbed");
}

#[tokio::test]
async fn bad_60_unknown_key() {
    check_refuses(&points("history = \"full\"", "histroy = \"full\""), &["histroy", "history"]).await;
    check_refuses(&points("[[view.field]]\nname = \"d\"", "[[view.field]]\nnam = \"d\""), &["nam", "name"])
        .await;
    check_refuses(&points("[[lane]]", "[[lanes]]"), &["lanes", "lane"]).await;
    check_refuses(
        &points("dead_letter_topic", "dead_leter_topic"),
        &["dead_leter_topic", "dead_letter_topic"],
    )
    .await;
    serve_refuses("[server]\nlissten = \"127.0.0.1:0\"\n", 2, &["lissten", "listen"]).await;
    serve_refuses("[sevrer]\nlisten = \"127.0.0.1:0\"\n", 2, &["sevrer"]).await;
}

#[tokio::test]
async fn bad_61_wrong_type_or_unit() {
    let ttl = |ttl: &str| points("history = \"full\"", &format!("history = \"full\"\nttl = {ttl}"));
    check_refuses(&ttl("\"7 fortnights\""), &["ttl", "fortnights"]).await;
    check_refuses(&ttl("604800000"), &["ttl"]).await;
    check_refuses(&points("type = \"double\"", "type = \"dubble\""), &["dubble", "double"]).await;
    check_refuses(&points("history = \"full\"", "history = \"all\""), &["history", "all"]).await;
    check_refuses(&points("default = 7", "default = \"seven\""), &["default", "n"]).await;
    check_refuses(&points("{ path = \"ts\" }", "{ path = \"ts\", unit = \"us\" }"), &["us"]).await;
    check_refuses(&points("{ path = \"ts\" }", "{ path = \"ts\", header = \"h\" }"), &["event_time"]).await;
    check_refuses("not = [toml", &["line 1"]).await;
    serve_refuses("[storage]\nsync_interval = \"50\"\n", 2, &["sync_interval"]).await;
    serve_refuses("[storage]\nsegment = 5\n", 2, &["segment"]).await;
    serve_refuses("[server]\nlisten = \"nowhere\"\n", 2, &["listen", "nowhere"]).await;
    serve_refuses("[ingest]\nbatch_max = \"many\"\n", 2, &["batch_max"]).await;
}

#[tokio::test]
async fn bad_61_every_error_is_named_at_once() {
    let many = points("history = \"full\"", "history = \"all\"\nttl = \"x\"")
        .replace("type = \"bool\"", "type = \"boolean\"")
        .replace("features = [\"points.i\"]", "features = [\"points.nope\"]");
    check_refuses(&many, &["history", "ttl", "boolean", "nope"]).await;
}

#[tokio::test]
async fn bad_62_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    serve_refuses(&format!("[server]\nlisten = \"{address}\"\n"), 1, &[&address]).await;
    serve_refuses(&format!("[server]\nhttp_listen = \"{address}\"\n"), 1, &[&address]).await;
}

#[tokio::test]
async fn bad_63_duplicates() {
    let view = "\n[[view]]\nid = 2\nname = \"points\"\nlane = \"main\"\nentity = \"x\"\ntopics = [\"{ns}.points\"]\n";
    check_refuses(&format!("{POINTS}{view}"), &["points", "already"]).await;
    let same_id = view.replace("id = 2", "id = 1").replace("\"points\"", "\"others\"");
    check_refuses(&format!("{POINTS}{same_id}"), &["id 1", "others"]).await;
    check_refuses(&points("name = \"i\"", "name = \"d\""), &["d", "already"]).await;
    let lane = "\n[[lane]]\nname = \"main\"\n[[lane.topic]]\nname = \"{ns}.more\"\n";
    check_refuses(&format!("{POINTS}{lane}"), &["main", "already"]).await;
    let topic = "\n[[lane]]\nname = \"more\"\n[[lane.topic]]\nname = \"{ns}.points\"\n";
    check_refuses(&format!("{POINTS}{topic}"), &["ns.points"]).await;
    check_refuses(&points("version = 2", "version = 1"), &["some", "1", "already"]).await;
}

#[tokio::test]
async fn bad_64_a_trigger_is_not_known_yet() {
    check_refuses(&format!("{POINTS}\n[[trigger]]\nname = \"red\"\n"), &["trigger"]).await;
}

#[tokio::test]
async fn bad_64_names_that_lead_nowhere() {
    check_refuses(&points("features = [\"points.i\"]", "features = [\"pionts.i\"]"), &["pionts"]).await;
    check_refuses(&points("features = [\"points.i\"]", "features = [\"points.nope\"]"), &["nope"]).await;
    check_refuses(&points("lane = \"main\"", "lane = \"mian\""), &["mian"]).await;
    check_refuses(&points("topics = [\"{ns}.points\"]", "topics = [\"nowhere\"]"), &["nowhere"]).await;
    check_refuses(&points("topics = [\"{ns}.points\"]", "topics = []"), &["topics"]).await;
    check_refuses(&points("id = 1", "id = 0"), &["id"]).await;
}

#[tokio::test]
async fn bad_65_ttl_zero_negative_or_ten_years() {
    let ttl = |ttl: &str| points("history = \"full\"", &format!("history = \"full\"\nttl = \"{ttl}\""));
    for bad in ["0s", "0d", "-1h", "500ms", "3650d", "401d", "99999999999999999999d", ""] {
        check_refuses(&ttl(bad), &["ttl"]).await;
    }
    let less = points("history = \"full\"", "history = \"full\"\nttl = \"7d\"\nmax_ttl = \"1d\"");
    check_refuses(&less, &["max_ttl"]).await;
    let file = fresh("check").join("definitions.toml");
    std::fs::write(&file, ttl("400d").replace("{ns}", "ns")).expect("written");
    run([Path::new("check"), &file]).await.ok();
}

#[tokio::test]
async fn bad_65_a_view_changed_incompatibly_halts_its_lane() {
    let mut bed = Bed::new("bad_65").start().await;
    bed.put(Record::new("points", b"k", format!(r#"{{"ts":{}}}"#, event_now()))).await;
    bed.server.terminate().await;
    let file = bed.server.config.dir.join("definitions/all.toml");
    std::fs::write(&file, bed.definitions.replace("entity = \"customer\"", "entity = \"device\""))
        .expect("written");
    match bed.server.config.try_start().await {
        Ok(server) => {
            let reason = halted(&server.connect().await, "main", 0).await;
            assert!(reason.contains("view 1") && reason.contains("new id"), "{reason}");
        }
        Err((code, said)) => panic!("{code}: the other lanes must go on: {said}"),
    }
}
