//! One binary with all integration tests, a module per capability; `forebay_tests` is the harness they use.
