//! Disk budgets: what a shard does when its share of the disk is used up, and that thinning and expiry make room again.

use forebay_storage::{DiskBudget, Options, ShardWriter, ThinReport, TopicIndex, WriteError};

use crate::store::{Point, applied, expire, latest, options, temporary};
use crate::thinning::{open_latest, thin, value};

/// Puts new versions of a few keys until the shard refuses; how many were put, the refused one included.
fn fill(writer: &mut ShardWriter, first: i64) -> i64 {
    for at in first..first + 100_000 {
        writer.put(&value(at as u64 * 7 % 50, at).put()).expect("a put");
        match writer.commit() {
            Ok(()) => writer.sync_now().expect("a sync"),
            Err(WriteError::OverBudget { used, hard }) => {
                assert!(used <= hard && used + (64 << 10) > hard, "{used} of {hard}");
                return at;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the budget is never used up");
}

#[test]
fn p05_a_used_up_disk_budget_keeps_the_batch_and_thinning_makes_room() {
    let dir = temporary();
    let budget = DiskBudget::new(8 * (64 << 10), 10 * (64 << 10));
    let options = Options { disk: Some(budget.clone()), ..options() };
    let (mut writer, reader) = open_latest(dir.path(), &options);
    let mut next = 0;
    for _ in 0..5 {
        let refused = fill(&mut writer, next);
        assert_eq!((applied(&reader, 0), writer.position(TopicIndex(0))), (Some(refused - 1), Some(refused)));
        assert!(matches!(writer.commit(), Err(WriteError::OverBudget { .. })), "until there is room");
        assert!(latest(&reader, b"key 7", 1).expect("reads go on").is_some());
        thin(&mut writer, refused);
        while budget.used() > budget.hard() - (64 << 10) {
            std::thread::yield_now();
        }
        writer.commit().expect("room again");
        assert_eq!(applied(&reader, 0), Some(refused));
        next = refused + 1;
    }
    assert_eq!(reader.stats().disk_bytes, budget.used());
    drop(writer);
    assert_eq!(budget.used(), 0, "a closed shard does not count");
    let (_writer, reader) = open_latest(dir.path(), &options);
    assert_eq!(applied(&reader, 0), Some(next - 1));
    assert_eq!(reader.stats().disk_bytes, budget.used());
}

#[test]
fn p05_a_used_up_disk_budget_without_anything_dead_waits_for_expiry() {
    let dir = temporary();
    let budget = DiskBudget::new(3 * (64 << 10), 4 * (64 << 10));
    let options = Options { disk: Some(budget.clone()), ..options() };
    let (mut writer, reader) = open_latest(dir.path(), &options);
    let mut at = 0;
    let refused = loop {
        let value = Point { offset: at, ..value(at as u64, at * 10_000) };
        writer.put(&value.put()).expect("a put");
        match writer.commit() {
            Ok(()) => writer.sync_now().expect("a sync"),
            Err(error) => break error,
        }
        at += 1;
    };
    assert!(matches!(refused, WriteError::OverBudget { .. }));
    // What lives is not copied around for nothing.
    assert_eq!(thin(&mut writer, 0), ThinReport::default());
    assert!(matches!(writer.commit(), Err(WriteError::OverBudget { .. })));
    assert!(expire(&mut writer, i64::MAX).segments > 0);
    while budget.used() + (64 << 10) > budget.hard() {
        std::thread::yield_now();
    }
    writer.commit().expect("room again");
    assert_eq!(applied(&reader, 0), Some(at));
}
