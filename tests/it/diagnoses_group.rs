//! Diagnoses in a group whose servers share the shards: the client finds the server of an id, and one that does not have
//! what a call is about says so.

use anyhow::ensure;
use forebay_client::{Client, ClientConfig, Error};
use forebay_tests::v1::{self, ShardState};
use forebay_tests::{Bed, Connection, Record, event_now, eventually};

use crate::diagnoses::{Calls, create, definitions, outcome, prediction};
use crate::group::{second, shared_out};

const PARTITIONS: u32 = 4;

/// Partitions of the lane that a server has READY.
async fn kept_by(client: &Connection) -> anyhow::Result<Vec<u32>> {
    let status = client.status().await?;
    let lane = status.lanes.iter().find(|lane| lane.lane == "diagnoses").expect("the lane");
    let ready = lane.shards.iter().filter(|shard| shard.state() == ShardState::Ready);
    Ok(ready.map(|shard| shard.partition).collect())
}

#[tokio::test]
async fn in_a_group_that_shares_the_shards_the_client_finds_each_diagnosis_and_a_foreign_one_is_named() {
    let bed =
        Bed::new("diagnoses_group").definitions(&definitions()).partitions(PARTITIONS as i32).start().await;
    let mut two = second(&bed).await;
    let there = two.connect().await;
    let (ours, theirs) = shared_out(&bed.client, &there).await;
    eventually("the lane of diagnoses is shared out alike", || async {
        let kept = (kept_by(&bed.client).await?, kept_by(&there).await?);
        ensure!(kept == (ours.clone(), theirs.clone()), "{kept:?} is not {:?}", (&ours, &theirs));
        Ok(())
    })
    .await;
    let servers = [&bed.server.grpc, &two.grpc].map(|address| format!("http://{address}"));
    let client = Client::connect(ClientConfig::new(servers)).await.expect("connects");
    let mut made = Vec::new();
    for partition in 0..PARTITIONS {
        let entity = bed.entity_on(partition);
        bed.send(Record::new("points", &entity, format!("{{\"ts\":{},\"i\":{partition}}}", event_now())))
            .await;
        let id = String::from_utf8(bed.entity_on(partition)).expect("text");
        let kept = client.create_snapshot(create(&id, &entity, None), None).await.expect("created");
        client.record_prediction(prediction(&id, "m@1"), None).await.expect("kept");
        client.record_outcome(outcome(&id, "confirmed", None), None).await.expect("kept");
        made.push((id, entity, kept.snapshot.expect("a snapshot")));
    }
    let foreign = String::from_utf8(bed.entity_on(theirs[0])).expect("text");
    let refused =
        Calls(&bed).create(create(&foreign, &bed.entity_on(ours[0]), None)).await.expect_err("not here");
    let named = format!("lane diagnoses, partition {}", theirs[0]);
    assert!(refused.code() == tonic::Code::Unavailable && refused.message().contains(&named), "{refused:?}");
    all_are_found(&client, &made).await;
    let evaluation = v1::EvaluateRequest { model: "m@1".into(), ..Default::default() };
    let mut evaluation = client.evaluate(evaluation).await.expect("begins");
    let mut evaluated = Vec::new();
    while let Some(diagnosis) = evaluation.next().await.expect("goes on") {
        assert!(diagnosis.snapshot.is_some() && diagnosis.outcome.is_some(), "{diagnosis:?}");
        evaluated.push((diagnosis.prediction.expect("a prediction").predicted_at_ms, diagnosis.diagnosis_id));
    }
    assert!(evaluated.is_sorted_by_key(|(asked_ms, _)| *asked_ms));
    let mut ids: Vec<_> = evaluated.into_iter().map(|(_, id)| id).collect();
    ids.sort();
    let mut wanted: Vec<_> = made.iter().map(|(id, _, _)| id.clone()).collect();
    wanted.sort();
    assert_eq!(ids, wanted, "what both servers have of the model");
    let missing = v1::GetDiagnosisRequest { diagnosis_id: foreign, wait_for: None };
    let missing = client.get_diagnosis(missing, None).await.expect_err("there is none");
    assert!(matches!(missing, Error::NotFound { .. }), "{missing:?}");
    assert_eq!(two.terminate().await, 0);
    bed.client.wait_shards("diagnoses", PARTITIONS as usize).await;
    all_are_found(&client, &made).await;
}

async fn all_are_found(client: &Client, made: &[(String, Vec<u8>, v1::Snapshot)]) {
    for (id, entity, snapshot) in made {
        let request = v1::GetDiagnosisRequest { diagnosis_id: id.clone(), wait_for: None };
        let found =
            eventually("it is found", || async { Ok(client.get_diagnosis(request.clone(), None).await?) });
        let found = found.await;
        assert_eq!(found.snapshot.as_ref(), Some(snapshot));
        assert!(found.prediction.is_some() && found.outcome.is_some());
        let request =
            v1::ListDiagnosesRequest { entity: entity.clone().into(), full: true, ..Default::default() };
        let list = client.list_diagnoses(request, None).await.expect("listed");
        assert_eq!(list.entries[0].diagnosis.as_ref(), Some(&found));
    }
}
