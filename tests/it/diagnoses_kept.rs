//! What is kept of diagnoses, for how long and against whom: the same bytes whatever happens to the sources and the
//! server, one winner of a race, and nothing after an erasure.

use anyhow::ensure;
use forebay_tests::v1::{self, Snapshot};
use forebay_tests::{
    Bed, Connection, Record, Server, ServerConfig, Status, event_now, eventually, heavy, run_dir,
};
use futures::future::join_all;
use tonic::Code;

use crate::diagnoses::{Calls, create, definitions, outcome, prediction};

/// A server of another group, with everything of its own but the topics: a replica that begins from nothing.
async fn replica(bed: &Bed, name: &str) -> Server {
    let dir = run_dir().join(format!("{}-{name}", bed.namespace));
    let more = format!("[server]\ninstance = \"{name}\"\n");
    let group = format!("{}-{name}", bed.namespace);
    let server =
        ServerConfig::write(&dir, &bed.kafka.bootstrap, &group, &bed.definitions, &more).start().await;
    server.wait_ready().await;
    server
}

/// A bed's view of another server.
async fn over(bed: &Bed, server: &Server) -> Bed {
    Bed { client: server.connect().await, ..bed.look().await }
}

async fn same(calls: &Calls<'_>, kept: &[Snapshot], when: &str) {
    for snapshot in kept {
        let now =
            calls.snapshot(&snapshot.diagnosis_id).await.unwrap_or_else(|status| panic!("{when}: {status}"));
        assert_eq!(now.document, snapshot.document, "{when}");
        assert_eq!(&now, snapshot, "{when}");
    }
}

#[tokio::test]
async fn p11_a_diagnosis_id_returns_identical_bytes_for_ever() {
    // Within the lateness that is allowed an expired value is still stored, so that a slow machine finds it too.
    let short = definitions().replace("history = \"full\"", "history = \"full\"\nttl = \"1s\"");
    let mut bed = Bed::new("p11").definitions(&short).start().await;
    let entity = bed.entity_on(0);
    let ts = event_now();
    let json = format!("{{ \"ts\":{ts}, \"i\" : 7,\"s\":\"\\ud83d\\ude00\", \"big\":1e400}}");
    bed.put(Record::new("points", &entity, json.clone()).at(ts)).await;
    let mut kept = Vec::new();
    for i in 0..20 {
        kept.push(Calls(&bed).created(create(&format!("p11-{i}"), &entity, Some(ts))).await);
    }
    assert!(kept.iter().all(|snapshot| snapshot.values[0].json == json), "{:?}", kept[0]);
    same(&Calls(&bed), &kept, "at once").await;
    eventually("the source is past its TTL", || async {
        let row = bed.get("points", &entity).await;
        ensure!(row.status == Status::Expired, "{row:?}");
        Ok(())
    })
    .await;
    same(&Calls(&bed), &kept, "after the source's TTL").await;
    bed.server.kill9();
    bed.restart().await;
    same(&Calls(&bed), &kept, "after a kill").await;
    // The sources are gone from Kafka, the server's files are gone too.
    for partition in 0..bed.partitions as i32 {
        let end = bed.kafka.end_offsets(&bed.topic("points")).await[partition as usize];
        bed.kafka.delete_records(&bed.topic("points"), partition, end).await;
    }
    assert_eq!(bed.server.terminate().await, 0);
    std::fs::remove_dir_all(bed.server.config.dir.join("data")).expect("removed");
    bed.restart().await;
    same(&Calls(&bed), &kept, "rebuilt from an empty directory").await;
    let again = Calls(&bed).create(create("p11-3", &entity, Some(ts))).await.expect("the same");
    assert_eq!((again.existed, again.snapshot.as_ref()), (true, Some(&kept[3])), "asked for again");
    let other = replica(&bed, "other").await;
    same(&Calls(&over(&bed, &other).await), &kept, "on a replica").await;
}

