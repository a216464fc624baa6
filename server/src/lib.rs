//! The Forebay server as a library, so that the simulator and the harness can use its parts; `main.rs` is the binary.
