//! Shows that the tests notice bugs: each planted one makes a test of this very program fail. Only with the feature
//! `planted-bugs`. `skip_sync` is not among them: what it loses is lost only when the power is.

use std::process::Command;

/// Runs one test of this program with a bug planted; whether it failed.
fn caught(plant: &str, test: &str) -> bool {
    let program = std::env::current_exe().expect("this program");
    let run =
        Command::new(program).args(["--exact", test]).env("FOREBAY_PLANT", plant).output().expect("a run");
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(text.contains("running 1 test"), "{test} is a test: {text}");
    !run.status.success()
}

#[test]
fn every_planted_bug_is_noticed() {
    let random = "random::random_operations_agree_with_the_model";
    assert!(!caught("none", random));
    for plant in ["drop_frame", "reorder", "lose_late", "tombstone_tie", "replay"] {
        assert!(caught(plant, random), "{plant} was not noticed");
    }
    assert!(caught("skip_verify", "promises::p03_every_flipped_byte_gives_right_bytes_or_data_loss"));
}
