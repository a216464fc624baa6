//! The harness of the integration tests: a real broker, real servers in processes of their own, and a model that
//! computes from the topics what a server must answer. Tests in `it/` use it; it knows the contract (protos, record
//! conventions, command line) and shares no code with the server.
//!
//! A test usually needs only a [`Bed`]: topics of its own on the shared broker, and a running server.
//!
//! ```no_run
//! use forebay_tests::{Bed, POINTS, Record, event_now};
//!
//! async fn a_value_is_readable() {
//!     let bed = Bed::new("a_value_is_readable").definitions(POINTS).start().await;
//!     let ts = event_now();
//!     let position = bed.send(Record::new("points", b"e1", format!(r#"{{"ts":{ts}}}"#))).await;
//!     bed.applied(&[position]).await; // waits until the server has applied it
//!     let row = bed.get("points", b"e1").await;
//!     assert_eq!(row.status, forebay_tests::Status::Present);
//! }
//! ```
//!
//! Nothing here waits for time to pass: [`eventually`] waits for a condition and fails with the last reason.

mod bed;
mod broker;
mod check;
mod edges;
mod json;
mod kafka;
mod letters;
mod model;
mod process;
mod programs;
mod raw;
mod record;
mod rows;
mod schema;
mod server;
mod wait;

pub use bed::{Bed, BedBuilder, POINTS, request};
pub use broker::Broker;
pub use check::{differences, halted, passed};
pub use edges::{Edge, ModelTrigger, Told, edges_of, expected_edges};
pub use kafka::Kafka;
pub use model::{Definitions, Key, Model, Version, Why, compare};
pub use process::{Output, build_binary, forebay, run, run_dir, run_with};
pub use programs::Program;
pub use raw::{call, http, http_with, throw};
pub use record::{Consumed, Place, Record};
pub use rows::{Cell, Row, cells, rows};
pub use schema::violations;
pub use server::{Connection, Server, ServerConfig};
pub use wait::{DEADLINE, eventually, eventually_within, heavy};

pub use forebay_proto::v1::{self, Format, Status};

/// The wall clock, ms since the epoch: a plausible event time.
pub fn event_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("clock before 1970").as_millis() as i64
}
