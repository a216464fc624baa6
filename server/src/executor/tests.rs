//! The executor against a store and models that are played here over real gRPC. Tests only.
