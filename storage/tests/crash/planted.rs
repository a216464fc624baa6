//! Shows that the harness notices bugs: each planted one makes a test of this very program fail, which does not fail
//! without. Only with the feature `planted-bugs`.

use std::process::Command;

/// A planted bug, and the test that must notice it.
const CAUGHT: [(&str, &str); 13] = [
    ("skip_sync", POWER),
    ("skip_sync", FILES),
    ("skip_dir_sync", FILES),
    ("skip_manifest_sync", FILES),
    ("skip_segment_sync", FILES),
    ("drop_frame", KILLS),
    ("publish_first", FAILURES),
    ("sync_again", FAILURES),
    ("trust_cache", FAILURES),
    ("short_footer", FILES),
    ("trust_clock", FILES),
    ("keep_hole", FILES),
    ("skip_verify", FLIPS),
];

const POWER: &str = "power::p01_what_was_published_as_durable_is_there_after_power_loss";
const KILLS: &str = "killed::p02_killed_at_every_syscall_recovers_an_exact_prefix";
const FILES: &str = "killed::p02_the_files_after_every_syscall_and_torn_write_are_an_exact_prefix";
const FLIPS: &str = "flips::p03_every_byte_flipped_one_at_a_time_gives_right_bytes_or_an_error";
const FAILURES: &str =
    "failing::p04_every_syscall_that_fails_makes_the_shard_wait_or_stop_and_nothing_durable_is_lost";

/// Runs one test of this program with a bug planted, as long as it takes to fail; what it printed if it did.
fn caught(plant: &str, test: &str) -> Option<String> {
    let program = std::env::current_exe().expect("this program");
    let run = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env("FOREBAY_PLANT", plant)
        .env("FOREBAY_TEST_LONG", "1")
        .output();
    let run = run.expect("a run");
    let (out, errors) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(out.contains("running 1 test"), "{test} is a test: {out}");
    (!run.status.success()).then(|| errors.into_owned())
}

#[test]
fn every_planted_bug_is_noticed() {
    for (plant, test) in CAUGHT {
        let errors = caught(plant, test).unwrap_or_else(|| panic!("{plant} was not noticed by {test}"));
        let first =
            errors.lines().find(|line| line.contains("seed") || line.contains("byte")).unwrap_or_default();
        println!("{plant}: {}", first.chars().take(300).collect::<String>());
    }
}