#[tokio::test]
async fn of_two_servers_that_race_for_an_id_one_wins_and_both_give_the_same() {
    let _permit = heavy().await;
    let bed = Bed::new("race").definitions(&definitions()).start().await;
    let two = replica(&bed, "two").await;
    let there = over(&bed, &two).await;
    let (here, there, ts) = (Calls(&bed), Calls(&there), event_now());
    let race = async |i: i64| {
        // Every other id is asked for twice with the same content; of the rest, half are of two entities.
        let (id, other) = (format!("race-{i}"), ts - i % 2);
        let entity = if i % 4 == 3 { b"walker" } else { b"runner" };
        let (a, b) = tokio::join!(
            here.create(create(&id, b"runner", Some(ts))),
            there.create(create(&id, entity, Some(other)))
        );
        let existed = |answer: &Result<v1::CreateSnapshotResponse, tonic::Status>| match answer {
            Ok(answer) => Some(answer.existed),
            Err(status) if status.code() == Code::AlreadyExists && i % 2 == 1 => None,
            Err(status) => panic!("{id}: {status}"),
        };
        let outcomes = [existed(&a), existed(&b)];
        assert_eq!(
            outcomes.iter().filter(|outcome| **outcome == Some(false)).count(),
            1,
            "{id}: {outcomes:?}"
        );
        let won = a.iter().chain(&b).filter_map(|answer| answer.snapshot.clone()).next().expect("a winner");
        same_on_both(&here.0.client, &there.0.client, &won).await;
        (won.entity, id)
    };
    let mut won = join_all((0..100).map(race)).await;
    won.sort();
    for calls in [&here, &there] {
        eventually("each is listed once, and only where it was won", || async {
            let mut listed = Vec::new();
            for entity in [b"runner", b"walker"] {
                let ids = calls.ids_of(entity).await;
                listed.extend(ids.into_iter().map(|id| (entity.to_vec().into(), id)));
            }
            listed.sort();
            ensure!(listed == won, "{listed:?}");
            Ok(())
        })
        .await;
    }
}

