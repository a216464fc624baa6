//! Which shards answer: states, positions waited for, staleness.

use std::time::Duration;

use super::*;

fn waiting_for(entity: &str, offset: i64) -> GetFeaturesRequest {
    GetFeaturesRequest { wait_for: Some(vector("points", Bed::partition(entity), offset)), ..of(&[entity]) }
}

#[tokio::test]
async fn a_position_already_applied_is_not_waited_for() {
    let mut bed = Bed::new();
    let offset = bed.put("e", NOW, "{}");
    assert_eq!(statuses(&bed.view(waiting_for("e", offset)).await.status), [ValueStatus::Present]);
}

#[tokio::test]
async fn a_read_waits_until_the_position_is_applied() {
    let mut bed = Bed::new();
    let context = bed.context.clone();
    let waiting = tokio::spawn(async move {
        read::features(&context, waiting_for("e", 0), Deadline::after_ms(60_000)).await
    });
    tokio::task::yield_now().await;
    bed.put("e", NOW, r#"{"i":1}"#);
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(statuses(&response.views[0].status), [ValueStatus::Present]);
}

#[tokio::test]
async fn bad_41_a_position_that_does_not_come_is_unavailable_and_the_other_shards_answer() {
    let mut bed = Bed::new();
    let other = (0..).map(|i| format!("e{i}")).find(|e| Bed::partition(e) != Bed::partition("e")).unwrap();
    bed.put("e", NOW, "{}");
    bed.put(&other, NOW, "{}");
    let mut request = waiting_for("e", 1000);
    request.entities.push(other.into());
    let response = read::features(&bed.context, request, Deadline::after_ms(50)).await.unwrap();
    assert_eq!(statuses(&response.views[0].status), [ValueStatus::Unavailable, ValueStatus::Present]);
    let reason = &response.unavailable[0].reason;
    assert!(reason.contains("applied through 0, wait_for names 1000"), "{reason}");
}

#[tokio::test]
async fn bad_41_a_foreign_position_is_refused() {
    let bed = Bed::new();
    let ragged = TopicOffsets { topic: "points".into(), partitions: vec![0, 1], offsets: vec![0] };
    for (wait_for, said) in [
        (vector("pointz", 0, 0), "did you mean \"points\"?"),
        (vector("points", PARTITIONS, 0), "has 4 partitions"),
        (vector("points", 0, -1), "negative offset -1"),
        (OffsetVector { topics: vec![ragged] }, "parallel columns"),
    ] {
        let status =
            bed.read(GetFeaturesRequest { wait_for: Some(wait_for), ..of(&["e"]) }).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(said), "{}", status.message());
    }
}

#[tokio::test]
async fn a_position_of_a_shard_the_request_does_not_read_is_not_waited_for() {
    let mut bed = Bed::new();
    bed.put("e", NOW, "{}");
    let elsewhere = (Bed::partition("e") + 1) % PARTITIONS;
    let request = GetFeaturesRequest { wait_for: Some(vector("points", elsewhere, 1000)), ..of(&["e"]) };
    assert_eq!(statuses(&bed.view(request).await.status), [ValueStatus::Present]);
}

#[tokio::test]
async fn only_a_ready_shard_answers() {
    let mut bed = Bed::new();
    bed.put("e", NOW, "{}");
    for (state, said) in [
        (ShardState::Opening, "OPENING"),
        (ShardState::CatchingUp, "CATCHING_UP"),
        (ShardState::Halted("the log was recreated".into()), "HALTED: the log was recreated"),
        (ShardState::Closed, "CLOSED"),
    ] {
        bed.shard("e").set_state(state);
        let response = bed.read(of(&["e"])).await.unwrap();
        assert_eq!(statuses(&response.views[0].status), [ValueStatus::Unavailable]);
        assert!(response.unavailable[0].reason.contains(said), "{}", response.unavailable[0].reason);
        assert!(response.read_at.unwrap().topics.is_empty());
    }
    bed.main().withdraw(&bed.shard("e"));
    let response = bed.read(of(&["e"])).await.unwrap();
    assert!(response.unavailable[0].reason.contains("not here"));
}

#[tokio::test]
async fn a_waiting_read_follows_a_shard_that_becomes_ready_or_goes() {
    let mut bed = Bed::new();
    bed.put("e", NOW, "{}");
    for (state, expected) in
        [(ShardState::Ready, ValueStatus::Present), (ShardState::Closed, ValueStatus::Unavailable)]
    {
        bed.shard("e").set_state(ShardState::CatchingUp);
        let context = bed.context.clone();
        let waiting = tokio::spawn(async move {
            read::features(&context, waiting_for("e", 0), Deadline::after_ms(60_000)).await
        });
        tokio::task::yield_now().await;
        bed.shard("e").set_state(state);
        let response = waiting.await.unwrap().unwrap();
        assert_eq!(statuses(&response.views[0].status), [expected]);
    }
}

#[tokio::test]
async fn a_shard_behind_its_logs_is_unavailable_to_those_who_say_how_old_is_too_old() {
    let mut bed = Bed::new();
    let offset = bed.put("e", NOW, "{}");
    let shard = bed.shard("e");
    shard.topics[0].end_offset.store(offset + 1, Ordering::Release);
    let strict = || GetFeaturesRequest { max_staleness_ms: Some(1000), ..of(&["e"]) };
    assert_eq!(statuses(&bed.view(strict()).await.status), [ValueStatus::Present]);
    shard.caught_up(0, NOW - 5000);
    shard.topics[0].end_offset.store(offset + 2, Ordering::Release);
    let response = bed.read(strict()).await.unwrap();
    assert_eq!(statuses(&response.views[0].status), [ValueStatus::Unavailable]);
    assert!(response.unavailable[0].reason.contains("5000 ms behind"), "{}", response.unavailable[0].reason);
    assert_eq!(statuses(&bed.view(of(&["e"])).await.status), [ValueStatus::Present]);
}

#[tokio::test]
async fn bad_42_a_deadline_that_has_passed_fails_the_call() {
    let bed = Bed::new();
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("grpc-timeout", "0m".parse().unwrap());
    let status = read::features(&bed.context, of(&["e"]), Deadline::of(&metadata)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_history_of_a_shard_that_cannot_answer_fails() {
    let bed = Bed::new();
    let request = GetHistoryRequest {
        entity: "e".into(),
        view: "points".into(),
        wait_for: Some(vector("points", Bed::partition("e"), 7)),
        ..GetHistoryRequest::default()
    };
    let status = history::history(&bed.context, request.clone(), Deadline::after_ms(20)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("the wait ran out"), "{}", status.message());
    let remote = GetHistoryRequest { view: "remote".into(), wait_for: None, ..request };
    let status = bed.history(remote).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().starts_with("lane away, partition "), "{}", status.message());
}

#[tokio::test]
async fn bad_43_a_cancelled_wait_leaves_nothing_behind() {
    let bed = Bed::new();
    let shard = bed.shard("e");
    let before = Arc::strong_count(&shard);
    let context = bed.context.clone();
    let wait = read::features(&context, waiting_for("e", 5), Deadline::after_ms(60_000));
    assert!(tokio::time::timeout(Duration::from_millis(1), wait).await.is_err());
    assert_eq!(Arc::strong_count(&shard), before);
}
