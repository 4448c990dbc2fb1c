//! Many lives on a virtual clock: each lasts to its second, whatever the clocks do.

use super::*;
use crate::entropy::{SeededEntropy, random};
use crate::file::FileId;
use crate::table::{Origin, Segment};

/// A file, and what somebody would have who got past every check of the table.
struct Life {
    id: FileId,
    end: Wall,
    origin: Origin,
    segments: Vec<Segment>,
}

fn life(file: &Arc<LiveFile>) -> Life {
    let (origin, segments) = (file.origin.clone(), file.segments.clone());
    Life { id: file.id, end: file.expires_at(), origin, segments }
}

/// Its first bytes; never the sweeper's turn, because nothing in here waits.
fn opens(house: &House, life: &Life) -> bool {
    let mut body = house.vault.open(&life.origin, &life.segments, 0..10);
    let piece = body.next().now_or_never().expect("memory does not wait").unwrap();
    piece.is_ok_and(|bytes| bytes == vec![7; 10])
}

/// Lets every task run until all of them wait.
async fn everybody() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// A house in which the real sweeper runs.
fn swept_house() -> House {
    let house = house();
    house.pipeline.tasks.spawn(Arc::new(house.pipeline.clone()).sweep_forever());
    house
}

/// Walks to `until` in steps no longer than the sweeper's nap. A moment before each end the file
/// opens; at its end, before the sweeper had its turn, it does not.
async fn walk(house: &House, ends: &mut Vec<Life>, until: Wall) -> Vec<Life> {
    let (moment, nap) = (Duration::from_millis(1), Duration::from_millis(997));
    let mut over = Vec::new();
    loop {
        let now = house.clock.now().wall;
        while let Some(life) = ends.pop_if(|life| life.end <= now) {
            assert!(!opens(house, &life), "it opens at its end");
            over.push(life);
        }
        everybody().await;
        if now == until {
            return over;
        }
        let mut step = nap.min(now.until(until));
        if let Some(life) = ends.last() {
            let left = now.until(life.end);
            if left == moment {
                for life in ends.iter().rev().take_while(|other| other.end == life.end) {
                    assert!(house.pipeline.find(life.id, tenant()).is_some(), "a moment early");
                    assert!(opens(house, life), "a moment early");
                }
            }
            step = step.min(if left > moment { left - moment } else { left });
        }
        house.clock.advance(step);
    }
}

/// Files of every length of life, a few milliseconds apart; how late each was destroyed.
async fn lags(count: usize, seed: u64) -> Vec<Duration> {
    let (house, dice) = (swept_house(), SeededEntropy::new(seed));
    let draw = |below: u64| u64::from_be_bytes(random(&dice).unwrap()) % below;
    let (mut ends, mut over) = (Vec::new(), Vec::new());
    for at in 0..count {
        let longest = [300, 4500, 23 * 3600][at % 3];
        let file = house.put(1 + draw(longest), None, bytes(10)).await.unwrap();
        ends.push(life(&file));
        drop(file);
        ends.sort_unstable_by_key(|life| std::cmp::Reverse(life.end));
        let next = house.clock.now().wall.plus(Duration::from_millis(draw(20)));
        over.extend(walk(&house, &mut ends, next).await);
    }
    let last = house.clock.now().wall.plus(Duration::from_hours(24));
    over.extend(walk(&house, &mut ends, last).await);
    assert_eq!(over.len(), count);
    let mut lags = Vec::with_capacity(count);
    for life in over {
        let proof = house.pipeline.receipt(life.id, tenant()).unwrap().destroyed.unwrap();
        assert_eq!(proof.reason(), Reason::Expired);
        assert!(proof.at() >= life.end);
        lags.push(life.end.until(proof.at()));
    }
    house.is_empty().await;
    lags
}

