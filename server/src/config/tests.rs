//! Configuration as people write it, right and wrong. Tests only.

use std::path::Path;

use super::*;

fn parse_with(text: &str, overrides: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let overrides = overrides.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Config::parse("forebay.toml", text, Path::new("/etc/forebay"), overrides)
}

fn errors(text: &str) -> Vec<String> {
    parse_with(text, &[]).expect_err("refused").0
}

#[test]
fn the_sample_means_the_defaults() {
    let sample = parse_with(Config::sample(), &[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(Config { origins: Origins::default(), ..sample.clone() }, parse_with("", &[]).unwrap());
    assert_eq!(sample.server.listen.to_string(), "127.0.0.1:7400");
    assert_eq!(sample.server.http_listen.to_string(), "127.0.0.1:7401");
    assert_eq!(sample.storage.dir, Path::new("/etc/forebay/data"));
    assert_eq!((sample.storage.sync_interval_ms, sample.storage.segment_bytes), (None, 256 << 20));
    assert_eq!((sample.storage.memory_bytes, sample.storage.preload_bytes), (None, 0));
    assert_eq!(parse_with("[storage]\nmemory = \"8GiB\"", &[]).unwrap().storage.memory_limit(), 8 << 30);
    assert_eq!(sample.execute.servers, ["http://127.0.0.1:7400"]);
    assert_eq!((sample.execute.http_listen.port(), sample.execute.max_under_way), (7402, 256));
    assert_eq!((sample.triggers.emit, sample.triggers.transaction_interval_ms), (true, 50));
    assert!(!parse_with("[triggers]\nemit = false", &[]).unwrap().triggers.emit);
    assert!(!parse_with("", &[("FOREBAY_TRIGGERS_EMIT", "false")]).unwrap().triggers.emit);
    assert_eq!((sample.read.max_entities, sample.ingest.batch_wait_ms), (10_000, 5));
    assert_eq!((sample.read.max_queue_ms, sample.read.threads, sample.read.max_in_flight), (500, None, None));
}

#[test]
fn what_the_sample_has_in_comments_is_possible_too() {
    let uncommented = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || rest.contains(" = ") && !rest.contains(": ") => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    let text = Config::sample().lines().map(uncommented).collect::<Vec<_>>().join("\n");
    // [server.tls] ends [server], whose keys all come before it.
    let config = parse_with(&text, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.tls.unwrap().key, Path::new("/etc/forebay/tls/server.key"));
    assert_eq!(config.kafka.consumer["session.timeout.ms"], "45000");
    assert_eq!(config.server.instance, "feature-store-1");
}

#[test]
fn the_environment_is_over_the_file() {
    let overrides = [
        ("FOREBAY_SERVER_LISTEN", "127.0.0.1:0"),
        ("FOREBAY_INGEST_BATCH_MAX", "7"),
        ("FOREBAY_SERVER_INSECURE", "true"),
        ("FOREBAY_SERVER_TLS_CERT", "c.pem"),
        ("FOREBAY_SERVER_TLS_KEY", "/k.pem"),
        ("FOREBAY_KAFKA_SETTINGS_SASL_PASSWORD", "a=b"),
        ("FOREBAY_STORAGE_DIR", "/data"),
        ("FOREBAY_EXECUTE_SERVERS", "http://a:1, https://b:2"),
        ("FOREBAY_SERVER", "http://elsewhere"),
        ("FOREBAY_TEST_POINTS", "1"),
    ];
    let config = parse_with("[server]\nlisten = \"127.0.0.1:1\"\n", &overrides).unwrap();
    assert_eq!((config.server.listen.port(), config.ingest.batch_max, config.server.insecure), (0, 7, true));
    let tls = config.server.tls.unwrap();
    assert_eq!(
        (tls.cert.as_path(), tls.key.as_path()),
        (Path::new("/etc/forebay/c.pem"), Path::new("/k.pem"))
    );
    assert_eq!(config.kafka.settings["sasl.password"], "a=b");
    assert_eq!(config.storage.dir, Path::new("/data"));
    assert_eq!(config.execute.servers, ["http://a:1", "https://b:2"]);
    assert_eq!(
        parse_with("", &[("FOREBAY_STORAGE_DRI", "x")]).unwrap_err().0,
        ["FOREBAY_STORAGE_DRI: [storage] has no key \"dri\"; did you mean \"dir\"?"]
    );
    let wrong = parse_with("", &[("FOREBAY_INGEST_BATCH_MAX", "many")]).unwrap_err().0;
    assert!(wrong[0].starts_with(
        "forebay.toml: [ingest] with FOREBAY_INGEST_BATCH_MAX: batch_max: expected a whole number"
    ));
}

#[test]
fn where_a_key_was_given_is_known() {
    let text = "[read]\nthreads = 2\nmax_in_flight = 5\n[kafka.consumer]\n\"check.crcs\" = true\n";
    let config = parse_with(text, &[("FOREBAY_READ_MAX_IN_FLIGHT", "7")]).unwrap();
    assert_eq!(config.read.max_in_flight, Some(7));
    assert_eq!(config.origins.of("read.threads"), Some(&Origin::File));
    assert_eq!(config.origins.of("kafka.consumer.check.crcs"), Some(&Origin::File));
    let variable = Origin::Environment("FOREBAY_READ_MAX_IN_FLIGHT".into());
    assert_eq!(config.origins.of("read.max_in_flight"), Some(&variable));
    assert_eq!(config.origins.of("read.max_queue"), None);
}

#[test]
fn every_key_of_the_sample_can_be_given_by_the_environment_too() {
    let known: Vec<String> = keys().collect();
    let mut section = String::new();
    for line in Config::sample().lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        }
        let Some((key, _)) = line.split_once(" = ") else { continue };
        if key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !section.starts_with("kafka.") {
            assert!(known.contains(&format!("{section}.{key}")), "{section}.{key}");
        }
    }
}

