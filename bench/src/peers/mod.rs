//! What Forebay is measured against, on the same data: ceilings that do less than it does, and what is used in its place.

pub mod echo;
pub mod kafka_redis;
pub mod raw_kafka;
pub mod redis;
pub mod redis_reads;
