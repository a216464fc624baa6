//! Running it: graceful stops, probes, metrics, addresses it refuses, TLS, environment overrides.

use std::time::{Duration, Instant};

use anyhow::ensure;
use forebay_tests::{Bed, Connection, POINTS, Record, ServerConfig, Status, event_now, eventually, run_dir};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

fn point(key: &[u8]) -> Record {
    Record::new("points", key, format!(r#"{{"ts":{}}}"#, event_now()))
}

#[tokio::test]
async fn a_graceful_stop_commits_and_is_ready_again_in_seconds() {
    let mut bed = Bed::new("graceful").start().await;
    bed.send_all((0..500).map(|i| point(format!("k{i}").as_bytes()))).await;
    bed.settled().await;
    assert_eq!(bed.server.terminate().await, 0, "{}", bed.server.log());
    let topic = bed.topic("points");
    let committed = bed.kafka.committed(&format!("{}.main", bed.namespace), &topic).await;
    assert_eq!(
        committed,
        bed.kafka.end_offsets(&topic).await,
        "everything applied was synced, then committed"
    );
    let started = Instant::now();
    bed.restart().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let counters = bed.counters("main").await;
    assert_eq!(counters.applied + counters.replayed, 0, "nothing is consumed twice: {counters:?}");
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_stop_under_load_ends_in_time_and_loses_nothing() {
    let mut bed = Bed::new("stop_load").start().await;
    for _ in 0..3 {
        bed.send_all((0..5000).map(|i| point(format!("k{}", i % 300).as_bytes()))).await;
        assert_eq!(bed.server.terminate().await, 0);
        bed.restart().await;
    }
    bed.settled().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupt_stops_it_as_a_termination_does() {
    let mut bed = Bed::new("sigint").start().await;
    let pid = rustix::process::Pid::from_raw(bed.server.pid() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is there");
    let bed = std::cell::RefCell::new(&mut bed);
    eventually("it ends", || async {
        ensure!(!bed.borrow_mut().server.alive());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn offsets_are_committed_while_it_runs_and_never_past_what_is_durable() {
    let bed = Bed::new("commits").start().await;
    let topic = bed.topic("points");
    for _ in 0..3 {
        bed.send_all((0..50).map(|i| point(format!("k{i}").as_bytes()))).await;
        let ends = bed.kafka.end_offsets(&topic).await;
        eventually("they are committed", || async {
            let committed = bed.kafka.committed(&format!("{}.main", bed.namespace), &topic).await;
            let status = bed.client.status().await?;
            for shard in &status.lanes[0].shards {
                let durable = shard.topics[0].durable_offset;
                assert!(committed[shard.partition as usize] <= durable + 1, "{committed:?} {shard:?}");
            }
            ensure!(committed == ends, "{committed:?} of {ends:?}");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn probes_say_alive_and_ready() {
    let (config, kafka, namespace, definitions) = Bed::new("probes").prepare().await;
    let server = config.start().await;
    assert_eq!(server.http_get("/healthz").await.expect("it answers").0, 200, "alive at once");
    server.wait_ready().await;
    assert_eq!(server.http_get("/readyz?lane=main").await.expect("it answers").0, 200);
    assert_eq!(server.http_get("/readyz?lane=nope").await.expect("it answers").0, 404);
    let client = server.connect().await;
    let bed = Bed { kafka, namespace, definitions, server, client, partitions: 2 };
    bed.kafka.add_partitions(&bed.topic("points"), 3).await;
    eventually("/readyz says why it is not", || async {
        let (code, body) = bed.server.http_get("/readyz").await?;
        ensure!(code == 503 && body.contains("main") && body.contains("partitions"), "{code} {body}");
        Ok(())
    })
    .await;
    assert_eq!(bed.server.http_get("/healthz").await.expect("it answers").0, 200);
}

#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let bed = Bed::new("metrics").start().await;
    bed.put(point(b"k")).await;
    bed.letter(Record::new("points", b"k", "nope"), "not_json").await;
    bed.get("points", b"k").await;
    let (code, text) = bed.server.http_get("/metrics").await.expect("it answers");
    assert_eq!(code, 200);
    for name in
        ["forebay_applied", "forebay_dead_lettered", "forebay_lag", "forebay_ready", "forebay_request"]
    {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        assert!(value.is_some() || line.is_empty(), "{line}");
    }
    let sample = text.lines().find(|line| line.starts_with("forebay_applied") && line.contains("main"));
    assert!(sample.is_some_and(|line| line.ends_with(" 1")), "{sample:?}");
}

#[tokio::test]
async fn grpc_health_and_reflection_answer() {
    let bed = crate::shared::bed().await;
    let channel = Endpoint::from_shared(format!("http://{}", bed.server.grpc)).expect("a URL");
    let channel = channel.connect().await.expect("connects");
    let healthy =
        forebay_tests::call(&channel, "/grpc.health.v1.Health/Check", Vec::new()).await.expect("an answer");
    assert_eq!(healthy, [8, 1], "HealthCheckResponse {{ status: SERVING }}");
    // ServerReflectionRequest { list_services: "" }
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let services = forebay_tests::call(&channel, path, vec![0x3a, 0]).await.expect("an answer");
    let services = String::from_utf8_lossy(&services).into_owned();
    assert!(
        services.contains("forebay.v1.FeatureStore") && services.contains("forebay.v1.Admin"),
        "{services}"
    );
}

fn config(name: &str, more: &str) -> ServerConfig {
    let dir = run_dir().join(format!("{name}-{:08x}", rand::random::<u32>()));
    ServerConfig::write(&dir, "127.0.0.1:1", "none", &POINTS.replace("{ns}", "none"), more)
}

#[tokio::test]
async fn other_addresses_than_loopback_want_tls_or_a_word() {
    for key in ["listen", "http_listen"] {
        let refused = config("bind", &format!("[server]\n{key} = \"0.0.0.0:0\"\n")).try_start().await;
        let Err((code, said)) = refused else { panic!("it listens on 0.0.0.0 ({key})") };
        assert!(code == 2 && said.contains("0.0.0.0") && said.contains("insecure"), "{code} {said}");
    }
    let insecure = config("bind", "[server]\nlisten = \"0.0.0.0:0\"\ninsecure = true\n");
    let server = insecure.start().await;
    assert!(server.grpc.starts_with("0.0.0.0:"), "{}", server.grpc);
}

/// A certificate for 127.0.0.1 and its key, PEM.
fn certificate() -> (String, String) {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn tls_is_spoken_where_configured() {
    let (cert, key) = certificate();
    let config = config("tls", "");
    let write = |name: &str, text: &str| {
        let path = config.dir.join(name);
        std::fs::write(&path, text).expect("written");
        format!("{:?}", path.to_str().expect("UTF-8"))
    };
    let (cert_file, key_file) = (write("cert.pem", &cert), write("key.pem", &key));
    let (client_cert, client_key) = certificate();
    let ca_file = write("ca.pem", &client_cert);
    let tls = |more: &str| {
        let toml = std::fs::read_to_string(config.file()).expect("readable");
        let toml = toml.split("[server.tls]").next().expect("a beginning").to_owned();
        std::fs::write(
            config.file(),
            format!("{toml}\n[server.tls]\ncert = {cert_file}\nkey = {key_file}\n{more}"),
        )
        .expect("written");
    };
    let client = |url: &str, identity: bool| {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&cert)).domain_name("localhost");
        if identity {
            tls = tls.identity(Identity::from_pem(&client_cert, &client_key));
        }
        let url = url.replace("0.0.0.0", "127.0.0.1");
        Endpoint::from_shared(format!("https://{url}")).expect("a URL").tls_config(tls).expect("TLS")
    };
    tls("");
    let server = config.start().await;
    let channel = client(&server.grpc, false).connect().await.expect("a handshake");
    Connection::over(channel).status().await.expect("an answer over TLS");
    let plain = Endpoint::from_shared(format!("http://{}", server.grpc)).expect("a URL").connect_lazy();
    Connection::over(plain).status().await.expect_err("plaintext to TLS");
    drop(server);
    tls(&format!("client_ca = {ca_file}\n"));
    let server = config.start().await;
    let stranger = client(&server.grpc, false).connect_lazy();
    Connection::over(stranger).status().await.expect_err("a client without certificate");
    let known = client(&server.grpc, true).connect().await.expect("a handshake");
    Connection::over(known).status().await.expect("a client with a certificate");
}

#[tokio::test]
async fn environment_variables_override_the_file() {
    let mut config = config("env", "[server]\nlisten = \"127.0.0.1:1\"\n");
    config.env = vec![
        ("FOREBAY_SERVER_LISTEN".into(), "127.0.0.1:0".into()),
        ("FOREBAY_SERVER_INSTANCE".into(), "from-env".into()),
        ("FOREBAY_KAFKA_TOPICS_CHECK_INTERVAL".into(), "1s".into()),
    ];
    let server = config.start().await;
    assert_eq!(server.connect().await.status().await.expect("status").instance, "from-env");
    config.env = vec![("FOREBAY_SERVER_LISTEN".into(), "nowhere".into())];
    let Err((code, said)) = config.try_start().await else { panic!("it listens nowhere") };
    assert!(code == 2 && said.contains("FOREBAY_SERVER_LISTEN"), "{code} {said}");
}

#[tokio::test]
async fn paths_are_relative_to_the_configuration_file() {
    let config = config("relative", "");
    let toml = std::fs::read_to_string(config.file()).expect("readable");
    let dir = config.dir.to_str().expect("UTF-8");
    std::fs::write(config.file(), toml.replace(&format!("{dir}/"), "")).expect("written");
    let server = config.start().await;
    server.connect().await.status().await.expect("status");
    assert!(config.dir.join("data").exists(), "storage is beside the file");
}

#[tokio::test]
async fn a_shard_is_not_served_before_it_has_caught_up() {
    let mut bed = Bed::new("catch_up").start().await;
    let key = bed.entity_on(0);
    bed.put(point(&key)).await;
    bed.server.terminate().await;
    let mut last = Vec::new();
    for _ in 0..20 {
        last = bed.send_all((0..1000).map(|_| point(&key))).await;
    }
    bed.server.restart().await;
    bed.client = bed.server.connect().await;
    eventually("it serves", || async {
        let row = bed.get("points", &key).await;
        assert!(row.status != Status::Present || row.place.as_ref() == last.last(), "an old value: {row:?}");
        ensure!(row.status == Status::Present, "{row:?}");
        Ok(())
    })
    .await;
}
