//! A producer that costs next to nothing, for load on machines that the load shares with what is measured: record
//! batches that are compressed ahead (`batch`), sent over Kafka's own protocol to the leaders of their partitions
//! (`leaders`). What Kafka stores is what any producer with LZ4 would have sent. Knows no payloads and no schedule. It
//! speaks to plain listeners only, neither TLS nor SASL.

pub mod batch;
pub mod leaders;