async fn same_on_both(here: &Connection, there: &Connection, won: &Snapshot) {
    for client in [here, there] {
        eventually("the server has it", || async {
            let request = v1::GetSnapshotRequest { diagnosis_id: won.diagnosis_id.clone(), wait_for: None };
            let got = client.diagnoses.clone().get_snapshot(request).await?.into_inner();
            assert_eq!(&got, won);
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_erased_entity_is_gone_with_its_diagnoses_on_every_replica_and_its_ids_stay_taken() {
    let mut bed = Bed::new("erase").definitions(&definitions()).start().await;
    let (ts, erased, stays) = (event_now(), b"gone".as_slice(), b"stays".as_slice());
    for entity in [erased, stays] {
        let name = String::from_utf8_lossy(entity).into_owned();
        bed.put(Record::new("points", entity, format!("{{\"ts\":{ts},\"i\":1}}"))).await;
        for i in 0..5 {
            let id = format!("{name}-{i}");
            let calls = Calls(&bed);
            calls.created(create(&id, entity, Some(ts - i))).await;
            calls.predict(prediction(&id, "m@1")).await.expect("kept");
            calls.outcome(outcome(&id, "confirmed", Some(ts + 60_000))).await.expect("kept");
        }
    }
    let erase =
        |kind: &str| v1::EraseEntityRequest { entity: erased.to_vec().into(), entity_kind: kind.into() };
    let other = bed.client.diagnoses.clone().erase_entity(erase("device")).await.expect("done").into_inner();
    assert_eq!((other.tombstones, other.diagnoses), (0, 0), "nothing is of this kind");
    let done = bed.client.diagnoses.clone().erase_entity(erase("")).await.expect("done").into_inner();
    assert_eq!((done.tombstones, done.diagnoses), (1 + 3 * 5, 5));
    erased_for(&bed, erased, stays).await;
    let again = bed.client.diagnoses.clone().erase_entity(erase("")).await.expect("done").into_inner();
    assert_eq!(again.diagnoses, 0, "there is nothing left");
    bed.restart().await;
    erased_for(&bed, erased, stays).await;
    let other = replica(&bed, "other").await;
    erased_for(&over(&bed, &other).await, erased, stays).await;
    let new = Calls(&bed).created(create("gone-new", erased, Some(ts - 10))).await;
    assert_eq!(new.values[0].status(), Status::NotFound, "before everything that was erased");
    assert_eq!(Calls(&bed).ids_of(erased).await, ["gone-new"], "life goes on");
}

async fn erased_for(bed: &Bed, erased: &[u8], stays: &[u8]) {
    let calls = Calls(bed);
    assert_eq!(bed.get("points", erased).await.status, Status::Deleted);
    assert_eq!(bed.get("points", stays).await.status, Status::Present);
    assert_eq!(calls.ids_of(erased).await, Vec::<String>::new());
    assert_eq!(calls.ids_of(stays).await.len(), 5);
    for i in 0..5 {
        let (id, other) = (format!("gone-{i}"), format!("stays-{i}"));
        for code in [
            calls.snapshot(&id).await.expect_err("erased").code(),
            calls.diagnosis(&id).await.expect_err("erased").code(),
            calls.outcome(outcome(&id, "late", None)).await.expect_err("erased").code(),
        ] {
            assert_eq!(code, Code::NotFound);
        }
        for refused in [
            calls.create(create(&id, erased, None)).await.expect_err("taken"),
            calls.create(create(&id, b"another", None)).await.expect_err("taken"),
            calls.predict(prediction(&id, "m@1")).await.expect_err("taken"),
        ] {
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        }
        let whole = calls.diagnosis(&other).await.expect("not erased");
        assert!(whole.snapshot.is_some() && whole.prediction.is_some() && whole.outcome.is_some());
    }
    let request = v1::EvaluateRequest { model: "m@1".into(), ..Default::default() };
    let all = calls.evaluate(request).await.expect("those that are left");
    assert!(
        all.len() == 5 && all.iter().all(|diagnosis| diagnosis.diagnosis_id.starts_with("stays")),
        "{all:?}"
    );
}

#[tokio::test]
async fn an_index_entry_that_a_crash_kept_from_being_written_is_written_by_the_retry() {
    let bed = Bed::new("heal").definitions(&definitions()).start().await;
    let (calls, ts) = (Calls(&bed), event_now());
    // As a crash between the two writes leaves it: the snapshot, and no entry of it.
    let lost = calls.created(create("model", b"healed", Some(ts))).await;
    let document = String::from_utf8(lost.document.to_vec()).expect("text").replace("\"model\"", "\"lost\"");
    bed.put(Record::new("snapshots", b"lost", document.clone())).await;
    let kept = eventually("the snapshot is there", || async { Ok(calls.snapshot("lost").await?) }).await;
    assert_eq!(kept.document, document);
    assert_eq!(calls.ids_of(b"healed").await, ["model"]);
    for _ in 0..2 {
        let again = calls.create(create("lost", b"healed", Some(ts))).await.expect("the same");
        assert_eq!((again.existed, again.snapshot), (true, Some(kept.clone())));
        assert_eq!(calls.ids_of(b"healed").await, ["lost", "model"]);
    }
    // Two entries of one diagnosis are listed as one.
    let entry = "{\"diagnosis_id\":\"model\",\"feature_service\":\"some@2\"}";
    let twice = Record::new("diagnoses", b"healed", entry).header("forebay-view", "forebay.by_entity");
    bed.put(twice.header("forebay-event-time", ts.to_string())).await;
    eventually("the second entry is there", || async {
        let mut request = v1::GetHistoryRequest { entity: "healed".into(), ..Default::default() };
        request.view = "forebay.by_entity".into();
        let page = bed.client.store.clone().get_history(request).await?.into_inner();
        let versions = page.versions.map_or(0, |versions| versions.status.len());
        ensure!(versions == 3, "{versions}");
        Ok(())
    })
    .await;
    for limit in [1, 2, 3] {
        let request = v1::ListDiagnosesRequest { entity: "healed".into(), limit, ..Default::default() };
        let mut ids: Vec<_> = calls.list(request).await.into_iter().map(|entry| entry.diagnosis_id).collect();
        ids.sort();
        assert_eq!(ids, ["lost", "model"], "pages of {limit}");
    }
}

/// Prints what it took; nothing here decides by it.
#[tokio::test]
async fn many_snapshots_at_once_are_all_kept() {
    let _permit = heavy().await;
    let bed = Bed::new("many").definitions(&definitions()).start().await;
    let (ts, count, tasks) = (event_now(), 4000, 32);
    let payload = |i: i64| format!("{{\"ts\":{ts},\"i\":{i},\"s\":\"{}\"}}", "x".repeat(500));
    bed.send_all((0..100).map(|i| Record::new("points", format!("m-{i}").as_bytes(), payload(i)))).await;
    bed.settled().await;
    let begun = std::time::Instant::now();
    let work = (0..tasks).map(|task| {
        let client = bed.client.diagnoses.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            for i in (task..count).step_by(tasks) {
                let (begun, entity) = (std::time::Instant::now(), format!("m-{}", i % 100));
                let request = create(&format!("many-{i}"), entity.as_bytes(), Some(ts + i as i64 / 100));
                client.clone().create_snapshot(request).await.expect("created");
                took.push(begun.elapsed());
            }
            took
        })
    });
    let mut took: Vec<_> =
        join_all(work).await.into_iter().flat_map(|took| took.expect("no panic")).collect();
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    took.sort();
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{count} snapshots by {tasks} tasks: {rate:.0}/s, p50 {p50:?}, p99 {p99:?}");
    let mut listed = 0;
    for i in 0..100 {
        listed += Calls(&bed).ids_of(format!("m-{i}").as_bytes()).await.len();
    }
    assert_eq!(listed, count);
}
