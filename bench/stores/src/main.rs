//! The peers of the `engine` scenario that are stores: RocksDB and fjall. Started by `forebay-bench engine`, once per
//! step: `forebay-bench-peers NAME PLAN`. Knows nothing of Forebay's crates.

mod peers;

use anyhow::{Context, bail};
use forebay_bench_stores::{Plan, work};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("which peer?")?;
    let plan = Plan::parse(&arguments.next().context("which plan?")?)?;
    match name.as_str() {
        "rocksdb" => work::run::<peers::rocks::Rocks>(&plan),
        "fjall" => work::run::<peers::fjall_store::Fjall>(&plan),
        other => bail!("no peer {other}"),
    }
}
