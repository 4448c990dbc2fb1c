//! A deadline is set once and can only come earlier (VAULT.md, rule 3 and "Time").

use std::time::Duration;

use crate::clock::{Boot, Now, Wall};

/// The longest life a client may ask for: 23 h 30 min, so that rounding, sweep slack and the
/// kernel's key collection stay below 24 h.
pub const MAX_TTL: Duration = Duration::from_secs(84_600);

/// Below this a life is not rounded and has no epoch key.
const SHORT: Duration = Duration::from_secs(300);
/// Up to this the buckets are 60 s long, above it 900 s.
const FINE: Duration = Duration::from_secs(75 * 60);

/// Two readings of two clocks are never of one moment; a step of a clock is longer than this.
pub const BETWEEN_READINGS: Duration = Duration::from_millis(50);

/// A life under one second or over [`MAX_TTL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ttl is between 1s and 23h30m")]
pub struct TtlError;

/// Which bucket's key a file is sealed with: the `epoch` field of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Epoch {
    /// Bucket end / 900 s.
    Quarter(u64),
    /// Bucket end / 60 s.
    Minute(u64),
    /// A ttl under 300 s: the file's own secret alone.
    None,
}

impl Epoch {
    /// The header's field: the top byte tells the bucket length, the rest counts buckets.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Quarter(count) => count,
            Self::Minute(count) => (1 << 56) | count,
            Self::None => 2 << 56,
        }
    }

    /// When the bucket ends; `None` for a file without an epoch key.
    #[must_use]
    pub const fn end(self) -> Option<Wall> {
        match self {
            Self::Quarter(count) => Some(Wall::from_unix(Duration::from_secs(count * 900))),
            Self::Minute(count) => Some(Wall::from_unix(Duration::from_secs(count * 60))),
            Self::None => None,
        }
    }
}

/// When a file must be gone: fixed when its first byte arrives.
///
/// There is no setter, and no operation yields a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    epoch: Epoch,
    sealed: Wall,
    wall: Wall,
    boot: Boot,
}

impl Deadline {
    /// Fixes the deadline of a file that starts now and asked for `ttl`.
    ///
    /// # Errors
    /// When `ttl` is under a second or over [`MAX_TTL`].
    pub fn fix(now: Now, ttl: Duration) -> Result<Self, TtlError> {
        if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
            return Err(TtlError);
        }
        let asked = now.wall.plus(ttl).since_epoch();
        let (epoch, wall) = if ttl < SHORT {
            (Epoch::None, Wall::from_unix(Duration::from_millis(asked.as_millis() as u64)))
        } else {
            let minutes = ttl <= FINE;
            let length = if minutes { 60 } else { 900 };
            let count = asked.as_secs() / length;
            let epoch = if minutes { Epoch::Minute(count) } else { Epoch::Quarter(count) };
            (epoch, Wall::from_unix(Duration::from_secs(count * length)))
        };
        Ok(Self { epoch, sealed: wall, wall, boot: now.boot.plus(now.wall.until(wall)) })
    }

    /// The earlier of this deadline and one `ttl` from now; never rounded, never later.
    #[must_use]
    pub fn shortened(self, now: Now, ttl: Duration) -> Self {
        let asked = now.wall.plus(ttl).since_epoch().as_millis() as u64;
        Self {
            wall: self.wall.min(Wall::from_unix(Duration::from_millis(asked))),
            boot: self.boot.min(now.boot.plus(ttl)),
            ..self
        }
    }

    /// This deadline, or the end of its bucket's key where that comes first: the wall clock was set
    /// back since the bucket began. The moment shown then is the true one, and not rounded.
    #[must_use]
    pub fn no_later_than(self, bucket: Self, now: Now) -> Self {
        if self.boot.since(bucket.boot) > BETWEEN_READINGS {
            return self.shortened(now, now.boot.until(bucket.boot));
        }
        Self { wall: self.wall.min(bucket.wall), boot: self.boot.min(bucket.boot), ..self }
    }

    /// Whether it comes together with the end of its bucket's key.
    #[must_use]
    pub fn ends_with(self, bucket: Self) -> bool {
        self.wall >= bucket.wall && bucket.boot.since(self.boot) <= BETWEEN_READINGS
    }

    /// The moment shown to the client.
    #[must_use]
    pub const fn expires_at(self) -> Wall {
        self.wall
    }

    /// The deadline segments were sealed with, in unix seconds: a shortened life keeps the first.
    #[must_use]
    pub const fn sealed_unix(self) -> u64 {
        self.sealed.unix_seconds()
    }

    #[must_use]
    pub const fn epoch(self) -> Epoch {
        self.epoch
    }

    /// Whether either clock has reached it: a step may shorten a life, never lengthen it.
    #[must_use]
    pub fn is_due(self, now: Now) -> bool {
        now.wall >= self.wall || now.boot >= self.boot
    }

    /// The time left until the first of the two clocks reaches it.
    #[must_use]
    pub fn left(self, now: Now) -> Duration {
        now.wall.until(self.wall).min(now.boot.until(self.boot))
    }

    /// On the boot clock, for ordering what falls due.
    #[must_use]
    pub const fn boot(self) -> Boot {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            wall: Wall::from_unix(Duration::from_secs(seconds)),
            boot: Boot::from_start(Duration::from_secs(500)),
        }
    }

    #[test]
    fn lives_outside_the_bounds_are_refused() {
        for ttl in [Duration::ZERO, Duration::from_millis(999), MAX_TTL + Duration::from_secs(1)] {
            assert_eq!(Deadline::fix(at(1_800_000_000), ttl), Err(TtlError));
        }
        assert!(Deadline::fix(at(1_800_000_000), MAX_TTL).is_ok());
    }

    #[test]
    fn either_clock_ends_a_life() {
        let now = at(1_800_000_017);
        let deadline = Deadline::fix(now, Duration::from_secs(3600)).unwrap();
        assert!(!deadline.is_due(now));
        let later = Duration::from_secs(3600);
        assert!(deadline.is_due(Now { wall: now.wall.plus(later), ..now }));
        assert!(deadline.is_due(Now { boot: now.boot.plus(later), ..now }));
    }

    proptest! {
        #[test]
        fn rounding_goes_down_and_costs_at_most_a_fifth(
            start in 1_700_000_000u64..1_900_000_000, ttl in 1u64..=84_600,
        ) {
            let (now, ttl) = (at(start), Duration::from_secs(ttl));
            let deadline = Deadline::fix(now, ttl).unwrap();
            let life = now.wall.until(deadline.expires_at());
            prop_assert!(life <= ttl);
            prop_assert!(life.as_secs_f64() >= ttl.as_secs_f64() * 0.8 - 1e-9);
            match deadline.epoch().end() {
                Some(end) => prop_assert_eq!(end, deadline.expires_at()),
                None => prop_assert!(ttl < SHORT && life == ttl),
            }
        }

        #[test]
        fn shortening_never_lengthens(
            first in 1u64..=84_600, then in 0u64..=100_000, step in 0u64..200_000,
        ) {
            let now = at(1_800_000_000);
            let deadline = Deadline::fix(now, Duration::from_secs(first)).unwrap();
            let stepped = at(1_800_000_000 - 100_000 + step);
            let shorter = deadline.shortened(stepped, Duration::from_secs(then));
            prop_assert!(shorter.expires_at() <= deadline.expires_at());
            prop_assert!(shorter.boot() <= deadline.boot());
            prop_assert_eq!(shorter.sealed_unix(), deadline.sealed_unix());
            prop_assert_eq!(shorter.epoch(), deadline.epoch());
        }
    }
}
