//! REST: the same answers as gRPC's, as JSON that fits its description, and errors that say where they are.

use forebay_tests::{Bed, Cell, Record, event_now, http_with, request, rows, violations};
use serde_json::{Value, json};

use crate::diagnoses::definitions;

const JSON: (&str, &str) = ("content-type", "application/json");

/// One request against a bed; the answer is held to the description of its route, whether it is good or not.
struct Rest<'b> {
    bed: &'b Bed,
    document: Value,
}

impl Rest<'_> {
    async fn new(bed: &Bed) -> Rest<'_> {
        let (code, text) = bed.server.http_get("/v1/openapi.json").await.expect("an answer");
        assert_eq!(code, 200);
        Rest { bed, document: serde_json::from_str(&text).expect("JSON") }
    }

    async fn send(&self, method: &str, route: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (code, text) = http_with(&self.bed.server.http, method, path, &[JSON], &body).await;
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        let operation = &self.document["paths"][route][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {route} is described");
        let response =
            if code == 200 { &operation["responses"]["200"] } else { &operation["responses"]["default"] };
        let schema = &response["content"]["application/json"]["schema"];
        assert_eq!(
            violations(&self.document, schema, &answer),
            Vec::<String>::new(),
            "{method} {path}: {answer}"
        );
        if code == 200 && !body.is_empty() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let asked: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(violations(&self.document, schema, &asked), Vec::<String>::new(), "{path}: {asked}");
        }
        (code, answer)
    }

    async fn ok(&self, method: &str, route: &str, path: &str, body: Value) -> Value {
        let (code, answer) = self.send(method, route, path, &body).await;
        assert_eq!(code, 200, "{method} {path}: {answer}");
        answer
    }

    async fn features(&self, body: Value) -> Value {
        self.ok("POST", "/v1/features", "/v1/features", body).await
    }
}

