//! The services for callers inside this process: REST and requests by Kafka make the very calls that gRPC makes. A
//! deadline is given as gRPC's clients give it, with `tonic::Request::set_timeout`.

use std::sync::Arc;

use forebay_proto::v1::admin_server::Admin;
use forebay_proto::v1::diagnoses_server::Diagnoses;
use forebay_proto::v1::feature_store_server::FeatureStore;
use forebay_proto::v1::registry_server::Registry;
use tokio::sync::watch;

use super::Context;
use super::admin::AdminService;
use super::diagnoses::DiagnosesService;
use super::registry::RegistryService;
use super::store::FeatureStoreService;

/// Reads and writes. Its streams do not end before they are done: nobody here asks for one.
pub(crate) fn store(context: &Arc<Context>) -> impl FeatureStore {
    let (_, stopping) = watch::channel(false);
    FeatureStoreService { context: context.clone(), stopping }
}

/// Status and definitions.
pub(crate) fn admin(context: &Arc<Context>) -> impl Admin {
    AdminService::new(context.clone())
}

/// The registry.
pub(crate) fn registry(context: &Arc<Context>) -> impl Registry {
    RegistryService::new(context.clone())
}

/// Snapshots, predictions, outcomes.
pub(crate) fn diagnoses(context: &Arc<Context>) -> impl Diagnoses {
    DiagnosesService { context: context.clone() }
}