#[test]
fn bad_60_unknown_keys_are_named_with_the_nearest_known_one() {
    assert_eq!(
        errors("[storage]\nsegmnet = \"1MiB\"\n[strage]\n[kafka]\nserver = 1\n")[..],
        [
            "forebay.toml: [kafka]: unknown key \"server\"",
            "forebay.toml: [storage]: unknown key \"segmnet\"; did you mean \"segment\"?",
            "forebay.toml: unknown key \"strage\"; did you mean \"storage\"?",
        ]
    );
}

#[test]
fn bad_61_wrong_types_and_units_say_what_is_expected() {
    let text = "storage = 5\n[server]\nlisten = 7400\nhttp_listen = \"example.com:80\"\ninsecure = \"maybe\"\n\
                [kafka]\nbootstrap = \"localhost\"\ngroup = \"a b\"\ntopics_check_interval = \"1w\"\n\
                [kafka.consumer]\na.b = 1\n\
                [ingest]\nbatch_max = 0\nbatch_wait = 5\n[read]\nmax_message = \"64MB\"\nmax_entities = 1.5\n\
                [execute]\nservers = [\"a:1\"]\nrequests_topic = \"a b\"\n";
    let found = errors(text);
    for expected in [
        "forebay.toml: storage: expected a table, found 5",
        "forebay.toml: [server]: listen: expected a string in quotes, found 7400",
        "[server]: http_listen: expected an IP address and port such as \"127.0.0.1:7400\" or \"[::1]:7400\", found \"example.com:80\"",
        "[server]: insecure: expected true or false, found \"maybe\"",
        "[kafka]: bootstrap: expected \"host:port\", or several joined by commas, found \"localhost\"",
        "[kafka]: group: expected up to 100 letters",
        "[kafka]: topics_check_interval: expected a duration such as",
        "[kafka.consumer]: a: expected text, found a table: put dotted names in quotes",
        "[ingest]: batch_max: expected a whole number from 1 to 1000000, found 0",
        "[ingest]: batch_wait: expected a duration such as",
        "[read]: max_message: expected a size such as",
        "[read]: max_entities: expected a whole number from 1 to 1000000, found 1.5",
        "[execute]: servers: expected \"http://host:port\" or \"https://host:port\", found \"a:1\"",
        "[execute]: requests_topic: expected a Kafka topic",
    ] {
        assert!(found.iter().any(|error| error.contains(expected)), "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), 14, "{found:#?}");
    assert!(errors("[storage]\nsync_interval = \"0ms\"")[0].ends_with("0s is outside 1ms to 1d"));
    assert!(errors("[storage]\nsegment = \"5GiB\"")[0].ends_with("5GiB is outside 64KiB to 4GiB"));
    assert!(errors("[server")[0].starts_with("forebay.toml: line 1: "));
    assert!(errors("[server.tls]\ncert = \"c\"")[0].contains("[server.tls]: key: missing"));
}

#[test]
fn addresses_others_can_reach_need_tls_or_consent() {
    let open = "[server]\nlisten = \"0.0.0.0:7400\"\n";
    assert!(errors(open)[0].contains(
        "0.0.0.0:7400 can be reached from other machines: add [server.tls], or set server.insecure"
    ));
    assert!(errors("[server]\nhttp_listen = \"[::]:7401\"\n")[0].contains("http_listen"));
    parse_with(&format!("{open}insecure = true"), &[]).unwrap();
    parse_with(&format!("{open}[server.tls]\ncert = \"c\"\nkey = \"k\""), &[]).unwrap();
    parse_with("[server]\nlisten = \"[::1]:1\"\nhttp_listen = \"localhost:2\"", &[]).unwrap();
}

#[test]
fn settings_the_promises_rest_on_are_refused_with_the_reason() {
    let text = "[kafka.settings]\n\"group.id\" = \"x\"\n[kafka.consumer]\n\"enable.auto.commit\" = true\n\
                [kafka.producer]\n\"acks\" = 0\n";
    assert_eq!(
        errors(text)[..],
        [
            "forebay.toml: [kafka.settings]: group.id: this setting is the server's own: it is \"<kafka.group>.<lane>\": set kafka.group instead",
            "forebay.toml: [kafka.consumer]: enable.auto.commit: this setting is the server's own: offsets are committed only for what is synced to disk",
            "forebay.toml: [kafka.producer]: acks: this setting is the server's own: what is acknowledged must survive the loss of a broker",
        ]
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/forebay.toml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/forebay.toml: cannot be read: "));
}
