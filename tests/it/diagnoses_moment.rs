//! P12: a snapshot is exactly what was known as of its moment, whatever arrived before, after, late or out of order.

use forebay_tests::v1::{self, Snapshot, SnapshotValue};
use forebay_tests::{Bed, Definitions, Model, POINTS, Place, Record, Row, Status, compare, event_now, heavy};
use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::diagnoses::Calls;

const VIEWS: [&str; 2] = ["points", "more"];
const ENTITIES: usize = 6;
const MINUTE: i64 = 60_000;

fn definitions() -> String {
    let more = "[[view]]\nid = 2\nname = \"more\"\nlane = \"main\"\nentity = \"customer\"\ntopics = [\"{ns}.more\"]\n\
        event_time = { path = \"ts\" }\nhistory = \"full\"\nfield = [{ name = \"k\", type = \"int64\" }]\n\
        [[feature_service]]\nname = \"judged\"\nversion = 1\nfeatures = [\"points.i\", \"more.k\", \"points.s\"]\n";
    let points = POINTS
        .replace("name = \"{ns}.points\"", "name = \"{ns}.points\"\n[[lane.topic]]\nname = \"{ns}.more\"");
    format!("[diagnoses]\ntopic_prefix = \"{{ns}}\"\n{points}\n{more}")
}

/// Some writes of the last half hour: their Kafka timestamps rise a little, their event times are anywhere before.
fn writes(random: &mut StdRng, begin: i64, count: i64) -> Vec<Record> {
    let write = |i: i64| {
        let arrival = begin + i * 20 * MINUTE / count;
        let event = arrival - random.random_range(0..10) * MINUTE - random.random_range(0..2000);
        let view = VIEWS[random.random_range(0..VIEWS.len())];
        let entity = format!("entity-{}", random.random_range(0..ENTITIES));
        let json = format!("{{\"ts\":{event},\"i\":{i},\"k\":{i},\"s\":\"{}\"}}", random.random::<u64>());
        let record = match random.random_range(0..10) {
            0 => Record::tombstone(view, entity.as_bytes()).header("forebay-event-time", event.to_string()),
            1..4 => {
                Record::new(view, entity.as_bytes(), json).header("forebay-ttl-ms", (12 * MINUTE).to_string())
            }
            _ => Record::new(view, entity.as_bytes(), json),
        };
        record.at(arrival)
    };
    (0..count).map(write).collect()
}

fn row(value: &SnapshotValue) -> Row {
    let place = value.position.as_ref().map(|position| Place {
        topic: position.topic.clone(),
        partition: position.partition,
        offset: position.offset,
    });
    Row {
        status: value.status(),
        event_time_ms: value.event_time_ms,
        ingest_time_ms: value.ingest_time_ms,
        expiry_ms: value.expiry_ms,
        place,
        json: value.json.to_vec(),
    }
}

/// How a snapshot differs from what the model says was known.
fn differs(model: &Model, lateness_ms: i64, snapshot: &Snapshot) -> Option<String> {
    let (as_of, known_at) = (snapshot.as_of_ms, snapshot.known_at_ms);
    snapshot.values.iter().find_map(|value| {
        let version = model.as_of(&snapshot.entity, &value.view, as_of, known_at);
        let expected = version.and_then(|version| version.row(as_of, lateness_ms)).map(|mut row| {
            if row.status != Status::Present {
                row.json.clear();
            }
            row
        });
        let later = value.event_time_ms > as_of || known_at.is_some_and(|known| value.ingest_time_ms > known);
        let difference = compare(expected, &row(value));
        let of = |what| {
            format!("{what} in {} of {:?} as of {as_of} known at {known_at:?}", value.view, snapshot.entity)
        };
        if later { Some(of("later than its time".into())) } else { difference.map(of) }
    })
}

#[tokio::test]
async fn p12_a_snapshot_holds_nothing_later_than_its_time() {
    let _permit = heavy().await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bed = Bed::new("p12").definitions(&definitions()).start().await;
    let (calls, begin) = (Calls(&bed), event_now() - 25 * MINUTE);
    let lateness_ms = Definitions::parse(&bed.definitions).lateness_ms("points");
    let mut kept: Vec<Snapshot> = Vec::new();
    for round in 0..3 {
        bed.send_all(writes(&mut random, begin + round * MINUTE, 400)).await;
        bed.settled().await;
        let model = bed.model().await;
        let requests: Vec<_> = (0..100)
            .map(|i| v1::CreateSnapshotRequest {
                diagnosis_id: format!("p12-{round}-{i}"),
                entity: format!("entity-{}", random.random_range(0..=ENTITIES)).into(),
                feature_service: "judged@1".into(),
                as_of_ms: Some(begin + random.random_range(-12 * MINUTE..24 * MINUTE)),
                known_at_ms: random
                    .random_bool(0.5)
                    .then(|| begin + random.random_range(-MINUTE..24 * MINUTE)),
                ..Default::default()
            })
            .collect();
        let made = join_all(requests.into_iter().map(|request| calls.created(request))).await;
        let wrong: Vec<_> =
            made.iter().filter_map(|snapshot| differs(&model, lateness_ms, snapshot)).collect();
        assert_eq!(wrong, Vec::<String>::new(), "seed {seed}");
        kept.extend(made);
    }
    // What came since has changed none of them.
    for snapshot in kept {
        assert_eq!(calls.snapshot(&snapshot.diagnosis_id).await.expect("there"), snapshot, "seed {seed}");
    }
}