#[tokio::test]
async fn features_are_those_of_grpc() {
    let bed = Bed::new("rest").start().await;
    let rest = Rest::new(&bed).await;
    let ts = event_now();
    let payload = format!(r#"{{"ts":{ts}, "i":42,"s":"h\u00e9","d":1.50,"inner":{{"deep":[1]}}}}"#);
    bed.put(Record::new("points", b"k", payload.clone())).await;
    let answer = rest.features(json!({"entities": ["k", "none"], "views": ["points"]})).await;
    let row = &answer["entities"][0]["views"]["points"];
    let by_grpc = bed.features(request("points", &[b"k", b"none"])).await;
    let told = &rows(&by_grpc.views[0])[0];
    assert_eq!(row["value"], serde_json::from_str::<Value>(&payload).expect("JSON"));
    let place = told.place.as_ref().expect("a place");
    assert_eq!(
        row["position"],
        json!({"topic": place.topic, "partition": place.partition, "offset": place.offset})
    );
    assert_eq!(row["event_time_ms"], ts);
    assert_eq!(answer["entities"][1]["views"]["points"], json!({"status": "NOT_FOUND"}));
    let typed =
        json!({"entity": "k", "feature_service": "some@2", "format": "typed", "wait_for": answer["read_at"]});
    let row = rest.features(typed).await["entities"][0]["views"]["points"].clone();
    assert_eq!(row["fields"], json!({"s": "h\u{e9}", "i": 42}));
    assert_eq!(bed.cells("points", b"k").await["i"], Cell::present(42));
    let some = json!({"entity": "k", "views": [{"view": "points", "fields": ["b", "n"]}], "format": "typed"});
    let row = rest.features(some).await["entities"][0]["views"]["points"].clone();
    assert_eq!((&row["fields"], &row["field_status"]), (&json!({"b": null, "n": 7}), &json!({"b": "NULL"})));
    let past = json!({"entity": "k", "views": ["points"], "as_of_ms": ts - 1});
    assert_eq!(rest.features(past).await["entities"][0]["views"]["points"]["status"], "NOT_FOUND");
}

#[tokio::test]
async fn data_points_are_written_read_back_and_deleted() {
    let bed = Bed::new("rest_write").start().await;
    let rest = Rest::new(&bed).await;
    let ts = event_now();
    let point = |i: i64| json!({"entity": "base64:AP8=", "view": "points", "value": {"ts": ts + i, "i": i}});
    let pushed = rest
        .ok("POST", "/v1/data-points", "/v1/data-points", json!({"data_points": [point(1), point(2)]}))
        .await;
    assert_eq!(pushed["data_points"].as_array().map(Vec::len), Some(2));
    let read = json!({"entity": "base64:AP8=", "views": ["points"], "wait_for": pushed["positions"]});
    let answer = rest.features(read).await;
    assert_eq!(answer["entities"][0]["entity"], "base64:AP8=");
    assert_eq!(answer["entities"][0]["views"]["points"]["value"]["i"], 2);
    let route = "/v1/entities/{entity}/views/{view}/history";
    let path = "/v1/entities/base64%3AAP8%3D/views/points/history";
    let first = rest.ok("GET", route, &format!("{path}?limit=1&format=typed&fields=i"), Value::Null).await;
    assert_eq!(first["versions"][0]["fields"], json!({"i": 2}));
    let token = first["next_page_token"].as_str().expect("there is more");
    let query = format!("{path}?limit=1&format=typed&fields=i&page_token={token}");
    let second = rest.ok("GET", route, &query, Value::Null).await;
    assert_eq!(second["versions"][0]["fields"], json!({"i": 1}));
    let view = "/v1/entities/{entity}/views/{view}";
    let deleted = rest.ok("DELETE", view, "/v1/entities/base64%3AAP8%3D/views/points", Value::Null).await;
    let read = json!({"entity_base64": "AP8=", "views": ["points"], "wait_for": deleted["positions"]});
    assert_eq!(rest.features(read).await["entities"][0]["views"]["points"]["status"], "DELETED");
    let status = rest.ok("GET", "/v1/status", "/v1/status?lane=main", Value::Null).await;
    assert_eq!(status["lanes"][0]["shards"].as_array().map(Vec::len), Some(2));
    let services = rest
        .ok("GET", "/v1/definitions", "/v1/definitions?kind=feature_service&name=some", Value::Null)
        .await;
    assert_eq!(services["definitions"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_diagnosis_is_kept_and_found() {
    let bed = Bed::new("rest_diagnoses").definitions(&definitions()).start().await;
    let rest = Rest::new(&bed).await;
    let ts = event_now();
    bed.put(Record::new("points", b"k", format!(r#"{{"ts":{ts},"i":7,"s":"x"}}"#))).await;
    let asked = json!({"diagnosis_id": "d-1", "entity": "k", "feature_service": "some@2", "as_of_ms": ts});
    let created = rest.ok("POST", "/v1/snapshots", "/v1/snapshots", asked.clone()).await;
    assert_eq!(created["existed"], false);
    assert_eq!(rest.ok("POST", "/v1/snapshots", "/v1/snapshots", asked).await["existed"], true);
    let snapshot = rest.ok("GET", "/v1/snapshots/{diagnosis}", "/v1/snapshots/d-1", Value::Null).await;
    assert_eq!(snapshot, created["snapshot"]);
    let said = json!({"diagnosis_id": "d-1", "entity": "k", "model": "m@1", "predicted_at_ms": ts, "status": "OK",
        "outputs": {"score": 0.93}, "as_of_ms": ts});
    let recorded = rest.ok("POST", "/v1/predictions", "/v1/predictions", said).await;
    assert_eq!(recorded["existed"], false);
    let outcome =
        json!({"diagnosis_id": "d-1", "label": "confirmed", "detail": {"by": "phone"}, "source": "us"});
    rest.ok("POST", "/v1/outcomes", "/v1/outcomes", outcome).await;
    let all = rest.ok("GET", "/v1/diagnoses/{diagnosis}", "/v1/diagnoses/d-1", Value::Null).await;
    assert_eq!((&all["snapshot"], &all["prediction"]["outputs"]["score"]), (&snapshot, &json!(0.93)));
    let list = "/v1/entities/{entity}/diagnoses";
    let listed = rest.ok("GET", list, "/v1/entities/k/diagnoses?full=true", Value::Null).await;
    assert_eq!(listed["entries"][0]["diagnosis"]["diagnosis_id"], "d-1");
    let none = rest.send("GET", "/v1/snapshots/{diagnosis}", "/v1/snapshots/d-2", &Value::Null).await;
    assert_eq!((none.0, &none.1["code"]), (404, &json!("NOT_FOUND")));
    let erased = rest.ok("POST", "/v1/entities/{entity}/erase", "/v1/entities/k/erase", Value::Null).await;
    assert_eq!(erased["diagnoses"], 1);
}

#[tokio::test]
async fn bad_requests_are_refused_with_code_and_place() {
    let bed = Bed::new("rest_bad").config("[read]\nmax_message = \"4KiB\"\n").start().await;
    let rest = Rest::new(&bed).await;
    let post = async |body: &str, headers: &[(&str, &str)]| {
        let (code, text) = http_with(&bed.server.http, "POST", "/v1/features", headers, body).await;
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{body}: {error}: {text}"));
        (
            code,
            answer["code"].as_str().expect("a code").to_owned(),
            answer["message"].as_str().expect("words").to_owned(),
        )
    };
    for (body, code, words) in [
        ("{\"entity\": 3}", 400, "invalid type: integer `3`, expected a string at line 1 column 12"),
        ("{\"entity\": \"k\", \"vews\": []}", 400, "unknown field `vews`"),
        ("{\"entity\": \"k\",\n\"views\": [", 400, "line 2"),
        ("{\"entity\": \"k\", \"views\": [\"pionts\"]}", 400, "did you mean \"points\"?"),
        ("{\"entity\": \"k\"}", 400, "name a feature_service, or views"),
        ("{\"views\": [\"points\"]}", 400, "entities: none given"),
        ("{\"entity\": \"base64:?\", \"views\": [\"points\"]}", 400, "entity: not base64"),
        ("{\"entity\": \"k\", \"entities\": [\"l\"], \"views\": [\"points\"]}", 400, "not several"),
        (
            "{\"entity\": \"k\", \"views\": [\"points\"], \"reply_topic\": \"t\"}",
            400,
            "only in requests by Kafka",
        ),
        ("\u{0}", 400, "line 1"),
        (&"x".repeat(5000), 413, "at most 4096 bytes"),
    ] {
        let (found, _, message) = post(body, &[JSON]).await;
        assert!(found == code && message.contains(words), "{body}: {found} {message}");
    }
    let good = "{\"entity\": \"k\", \"views\": [\"points\"]}";
    assert_eq!(post(good, &[]).await.0, 415, "a page on the web cannot send JSON without asking");
    assert_eq!(post(good, &[JSON, ("x-timeout-ms", "soon")]).await.0, 400);
    let far = r#"{"entity": "k", "views": ["points"], "wait_for": {"TOPIC": {"0": 1000000}}}"#;
    let far = far.replace("TOPIC", &bed.topic("points"));
    let (code, text) =
        http_with(&bed.server.http, "POST", "/v1/features", &[JSON, ("x-timeout-ms", "300")], &far).await;
    assert!(code == 504 || text.contains("UNAVAILABLE"), "{code} {text}");
    for (method, path, code) in [
        ("GET", "/v1/features", 405),
        ("PUT", "/v1/data-points", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/entities/k/views/points/history?limit=x", 400),
        ("GET", "/v1/entities/k/views/points/history?limt=1", 400),
        ("GET", "/v1/entities/k/views/points/history?page_token=AAAA", 400),
        ("GET", "/v1/entities/%ff/views/points/history", 400),
        ("GET", "/v1/definitions?kind=vew", 400),
    ] {
        let (found, text) = http_with(&bed.server.http, method, path, &[], "").await;
        assert_eq!(found, code, "{method} {path}: {text}");
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        assert_eq!(
            violations(&rest.document, &rest.document["components"]["schemas"]["Error"], &answer),
            Vec::<String>::new()
        );
    }
}
