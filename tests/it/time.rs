//! Reads of the past: `GetHistory`, `as_of` and `known_at` agree with the model for random records and random times, late
//! arrivals, ties and tombstones included.

use forebay_tests::{
    Bed, Model, POINTS, Record, Row, Status, compare, event_now, eventually, request, rows, v1,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const ENTITIES: [&[u8]; 3] = [b"ann", b"bob", b"cid"];
const DAY: i64 = 86_400_000;

/// Records of three entities whose event times are drawn from few, so that they tie and come late.
fn records(random: &mut StdRng, now: i64) -> Vec<Record> {
    let times: Vec<i64> = (0..60).map(|_| now - random.random_range(DAY / 2..3 * DAY)).collect();
    let mut stamp = now - DAY;
    let mut record = |i: usize| {
        // Kafka timestamps mostly rise, sometimes fall: ingest time never does.
        stamp += random.random_range(-20_000..200_000);
        let past: Vec<i64> = times.iter().copied().filter(|time| *time < stamp + 60_000).collect();
        let (entity, ts) = (ENTITIES[random.random_range(0..3)], past[random.random_range(0..past.len())]);
        match random.random_range(0..10) {
            0 => Record::tombstone("points", entity).header("forebay-event-time", ts.to_string()).at(stamp),
            _ => Record::new("points", entity, format!(r#"{{"ts":{ts},"i":{i}}}"#)).at(stamp),
        }
    };
    (0..400).map(&mut record).collect()
}

struct Past {
    bed: Bed,
    model: Model,
    random: StdRng,
    seed: u64,
    now: i64,
}

impl Past {
    async fn new(name: &str) -> Past {
        let (seed, now) = (rand::random(), event_now());
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let bed = Bed::new(name).start().await;
        bed.send_all(records(&mut random, now)).await;
        bed.settled().await;
        let model = bed.model().await;
        assert!(model.refused.is_empty(), "{:?}", model.refused);
        Past { bed, model, random, seed, now }
    }

    fn time(&mut self) -> i64 {
        self.now - self.random.random_range(-1000..3 * DAY + 1000)
    }

    fn known(&mut self) -> Option<i64> {
        self.random.random_bool(0.5).then(|| self.now - self.random.random_range(-1000..DAY + 1000))
    }
}

#[tokio::test]
async fn as_of_agrees_with_the_model_at_random_times() {
    let mut past = Past::new("as_of").await;
    for round in 0..300 {
        let (as_of, known) = (past.time(), past.known());
        let asked = v1::GetFeaturesRequest {
            as_of_ms: Some(as_of),
            known_at_ms: known,
            ..request("points", &ENTITIES)
        };
        for (entity, got) in ENTITIES.iter().zip(past.bed.rows(asked).await) {
            let expected = past.model.as_of(entity, "points", as_of, known);
            let expected = expected.and_then(|version| version.row(past.now, 3_600_000));
            let difference = compare(expected, &got);
            assert_eq!(
                difference, None,
                "seed {} round {round}: {entity:?} as of {as_of}, {known:?}",
                past.seed
            );
        }
    }
}

#[tokio::test]
async fn history_agrees_with_the_model_for_random_ranges_and_pages() {
    let mut past = Past::new("history").await;
    for round in 0..200 {
        let entity = ENTITIES[round % 3];
        let known = past.known();
        let (mut from, mut to) = (
            past.random.random_bool(0.7).then(|| past.time()),
            past.random.random_bool(0.7).then(|| past.time()),
        );
        if let (Some(low), Some(high)) = (from, to) {
            (from, to) = (Some(low.min(high)), Some(low.max(high)));
        }
        let asked = v1::GetHistoryRequest {
            entity: entity.to_vec().into(),
            view: "points".into(),
            from_ms: from,
            to_ms: to,
            known_at_ms: known,
            limit: past.random.random_range(0..9),
            ..v1::GetHistoryRequest::default()
        };
        let got = past.bed.history(asked.clone()).await;
        let inside = |time: i64| from.is_none_or(|from| time >= from) && to.is_none_or(|to| time < to);
        let expected: Vec<Row> = past
            .model
            .history(entity, "points", known)
            .into_iter()
            .filter(|version| inside(version.event_time_ms))
            .filter_map(|version| version.row(past.now, 3_600_000))
            .collect();
        assert_eq!(got, expected, "seed {} round {round}: {asked:?}", past.seed);
    }
}

#[tokio::test]
async fn the_same_past_is_read_after_a_restart() {
    let mut past = Past::new("past_restart").await;
    past.bed.restart().await;
    for entity in ENTITIES {
        let asked = v1::GetHistoryRequest {
            entity: entity.to_vec().into(),
            view: "points".into(),
            ..Default::default()
        };
        let expected: Vec<Row> =
            past.model.history(entity, "points", None).iter().filter_map(|v| v.row(past.now, 0)).collect();
        assert_eq!(past.bed.history(asked).await, expected, "seed {}", past.seed);
    }
}

#[tokio::test]
async fn pages_are_bounded_and_bad_tokens_refused() {
    let bed = Bed::new("pages").start().await;
    let ts = event_now();
    bed.send_all((0..150).map(|i| Record::new("points", b"k", format!(r#"{{"ts":{}}}"#, ts - i)))).await;
    bed.settled().await;
    let asked =
        v1::GetHistoryRequest { entity: b"k".to_vec().into(), view: "points".into(), ..Default::default() };
    let page = bed.client.store.clone().get_history(asked.clone()).await.expect("an answer").into_inner();
    assert_eq!(rows(&page.versions.expect("rows")).len(), 100, "the default limit");
    assert!(!page.next_page_token.is_empty() && page.read_at.is_some());
    assert_eq!(bed.history(asked.clone()).await.len(), 150);
    for bad in [
        v1::GetHistoryRequest { page_token: b"nonsense".to_vec().into(), ..asked.clone() },
        v1::GetHistoryRequest { limit: 10_001, ..asked.clone() },
    ] {
        let status = bed.client.store.clone().get_history(bad.clone()).await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{bad:?}: {status:?}");
    }
    let asked = v1::GetHistoryRequest { entity: b"nobody".to_vec().into(), ..asked };
    assert!(bed.history(asked).await.is_empty());
}

#[tokio::test]
async fn p13_a_value_is_present_until_its_expiry_and_not_a_millisecond_longer() {
    let toml = POINTS.replace("[[lane.topic]]", "allowed_lateness = \"2s\"\n[[lane.topic]]");
    let bed = Bed::new("p13").definitions(&toml).start().await;
    let ts = event_now();
    let payload = format!(r#"{{"ts":{ts}}}"#);
    bed.put(Record::new("points", b"k", payload).header("forebay-ttl-ms", "2000")).await;
    let (expiry, gone) = (ts + 2000, ts + 4000);
    // The answer was made at some moment between; only where that leaves a choice either status is right.
    let right = |row: &Row, before: i64, after: i64| match row.status {
        Status::Present => before < expiry,
        Status::Expired => after >= expiry && before < gone && row.expiry_ms == expiry && row.json.is_empty(),
        Status::NotFound => after >= gone,
        _ => false,
    };
    let seen = std::cell::RefCell::new(std::collections::BTreeSet::new());
    eventually("it is forgotten", || async {
        let before = event_now();
        let row = bed.get("points", b"k").await;
        let after = event_now();
        assert!(right(&row, before, after), "{row:?} between {before} and {after}, expiry {expiry}");
        seen.borrow_mut().insert(row.status.as_str_name());
        anyhow::ensure!(row.status == Status::NotFound, "{row:?}");
        Ok(())
    })
    .await;
    let seen = seen.into_inner();
    assert!(seen.contains("EXPIRED") && seen.contains("NOT_FOUND"), "{seen:?}");
}