#[tokio::test]
async fn ten_thousand_lives_last_to_their_end_and_none_is_longer() {
    let (all, mut lags_of_all) = (10_000, Vec::new());
    while lags_of_all.len() < all {
        // As many at once as the locked pages hold, which other tests use as well.
        let slots = house().slots;
        let count = (slots * 3 / 4).min(all - lags_of_all.len());
        lags_of_all.extend(lags(count, lags_of_all.len() as u64).await);
    }
    lags_of_all.sort_unstable();
    let p99 = lags_of_all[all * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
}

/// Two lives of each length, started now.
async fn lives(house: &House) -> Vec<(Life, crate::clock::Boot)> {
    let mut lives = Vec::new();
    for ttl in [1, 60, 299, 300, 3599, 3600, 4500, 4501, 7200, 36_000, 84_600] {
        for _ in 0..2 {
            let file = house.put(ttl, None, bytes(10)).await.unwrap();
            let boot = house.clock.now().boot.plus(Duration::from_secs(ttl));
            lives.push((life(&file), boot));
        }
    }
    lives
}

/// Nothing that is over opens, or is found, or has keys once the sweeper has had its turn.
async fn hold_to_both_clocks(house: &House, lives: &[(Life, crate::clock::Boot)]) {
    let now = house.clock.now();
    let over = |life: &Life, boot| now.wall >= life.end || now.boot >= boot;
    for (life, _) in lives.iter().filter(|(life, boot)| over(life, *boot)) {
        assert!(!opens(house, life), "before the sweeper's turn");
    }
    everybody().await;
    for (life, boot) in lives {
        let found = house.pipeline.find(life.id, tenant()).is_some();
        assert!(!(found && over(life, *boot)), "found after its end");
        assert!(!found || opens(house, life), "found, and does not open");
    }
    let live = lives.iter().filter(|(life, boot)| !over(life, *boot)).count();
    assert!(house.pipeline.census().files <= live as u64);
    assert_eq!(house.pipeline.census().overdue, 0);
}

#[tokio::test]
async fn no_step_of_the_wall_clock_lengthens_a_life_and_none_is_read_after_its_announced_end() {
    // Hours between the two clocks, and how long after the start the step comes, in seconds.
    for step in [-48_i64, -1, 1, 48] {
        for after in [0, 30, 3590, 40_000] {
            let house = swept_house();
            let mut lives = lives(&house).await;
            for _ in 0..after / 10 {
                house.clock.advance(Duration::from_secs(10));
                hold_to_both_clocks(&house, &lives).await;
            }
            let (now, by) = (house.clock.now().wall.since_epoch(), step.unsigned_abs());
            let by = Duration::from_hours(by);
            house.clock.step_wall(Wall::from_unix(if step > 0 { now + by } else { now - by }));
            hold_to_both_clocks(&house, &lives).await;
            // Files that come after the step live by the clock that they were told.
            lives.extend(self::lives(&house).await);
            for _ in 0..24 * 60 {
                house.clock.advance(Duration::from_secs(60));
                hold_to_both_clocks(&house, &lives).await;
            }
            assert_eq!(house.pipeline.census().files, 0, "a life of over a day");
            house.is_empty().await;
        }
    }
}

/// A machine that slept: the boot clock has counted on, the wall clock comes later or stood still.
#[tokio::test]
async fn a_boot_clock_that_leaps_alone_ends_what_is_due_before_anything_is_read() {
    for hours in [1, 48] {
        let house = house();
        let lives = lives(&house).await;
        let before = house.clock.now().wall;
        house.clock.advance(Duration::from_hours(hours));
        house.clock.step_wall(before);
        let now = house.clock.now();
        for (life, boot) in &lives {
            let lives = now.boot < *boot && now.boot < life.origin.deadline.boot();
            assert_eq!(opens(&house, life), lives);
        }
        house.pipeline.sweep().await;
        for (life, boot) in &lives {
            assert!(*boot > now.boot || house.pipeline.find(life.id, tenant()).is_none());
        }
        house.clock.advance(Duration::from_hours(24));
        house.pipeline.sweep().await;
        house.is_empty().await;
    }
}

/// Found by the simulation: after a step back a bucket's number comes again, with a new key.
#[tokio::test]
async fn a_receipt_names_no_epoch_key_that_is_still_held() {
    let house = house();
    let first = house.put(600, None, bytes(10)).await.unwrap();
    let now = house.clock.now().wall.since_epoch();
    house.clock.step_wall(Wall::from_unix(now - Duration::from_hours(1)));
    house.clock.advance(Duration::from_hours(1));
    house.pipeline.sweep().await;
    assert_eq!(house.keys.epochs_held().all(), 0);
    let second = house.put(600, None, bytes(10)).await.unwrap();
    assert_eq!(first.origin.deadline.epoch(), second.origin.deadline.epoch());
    let receipt = house.pipeline.delete(&second).unwrap();
    assert_eq!(house.keys.epochs_held().all(), 1);
    let kinds: Vec<_> = receipt.destroyed.unwrap().keys().iter().map(|key| key.0).collect();
    assert_eq!(kinds, [crate::keyring::KeyKind::FileSecret]);
    drop((first, second));
    house.is_empty().await;
}

/// Buckets end by a clock that is ahead for a moment: nobody has looked file by file before it is
/// set back.
#[tokio::test]
async fn what_ended_while_a_clock_was_ahead_is_not_listed_once_it_is_set_back() {
    for hours in [1, 48] {
        let house = house();
        let lives = lives(&house).await;
        let short = house.put(7200, None, bytes(10)).await.unwrap();
        house.pipeline.shorten(&short, Duration::from_secs(5000)).unwrap();
        let before = house.clock.now().wall;
        let mut reading = house.vault.open(&lives[10].0.origin, &lives[10].0.segments, 0..10);
        house.clock.step_wall(before.plus(Duration::from_hours(hours)));
        // All that somebody else's request has time for.
        assert!(house.keys.sweep_epochs() > 0);
        house.clock.step_wall(before);
        assert!(reading.next().now_or_never().unwrap().unwrap().is_err());
        drop(reading);
        let (listed, _) = house.pipeline.list(tenant(), None, 100);
        for file in &listed {
            assert!(opens(&house, &life(file)), "listed, and does not open");
        }
        let alone = |life: &Life| life.origin.keys.bucket().is_none();
        let ended = Duration::from_hours(hours);
        let lives_on = |life: &Life| alone(life) || before.until(life.end) > ended;
        assert!(listed.len() >= lives.iter().filter(|(life, _)| lives_on(life)).count());
        assert!(listed.len() < lives.len());
        let keys_before_the_sweep = house.keys.files_alive();
        house.pipeline.sweep().await;
        assert_eq!(house.keys.files_alive(), keys_before_the_sweep, "the list had ended them");
        house.clock.advance(Duration::from_hours(24));
        house.pipeline.sweep().await;
        drop((listed, short));
        house.is_empty().await;
    }
}

#[tokio::test]
async fn the_sweeper_forgets_what_ended_while_a_clock_was_ahead() {
    let house = house();
    for ttl in [100, 600, 3600, 84_600] {
        drop(house.put(ttl, None, bytes(10)).await.unwrap());
    }
    let before = house.clock.now().wall;
    house.clock.step_wall(before.plus(Duration::from_hours(2)));
    house.keys.sweep_epochs();
    house.clock.step_wall(before);
    house.pipeline.sweep().await;
    assert_eq!(house.pipeline.census().files, 2, "the short life and the long one");
    assert_eq!(house.keys.files_alive(), 2);
    house.clock.advance(Duration::from_hours(24));
    house.pipeline.sweep().await;
    house.is_empty().await;
}
