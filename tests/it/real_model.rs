//! A model that others made, behind a server that others made: scikit-learn behind MLServer, over the Open Inference
//! Protocol. `ops/setup models` installs it; without it this test says so and is nothing.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use forebay_tests::v1::PredictionStatus;
use forebay_tests::{Program, eventually, run_dir};
use serde_json::Value;
use tonic::transport::Endpoint;

use crate::executor::{assert_same, bed, edge, predicted};

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Trains the model into `dir`; gives what scikit-learn says of some rows.
fn train(python: &Path, dir: &Path) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/train.py");
    let done = Command::new(python).arg(script).arg(dir).output().expect("Python runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

fn serve(environment: &Path, dir: &Path) -> (Program, String) {
    let (http, grpc, metrics) = (free_port(), free_port(), free_port());
    let settings = format!(
        r#"{{"host":"127.0.0.1","http_port":{http},"grpc_port":{grpc},"metrics_port":{metrics},"parallel_workers":0}}"#
    );
    std::fs::write(dir.join("settings.json"), settings).expect("written");
    let mut command = Command::new(environment.join("bin/mlserver"));
    command.arg("start").arg(dir).current_dir(dir);
    (Program::spawn(&mut command), format!("http://127.0.0.1:{grpc}"))
}

#[tokio::test]
async fn a_scikit_learn_model_behind_mlserver_judges_an_edge() {
    let Some(environment) = std::env::var_os("FOREBAY_TEST_MODELS").map(PathBuf::from) else {
        eprintln!("not run: set FOREBAY_TEST_MODELS to what `ops/setup models` says, as ops/test does");
        return;
    };
    let dir = run_dir().join("sklearn");
    let expected = train(&environment.join("bin/python"), &dir);
    let (_server, endpoint) = serve(&environment, &dir);
    eventually("MLServer listens", || async {
        Ok(Endpoint::from_shared(endpoint.clone())?.connect().await.map(drop)?)
    })
    .await;
    let model = format!(
        "[[model]]\nname = \"modem\"\nversion = 1\nendpoint = \"{endpoint}\"\nmodel_name = \"signal\"\n\
         feature_service = \"all@1\"\ntriggers = [\"low\"]\nattempts = 20\ntimeout = \"10s\"\n\
         inputs = [{{ tensor = \"signal\", datatype = \"FP64\", features = [\"points.d\", \"points.i\"] }}]\n\
         outputs = [{{ tensor = \"predict\", name = \"label\", datatype = \"INT64\" }}, \
         {{ tensor = \"predict_proba\", name = \"probability\", datatype = \"FP64\" }}]\n"
    );
    let bed = bed("execute_sklearn", &model).await;
    let _executor = Program::executor(&bed.server, &[]).await;
    // The second feature of every edge is 10: the row with that is the second.
    let record = edge(&bed, "e1", b"c-1", expected["rows"][1][0].as_f64().expect("a number")).await;
    bed.send(record).await;
    let prediction = predicted(&bed, "e1").await.prediction.expect("a prediction");
    assert_eq!((prediction.status(), prediction.error.as_str()), (PredictionStatus::Ok, ""));
    assert_eq!(prediction.model, "modem@1");
    let outputs: Value = serde_json::from_slice(&prediction.outputs_json).expect("JSON");
    assert_eq!(outputs["label"], expected["labels"][1]);
    for class in 0..2 {
        let expected = expected["probabilities"][1][class].as_f64().expect("a number");
        assert_same(&outputs["probability"][class], expected);
    }
}
