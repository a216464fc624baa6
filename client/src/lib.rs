//! The Forebay client: finds the server of each entity's shard, keeps a pool of channels to every server, retries what
//! is safe to retry inside the deadline, and gives typed rows. Depends on the contract alone; knows nothing of how the
//! server works.
//!
//! ```no_run
//! use forebay_client::{Client, ClientConfig, DataPoint, Query};
//!
//! # async fn example() -> Result<(), forebay_client::Error> {
//! let client = Client::connect(ClientConfig::new(["http://127.0.0.1:7400"])).await?;
//!
//! // Write, and read what was written.
//! let point = DataPoint { entity: "c-1".into(), view: "modem".into(), json: r#"{"snr":31.5}"#.into(), ..Default::default() };
//! let receipt = client.push(vec![point]).await?;
//! let query = Query::new(["c-1", "c-2"]).view("modem", ["snr"]).typed().read_your_writes(&receipt);
//! let rows = client.get(query).await?;
//! for row in rows.iter() {
//!     match row.f64("modem.snr") {
//!         Some(snr) => println!("{snr} dB"),
//!         None => println!("no value: {:?}", row.status("modem.snr")),
//!     }
//! }
//!
//! // Many requests in flight without a round trip each.
//! let stream = client.stream(64);
//! let (a, b) = tokio::join!(
//!     stream.get(Query::new(["c-1"]).view("modem", ["snr"]).typed()),
//!     stream.get(Query::new(["c-2"]).view("modem", ["snr"]).typed()),
//! );
//! println!("{:?} {:?}", a?.row(0).f64("modem.snr"), b?.row(0).f64("modem.snr"));
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//!  Query ─► client ─► route (topology: view → lane, entity → partition → servers) ─► one part per server
//!                       ▲                                                              │ pool or stream
//!            refresh ───┘                 merge (back into request order) ◄────────────┘ retry elsewhere
//! ```

mod client;
mod config;
mod diagnoses;
mod error;
mod merge;
pub mod partition;
mod pool;
mod query;
mod reads;
mod registry;
mod route;
mod rows;
mod stream;
mod topology;
mod writes;

pub use client::{Client, ServerStatus};
pub use config::{ClientConfig, RetryPolicy, TlsOptions};
pub use diagnoses::Evaluation;
pub use error::Error;
pub use forebay_proto::v1;
pub use forebay_proto::v1::{DataPoint, Format, OffsetVector, Position, Status};
pub use partition::Partitioner;
pub use query::Query;
pub use rows::{Feature, Meta, Row, Rows};
pub use stream::StreamHandle;
pub use writes::PushReceipt;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
