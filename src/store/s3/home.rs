//! Whose an object is, told by its name: `dayfly/<station>/<run>/<random>`.
//!
//! Several gateways may share a bucket and must not take each other's objects for leftovers. A
//! *station* is a network namespace of one machine since its last start; a *run* is one process. A
//! run holds an abstract socket named after itself for as long as it lives, which the kernel lets
//! go with it: so a later run of the same station knows for certain that an earlier one has ended.
//! Of another station nothing is known but time: no file lives a day, so what is older is nobody's.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::clock::Wall;
use crate::disk;
use crate::entropy::{Entropy, EntropyError, random};

/// What everything of ours begins with.
pub(super) const ROOT: &str = "dayfly/";
/// Nobody's, whoever wrote it: a life lasts at most 23 h 30 min, and a server refuses a signer
/// whose clock is a quarter of an hour off.
const DAY: Duration = Duration::from_hours(25);

/// This process's place in the bucket.
pub(super) struct Home {
    station: String,
    run: String,
    /// Held, never used: its name is free again when this process has ended.
    _held: UnixDatagram,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("this run cannot be told from others on this machine ({0})")]
    Unnamed(io::ErrorKind),
}

fn word(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn hold(run: &str) -> io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("dayfly-{run}"))?;
    UnixDatagram::bind_addr(&name)
}

impl Home {
    /// Takes a place that nobody has had.
    pub fn take(entropy: &dyn Entropy) -> Result<Self, HomeError> {
        let unnamed = |error: io::Error| HomeError::Unnamed(error.kind());
        let start = disk::read_text(Path::new("/proc/sys/kernel/random/boot_id"));
        let net = rustix::fs::stat("/proc/self/ns/net").map_err(|errno| unnamed(errno.into()))?;
        let mut hash = Sha256::new();
        hash.update(b"dayfly/v1 station\0");
        hash.update(start.map_err(unnamed)?.trim());
        hash.update(net.st_ino.to_be_bytes());
        let run = word(&random::<10>(entropy)?);
        let held = hold(&run).map_err(unnamed)?;
        Ok(Self { station: word(&hash.finalize()[..10]), run, _held: held })
    }

    /// A name for an object: random, and nobody's word for anything.
    pub fn name(&self, entropy: &dyn Entropy) -> Result<Arc<str>, EntropyError> {
        let one = word(&random::<16>(entropy)?);
        Ok(format!("{ROOT}{}/{}/{one}", self.station, self.run).into())
    }

    /// Whether this very process made the name.
    pub fn is_ours(&self, key: &str) -> bool {
        parts(key).is_some_and(|(station, run)| station == self.station && run == self.run)
    }

    /// Whether something of another run belongs to nobody any more.
    pub fn is_abandoned(&self, key: &str, since: Option<Wall>, now: Wall) -> bool {
        let Some((station, run)) = parts(key) else { return false };
        if station == self.station && run != self.run {
            return !matches!(hold(run), Err(error) if error.kind() == io::ErrorKind::AddrInUse);
        }
        station != self.station && since.is_some_and(|since| since.until(now) > DAY)
    }
}

/// Station and run of a name of this form; other names are not ours to touch.
fn parts(key: &str) -> Option<(&str, &str)> {
    let mut words = key.strip_prefix(ROOT)?.split('/');
    let (station, run, one) = (words.next()?, words.next()?, words.next()?);
    let fits = |word: &str, length: usize| {
        word.len() == length
            && word.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
    };
    let ours = fits(station, 16) && fits(run, 16) && fits(one, 26) && words.next().is_none();
    ours.then_some((station, run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn a_run_knows_its_own_its_living_sibling_and_the_dead() {
        let (one, other) =
            (Home::take(&SystemEntropy).unwrap(), Home::take(&SystemEntropy).unwrap());
        let name = |home: &Home| home.name(&SystemEntropy).unwrap();
        let (mine, theirs) = (name(&one), name(&other));
        let now = Wall::from_unix(Duration::from_secs(1_800_000_000));
        let long_ago = Some(Wall::from_unix(Duration::from_secs(1_700_000_000)));
        assert!(one.is_ours(&mine) && !one.is_ours(&theirs));
        assert!(!one.is_abandoned(&mine, long_ago, now), "our own are known by name");
        assert!(!one.is_abandoned(&theirs, long_ago, now), "its run lives");
        drop(other);
        assert!(one.is_abandoned(&theirs, None, now), "its run has ended");
    }

    #[test]
    fn of_another_station_only_age_tells() {
        let home = Home::take(&SystemEntropy).unwrap();
        let foreign = format!("{ROOT}{0}/{0}/{0}aaaaaaaaaa", "a".repeat(16));
        let now = Wall::from_unix(Duration::from_secs(1_800_000_000));
        let ago = |hours: u64| Wall::from_unix(now.since_epoch() - Duration::from_hours(hours));
        assert!(!home.is_abandoned(&foreign, Some(ago(24)), now));
        assert!(home.is_abandoned(&foreign, Some(ago(26)), now));
        assert!(!home.is_abandoned(&foreign, None, now));
        for strange in ["dayfly/notes.txt", "other/a/b/c", "dayfly/a/b/c", "dayfly/x/y"] {
            assert!(!home.is_abandoned(strange, Some(ago(2600)), now), "{strange}");
        }
    }
}
