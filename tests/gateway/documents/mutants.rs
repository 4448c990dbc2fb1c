//! Damaged documents by the thousand, read without a jail: no parser may panic or hang.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dayfly::process::unjailed;

use super::mutate::{Dice, mutant};
use super::{corpus, mutants, sample};
use crate::harness::tell;

/// One mutant's time, built without optimisation on a machine that does other things too.
const LONGEST: Duration = Duration::from_secs(20);

/// Larger documents of the corpus are slow to mutate and add nothing.
const SEED_MAX: usize = 150_000;

/// As much as a worker has.
const STACK: usize = 64 << 20;

/// Small samples, and the corpus' documents of the same extension.
fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let real = corpus();
    let of = |kind: &str| {
        let same = |name: &str| Path::new(name).extension().is_some_and(|found| found == kind);
        let same = real.iter().filter(move |(name, bytes)| same(name) && bytes.len() < SEED_MAX);
        same.map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
    };
    sample::all().into_iter().map(|(kind, own)| (kind, [vec![own], of(kind)].concat())).collect()
}

/// Reads a mutant as text and by its type; false if a parser panicked.
fn survives(bytes: &[u8], markdown: bool) -> bool {
    let format = if markdown { "markdown" } else { "plain" };
    let read = AssertUnwindSafe(|| {
        drop(unjailed("text", &[("format", format)], bytes));
        drop(unjailed("detect", &[], bytes));
    });
    catch_unwind(read).is_ok()
}

#[test]
fn damaged_documents_of_every_format_end_without_a_panic() {
    for (kind, seeds) in seeds() {
        let (to_parser, mutants_in) = mpsc::sync_channel::<(u64, Vec<u8>)>(0);
        let (done, results) = mpsc::channel();
        let parser = std::thread::Builder::new().stack_size(STACK).spawn(move || {
            for (number, bytes) in mutants_in {
                let survived = survives(&bytes, number % 2 == 0);
                if done.send(survived).is_err() {
                    break;
                }
            }
        });
        let parser = parser.unwrap();
        let mut slowest = Duration::ZERO;
        for number in 0..mutants() {
            let mut dice = Dice::new(number);
            let bytes = mutant(&seeds[dice.below(seeds.len())], &mut dice);
            let began = Instant::now();
            to_parser.send((number, bytes)).unwrap();
            let survived = results.recv_timeout(LONGEST);
            let survived = survived.unwrap_or_else(|_| panic!("{kind} {number} hangs"));
            assert!(survived, "{kind} {number} panics");
            slowest = slowest.max(began.elapsed());
        }
        drop(to_parser);
        parser.join().unwrap();
        tell(&format!("{} mutants of {kind}, the slowest took {slowest:?}", mutants()));
    }
}
