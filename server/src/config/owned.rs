//! librdkafka settings that are the server's own: its promises rest on them. Called for `[kafka.settings]`,
//! `[kafka.consumer]` and `[kafka.producer]`.

/// Setting and why it is not to be set.
const OWNED: [(&str, &str); 17] = [
    ("bootstrap.servers", "set kafka.bootstrap instead"),
    ("metadata.broker.list", "set kafka.bootstrap instead"),
    ("group.id", "it is \"<kafka.group>.<lane>\": set kafka.group instead"),
    ("group.instance.id", "it is \"<thread>.<server.instance>.<lane>\": set server.instance instead"),
    ("group.protocol", "shards are assigned by the classic protocol"),
    ("enable.auto.commit", "offsets are committed only for what is synced to disk"),
    ("enable.auto.offset.store", "offsets are committed only for what is synced to disk"),
    ("auto.commit.interval.ms", "offsets are committed only for what is synced to disk"),
    ("auto.offset.reset", "a position the log no longer has must stop the shard, not move it"),
    ("isolation.level", "records of aborted transactions must not be read"),
    ("enable.partition.eof", "the server finds the end of a log by itself"),
    ("partition.assignment.strategy", "a shard is the same partition of every topic of its lane"),
    ("enable.idempotence", "a retry must not write a data point twice or out of order"),
    ("acks", "what is acknowledged must survive the loss of a broker"),
    ("request.required.acks", "what is acknowledged must survive the loss of a broker"),
    ("transactional.id", "the server does not produce in transactions"),
    ("partitioner", "the server chooses partitions by the lane's partitioner"),
];

/// Why a setting is not the operator's, if it is not.
pub(super) fn reason(setting: &str) -> Option<&'static str> {
    OWNED.iter().find(|(name, _)| *name == setting).map(|(_, reason)| *reason)
}
