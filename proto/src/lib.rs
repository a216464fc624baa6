//! The Forebay contract: messages, clients and servers generated from `proto/forebay/v1/*.proto` and
//! `proto/inference/*.proto`, whose comments are the documentation of every field. This crate has no code of its own
//! and knows nothing of storage or Kafka.

#![allow(missing_docs)]
#![allow(clippy::doc_lazy_continuation, clippy::large_enum_variant)]

/// Version 1 of the contract.
pub mod v1 {
    tonic::include_proto!("forebay.v1");
}

/// The Open Inference Protocol: how a model server is asked.
pub mod inference {
    tonic::include_proto!("inference");
}

/// The compiled `FileDescriptorSet`, for gRPC reflection and for tests that walk every RPC.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
