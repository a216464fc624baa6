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
mod dlq;
mod executor;
mod executor_models;
mod first_use;
mod group;
mod operation;
mod poison;
mod promises;
mod random;
mod read_your_writes;
mod real_model;
mod reload;
mod shared;
mod time;
