//! The crash harness: a child process writes a story to a shard, something goes wrong at a chosen place, and what is left
//! is judged against the model. It trusts nothing of the engine: which files there are and which system calls change
//! them it finds out by watching.
//!
//! ```text
//!  story (seed) ─► child process under strace ─► system calls, and what it acknowledged between them
//!                          │                                    │
//!          killed at the Kth call of a kind      the files after every call: as the page cache had them, and as a disk
//!                          │                     that lost its power might have them
//!                          └────────► judge: exactly a whole number of commits, at least those acknowledged ◄┘
//! ```
//!
//! A program of its own: while a child is made, it has the locks of its parent for a moment, and no test may want those.

#[path = "../shard/model.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod model;
#[path = "../shard/store.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod store;

mod child;
mod failing;
mod fate;
mod files;
mod flips;
mod full;
mod judge;
mod killed;
mod mounted;
#[cfg(feature = "planted-bugs")]
mod planted;
mod power;
mod story;
mod strace;
mod walk;

/// Whether to take the time for many crash points: `FOREBAY_TEST_LONG=1`.
pub fn long() -> bool {
    std::env::var("FOREBAY_TEST_LONG").is_ok_and(|long| long == "1")
}

/// A fixed seed is the same failure again: `FOREBAY_TEST_SEED=N`.
pub fn first_seed() -> u64 {
    std::env::var("FOREBAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}
