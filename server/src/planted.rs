//! `forebay-planted`: the same program built with the bugs of the feature `planted-bugs`, under a name of its own so that
//! it never takes the place of the real one. Used by the crash tests to show that they can fail.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    forebay_server::cli::main()
}
