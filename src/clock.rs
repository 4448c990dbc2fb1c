//! Time, as two clocks that never mix.
//!
//! A promise about a deadline needs both: the wall clock is what a client was told, the boot clock
//! counts suspends and cannot be stepped. They are different types, so that no line of code can
//! compare one with the other by accident. This is the only file that may ask the system for the
//! time or wait for it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

mod simulated;
pub use simulated::VirtualClock;

/// A reading of CLOCK_REALTIME, as the time since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(Duration);

/// A reading of CLOCK_BOOTTIME, as the time since boot, suspends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(Duration);

/// Both clocks, read one right after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall: Wall,
    pub boot: Boot,
}

impl Wall {
    #[must_use]
    pub const fn from_unix(since_epoch: Duration) -> Self {
        Self(since_epoch)
    }

    #[must_use]
    pub const fn since_epoch(self) -> Duration {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0.as_secs()
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Wall) -> Duration {
        later.0.saturating_sub(self.0)
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// RFC 3339 in UTC with `Z`; milliseconds are shown only where there are any.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let millis = i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string()
    }
}

impl Wall {
    /// As HTTP writes dates (RFC 9110, section 5.6.7), in whole seconds, rounded down.
    #[must_use]
    pub fn http_date(self) -> String {
        let seconds = i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX);
        let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        printer.timestamp_to_rfc9110_string(&moment).unwrap_or_default()
    }
}

impl Boot {
    #[must_use]
    pub const fn from_start(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// How long until `later`; zero if it has passed.
    #[must_use]
    pub fn until(self, later: Boot) -> Duration {
        later.0.saturating_sub(self.0)
    }

    /// How long since `earlier`; zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Boot) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// A wait that ends by the clock that made it.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The one source of time.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Now;

    /// Completes once `span` has passed.
    fn sleep(&self, span: Duration) -> Sleep;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: Wall(read(ClockId::Realtime)), boot: Boot(read(ClockId::Boottime)) }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
    fn sleep(&self, span: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(span))
    }
}

/// Runs `work`, again if need be, until it has run within one second of CLOCK_REALTIME, as the
/// kernel counts seconds: its own count moves on with a tick, some milliseconds late.
pub fn within_one_second<T>(mut work: impl FnMut() -> T) -> T {
    let second = || {
        let (kernels, exact) = (read(ClockId::RealtimeCoarse), read(ClockId::Realtime));
        (kernels.as_secs() == exact.as_secs()).then_some(exact.as_secs())
    };
    loop {
        let before = second();
        if before.is_some() {
            let done = work();
            if second() == before {
                return done;
            }
        }
        std::thread::yield_now();
    }
}

fn read(id: ClockId) -> Duration {
    let at = clock_gettime(id);
    // A clock before 1970 is read as 1970: everything is then due at once or lives by boot time.
    let seconds = u64::try_from(at.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(at.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// A span as people write it: `90s`, `15m`, `4h`, `23h30m`, `30d`; units fall, none twice.
#[must_use]
pub fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    for (unit, length) in [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        let Some((digits, after)) = rest.split_once(unit) else { continue };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let count: u64 = digits.parse().ok()?;
        seconds = seconds.checked_add(count.checked_mul(length)?)?;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then(|| Duration::from_secs(seconds))
}

/// Waits for `work`, at most `span` by `clock`; `None` if the time ran out first.
pub async fn within<F: Future>(clock: &dyn Clock, span: Duration, work: F) -> Option<F::Output> {
    let work = std::pin::pin!(work);
    match futures_util::future::select(work, clock.sleep(span)).await {
        futures_util::future::Either::Left((output, _)) => Some(output),
        futures_util::future::Either::Right(((), _)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_in_gmt_and_rounded_down() {
        let moment = Wall::from_unix(Duration::from_millis(784_111_777_999));
        assert_eq!(moment.http_date(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn whole_seconds_print_without_a_fraction_and_others_with_three_digits() {
        let whole = Wall::from_unix(Duration::from_secs(1_800_000_000));
        assert_eq!(whole.rfc3339(), "2027-01-15T08:00:00Z");
        let part = Wall::from_unix(Duration::from_millis(1_800_000_000_250));
        assert_eq!(part.rfc3339(), "2027-01-15T08:00:00.25Z");
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("23h30m", Some(84_600)),
            ("1d2h3m4s", Some(93_784)),
            ("0s", Some(0)),
            ("", None),
            ("10", None),
            ("m", None),
            ("1m1h", None),
            ("1h1h", None),
            ("-1s", None),
            ("1.5h", None),
            ("1 h", None),
            ("99999999999999999999s", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(parse_span(text), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn the_system_clock_moves_forward_on_both_faces() {
        let (first, second) = (SystemClock.now(), SystemClock.now());
        assert!(second.boot >= first.boot);
        assert!(first.wall.unix_seconds() > 1_600_000_000);
    }
}
