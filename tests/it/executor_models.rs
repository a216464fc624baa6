//! Models that misbehave: each harms its own diagnoses only, which say what happened.

use anyhow::ensure;
use forebay_tests::v1::PredictionStatus;
use forebay_tests::{Program, eventually};

use crate::executor::{bed, edge, model, predicted, predictions};

const EDGES: usize = 60;

#[tokio::test]
async fn a_model_that_is_slow_fails_or_answers_nonsense_disturbs_no_other() {
    let good = Program::toy_model(&[]).await;
    let slow = Program::toy_model(&["--delay-ms", "5000"]).await;
    let failing = Program::toy_model(&["--fail-rate", "1"]).await;
    let nonsense = Program::toy_model(&["--nonsense"]).await;
    let other = Program::toy_model(&["--input", "x:BYTES:9"]).await;
    let models = [
        model("good", &good.endpoint(), ""),
        model(
            "slow",
            &slow.endpoint(),
            "timeout = \"2s\"\nattempts = 1\nmax_in_flight = 1\ncircuit = { failures = 0 }",
        ),
        model("failing", &failing.endpoint(), "attempts = 2\ncircuit = { failures = 0 }"),
        model(
            "gone",
            "http://127.0.0.1:9",
            "attempts = 1\nmax_in_flight = 1\ncircuit = { failures = 5, open = \"1h\" }",
        ),
        model("nonsense", &nonsense.endpoint(), ""),
        model("other", &other.endpoint(), ""),
    ];
    let bed = bed("execute_models", &models.concat()).await;
    let env = [("FOREBAY_EXECUTE_MAX_UNDER_WAY", "8")];
    let executor = Program::executor(&bed.server, &env).await;
    let mut edges = Vec::new();
    for i in 0..EDGES {
        edges.push(edge(&bed, &format!("e{i}"), format!("c-{i}").as_bytes(), 12.5).await);
    }
    bed.send_all(edges).await;
    for (name, status, error) in [
        ("good", PredictionStatus::Ok, ""),
        ("failing", PredictionStatus::Failed, "Internal: the toy was told to fail"),
        (
            "nonsense",
            PredictionStatus::Nonsense,
            "output \"score\": expected the elements of shape [1, 1], found 3",
        ),
        (
            "other",
            PredictionStatus::NotAsked,
            "its server does not fit its definition: input \"x\": declared FP64, and its server has BYTES",
        ),
    ] {
        let found = eventually(&format!("{name} has judged every edge"), || async {
            let found = predictions(&bed, &format!("{name}@1")).await?;
            ensure!(found.len() == EDGES, "{}", found.len());
            Ok(found)
        })
        .await;
        for prediction in found.values().flatten() {
            assert_eq!(
                (prediction.status(), prediction.error.as_str()),
                (status, error),
                "{name}: {prediction:?}"
            );
        }
    }
    let slow = predictions(&bed, "slow@1").await.expect("an answer");
    assert!(slow.len() < EDGES, "it takes 2 s for each, one at a time, and nobody waited for that");
    let first = predicted(&bed, "e0.slow@1").await.prediction.expect("a prediction");
    assert_eq!((first.status(), first.error.as_str()), (PredictionStatus::TimedOut, "no answer within 2s"));
    let gone = eventually("the model that is gone is told of for every edge", || async {
        let found = predictions(&bed, "gone@1").await?;
        ensure!(found.len() == EDGES, "{}", found.len());
        Ok(found.into_values().flatten().collect::<Vec<_>>())
    })
    .await;
    let of = |status| gone.iter().filter(|prediction| prediction.status() == status).count();
    assert_eq!((of(PredictionStatus::Failed), of(PredictionStatus::NotAsked)), (5, EDGES - 5));
    let (code, reasons) = executor.http_get("/readyz").await.expect("an answer");
    assert_eq!(code, 503, "{reasons}");
    for reason in ["gone@1: its circuit is open", "other@1: its server does not fit its definition"] {
        assert!(reasons.contains(reason), "{reasons}");
    }
}
