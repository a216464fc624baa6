//! One binary with all integration tests, a module per capability; `forebay_tests` is the harness they use.

mod bad_grpc;
mod bad_json;
mod bad_kafka;
mod bad_log;
mod bad_setup;
mod bad_wire;
mod broker;
mod cli;
mod client;
mod crash;
mod diagnoses;
mod diagnoses_cli;
mod diagnoses_group;
mod diagnoses_kept;
mod diagnoses_moment;
mod dlq;
mod first_use;
mod group;
mod operation;
mod poison;
mod promises;
mod random;
mod read_your_writes;
mod reload;
mod shared;
mod time;
