//! P1: the power goes. On a real file system whose device stops taking anything at a random moment of a story; and, with
//! the files as any disk might have them, after every system call.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::child::{self, Said};
use super::fate::{Cut, Fate};
use super::judge;
use super::mounted::Mounted;
use super::story::Story;
use super::walk::{Counts, JUDGES, Told};

const PUTS: usize = 150;

/// One power loss: a child tells a story on the device, which dies after the child has said so many things.
fn lose_power(mounted: &Mounted, seed: u64) {
    let story = Story::new(seed, PUTS);
    let dir = mounted.path().join(format!("shard {seed}"));
    std::fs::create_dir(&dir).expect("a directory");
    let mut child = child::command(&[], &dir, seed, PUTS)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let mut chance = SmallRng::seed_from_u64(seed);
    let until = chance.random_range(1..story.steps.len() + story.states.len());
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        said.extend(child::understand(&line));
        if said.len() == until {
            mounted.lose_power();
        }
    }
    if said.len() < until {
        mounted.lose_power();
    }
    child.wait().expect("the child ends");
    mounted.power_comes_back();
    // A sync that is under way while the device dies may be told that all is well. What was said before must be true.
    let until = until.min(said.len());
    let before = Fate::of(&story, said[..until].iter(), Cut::Power);
    let fate = Fate { durable: before.durable, ..Fate::of(&story, said.iter(), Cut::Power) };
    let left = judge::judge_to_the_end(&dir, &story, &fate);
    left.unwrap_or_else(|why| panic!("seed {seed}, power lost after {until} of {}: {why}", said.len()));
    assert!(said.iter().any(|said| matches!(said, Said::Begins(_))), "seed {seed}: it begins");
    std::fs::remove_dir_all(&dir).expect("a removal");
}

#[test]
fn p01_what_was_published_as_durable_is_there_after_power_loss() {
    let (first, losses) = (super::first_seed(), if super::long() { 300 } else { 24 });
    let next = AtomicU64::new(first);
    let worked: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let workers = (0..JUDGES).map(|_| {
            scope.spawn(|| {
                let mounted = Mounted::ext4(16)?;
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + losses {
                        return Ok(());
                    }
                    lose_power(&mounted, seed);
                }
            })
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().expect("as it may be")).collect()
    });
    match worked.into_iter().find_map(Result::err) {
        None => println!("{losses} power losses of an ext4 device from seed {first}"),
        Some(why) => println!("no file system of its own here ({why}): simulated power losses only"),
    }
    // Elsewhere than here, and harder to survive than ext4 makes it.
    let counts = Counts::default();
    (first..first + 2)
        .for_each(|seed| Told::new(seed, PUTS).judge(if super::long() { 20 } else { 3 }, &counts));
    println!("simulated: {counts:?}");
}
