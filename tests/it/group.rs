//! Several servers of one consumer group: each holds a part of every lane's shards, says where the others are not, and
//! gives its part back when it stops.

use anyhow::ensure;
use forebay_tests::v1::{self, ShardState};
use forebay_tests::{
    Bed, Connection, POINTS, Record, Server, ServerConfig, Status, event_now, eventually, passed, request,
    rows,
};

const PARTITIONS: i32 = 4;

/// A second server of a bed's group, with files of its own.
pub async fn second(bed: &Bed) -> Server {
    let dir = forebay_tests::run_dir().join(format!("{}-two", bed.namespace));
    let more = "[server]\ninstance = \"two\"\n";
    ServerConfig::write(&dir, &bed.kafka.bootstrap, &bed.namespace, &bed.definitions, more).start().await
}

/// Partitions a server has READY.
async fn ready(client: &Connection) -> anyhow::Result<Vec<u32>> {
    let status = client.status().await?;
    let shards = status.lanes[0].shards.iter();
    Ok(shards.filter(|shard| shard.state() == ShardState::Ready).map(|shard| shard.partition).collect())
}

/// Waits until both have two shards READY, and says which.
pub async fn shared_out(one: &Connection, two: &Connection) -> (Vec<u32>, Vec<u32>) {
    eventually("both have half", || async {
        let (a, b) = (ready(one).await?, ready(two).await?);
        ensure!(a.len() == 2 && b.len() == 2 && a.iter().all(|p| !b.contains(p)), "{a:?} {b:?}");
        Ok((a, b))
    })
    .await
}

fn point(key: &[u8]) -> Record {
    Record::new("points", key, format!(r#"{{"ts":{}}}"#, event_now()))
}

#[tokio::test]
async fn a_second_server_takes_half_of_the_shards_and_gives_them_back() {
    let bed = Bed::new("group").partitions(PARTITIONS).start().await;
    let keys: Vec<Vec<u8>> = (0..PARTITIONS as u32).map(|partition| bed.entity_on(partition)).collect();
    for key in &keys {
        bed.put(point(key)).await;
    }
    let mut two = second(&bed).await;
    let there = two.connect().await;
    let (_, theirs) = shared_out(&bed.client, &there).await;
    // Written while the second has them: nothing of it may be lost when they come back.
    let places = bed.send_all(keys.iter().map(|key| point(key))).await;
    let on = |partitions: &[u32]| -> v1::OffsetVector {
        places.iter().filter(|place| partitions.contains(&place.partition)).cloned().collect()
    };
    let wanted = on(&theirs);
    eventually("the second applies", || passed(&there, &wanted)).await;
    for partition in &theirs {
        let asked = request("points", &[&keys[*partition as usize]]);
        let answer = there.store.clone().get_features(asked).await.expect("an answer").into_inner();
        assert_eq!(
            rows(&answer.views[0])[0].place.as_ref(),
            places.iter().find(|p| p.partition == *partition)
        );
    }
    assert_eq!(two.terminate().await, 0);
    bed.client.wait_shards("main", PARTITIONS as usize).await;
    bed.settled().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn bad_32_a_rebalance_mid_batch_loses_nothing() {
    let bed = Bed::new("rebalance").partitions(PARTITIONS).start().await;
    let keys: Vec<Vec<u8>> = (0..200).map(|i| format!("k{i}").into_bytes()).collect();
    let mut two = second(&bed).await;
    let there = two.connect().await;
    for round in 0..6 {
        bed.send_all(keys.iter().cycle().take(3000).map(|key| point(key))).await;
        match round {
            1 => drop(shared_out(&bed.client, &there).await),
            3 => two.kill9(),
            4 => two.restart().await,
            _ => {}
        }
    }
    let there = two.connect().await;
    shared_out(&bed.client, &there).await;
    assert_eq!(two.terminate().await, 0);
    bed.client.wait_shards("main", PARTITIONS as usize).await;
    bed.settled().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}

#[tokio::test]
async fn bad_50_a_server_that_does_not_hold_a_shard_says_so() {
    let bed = Bed::new("bad_50").partitions(PARTITIONS).start().await;
    let keys: Vec<Vec<u8>> = (0..PARTITIONS as u32).map(|partition| bed.entity_on(partition)).collect();
    for key in &keys {
        bed.put(point(key)).await;
    }
    let two = second(&bed).await;
    let there = two.connect().await;
    let (ours, theirs) = shared_out(&bed.client, &there).await;
    let names: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let answer = eventually("its own shards serve", || async {
        let answer = there.store.clone().get_features(request("points", &names)).await?.into_inner();
        let status = |partition: &u32| answer.views[0].status[*partition as usize];
        ensure!(theirs.iter().all(|partition| status(partition) == Status::Present as i32), "{answer:?}");
        Ok(answer)
    });
    let answer = answer.await;
    for partition in &ours {
        assert_eq!(answer.views[0].status[*partition as usize], Status::Unavailable as i32);
        let why = answer.unavailable.iter().find(|shard| shard.partition == *partition).expect("says why");
        assert!(why.lane == "main" && why.reason.contains("not on this server"), "{why:?}");
    }
    assert_eq!(answer.unavailable.len(), ours.len(), "each once");
    let asked = v1::GetHistoryRequest {
        entity: keys[ours[0] as usize].clone().into(),
        view: "points".into(),
        ..Default::default()
    };
    let status = there.store.clone().get_history(asked).await.expect_err("not here");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn a_lane_may_have_several_threads() {
    let toml = POINTS.replace("[[lane.topic]]", "threads = 2\n[[lane.topic]]");
    let mut bed = Bed::new("threads").definitions(&toml).partitions(PARTITIONS).start().await;
    bed.client.wait_shards("main", PARTITIONS as usize).await;
    let keys: Vec<Vec<u8>> = (0..200).map(|i| format!("k{i}").into_bytes()).collect();
    bed.send_all(keys.iter().map(|key| point(key))).await;
    bed.settled().await;
    bed.restart().await;
    assert_eq!(bed.differences(&bed.model().await).await, Vec::<String>::new());
}
