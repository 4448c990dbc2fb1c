//! Downloads that are counted: `downloads=n` lets exactly n deliveries begin.
//!
//! A claim is reserved before the response's head, spent for good with the first body byte, and
//! given back if that byte never leaves. A delivery that breaks may be continued under its claim
//! for [`CONTINUE_WITHIN`], counted from its first break. When no claim is left and none can be
//! continued, the file is spent and is shredded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use tokio::sync::watch;

use crate::clock::{Boot, Clock, within};
use crate::entropy::{Entropy, EntropyError, random};

/// How long a broken delivery may be continued.
pub const CONTINUE_WITHIN: Duration = Duration::from_secs(60);

/// How long somebody who asks about a file waits for its last delivery to be confirmed.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

type Token = [u8; 16];

/// The downloads a file has left.
#[derive(Clone)]
pub struct Claims {
    clock: Arc<dyn Clock>,
    tally: Arc<Mutex<Tally>>,
    settled: watch::Sender<()>,
}

struct Tally {
    left: u64,
    claims: HashMap<Token, State>,
}

struct State {
    /// Deliveries running under the claim now, and those of them that only wait for the client
    /// to show that it has got everything.
    running: u32,
    unconfirmed: u32,
    /// Whether a body byte has left under it: then it is never given back.
    spent: bool,
    /// Until when it may be continued; set by its first break.
    until: Option<Boot>,
}

/// Why a delivery may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("no download is left")]
    NoneLeft,
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// One delivery's right to the bytes; its end is settled when it is dropped.
pub struct Claim {
    claims: Claims,
    token: Token,
    progress: Progress,
    unconfirmed: bool,
    /// A claim elsewhere that shares this one's fate: a file's downloads and a grant's are counted
    /// apart.
    beside: Option<Box<Claim>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reserved,
    Continued,
    Sending,
    Whole,
}

impl Claims {
    /// `n` downloads, none spent.
    #[must_use]
    pub fn new(n: u64, clock: Arc<dyn Clock>) -> Self {
        let tally = Arc::new(Mutex::new(Tally { left: n, claims: HashMap::new() }));
        Self { clock, tally, settled: watch::Sender::new(()) }
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Downloads left to begin.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.tally().left
    }

    /// Continues the claim named `continued`, if it is one that may be; otherwise takes a new one.
    ///
    /// # Errors
    /// When none is left.
    pub fn take(
        &self,
        continued: Option<&str>,
        entropy: &dyn Entropy,
    ) -> Result<Claim, ClaimError> {
        self.take_as(continued.and_then(parse), random(entropy)?)
    }

    /// As [`Claims::take`], beside a claim elsewhere and under its name, so that one name continues
    /// both.
    ///
    /// # Errors
    /// When none is left.
    pub fn take_beside(&self, mut claim: Claim) -> Result<Claim, ClaimError> {
        let own = self.take_as(Some(claim.token), claim.token)?;
        claim.beside = Some(Box::new(own));
        Ok(claim)
    }

    fn take_as(&self, continued: Option<Token>, fresh: Token) -> Result<Claim, ClaimError> {
        let now = self.clock.now().boot;
        let mut tally = self.tally();
        if let Some(token) = continued
            && let Some(state) = tally.claims.get_mut(&token)
            && state.until.is_none_or(|until| now < until)
        {
            // Coming back is what breaks the delivery that may still seem to run here.
            state.until.get_or_insert(now.plus(CONTINUE_WITHIN));
            state.running += 1;
            return Ok(self.claim(token, Progress::Continued));
        }
        tally.left = tally.left.checked_sub(1).ok_or(ClaimError::NoneLeft)?;
        let state = State { running: 1, unconfirmed: 0, spent: false, until: None };
        tally.claims.insert(fresh, state);
        Ok(self.claim(fresh, Progress::Reserved))
    }

    fn claim(&self, token: Token, progress: Progress) -> Claim {
        Claim { claims: self.clone(), token, progress, unconfirmed: false, beside: None }
    }

    /// Whether a client that names this claim would go on with it.
    #[must_use]
    pub fn continues(&self, claim: &str) -> bool {
        let now = self.clock.now().boot;
        let tally = self.tally();
        let state = parse(claim).and_then(|token| tally.claims.get(&token));
        state.is_some_and(|state| state.until.is_none_or(|until| now < until))
    }

    /// Whether nothing can be delivered any more: no download left, none running, none that may
    /// still be continued.
    #[must_use]
    pub fn are_spent(&self) -> bool {
        let now = self.clock.now().boot;
        let mut tally = self.tally();
        tally
            .claims
            .retain(|_, state| state.running > 0 || state.until.is_some_and(|until| now < until));
        tally.left == 0 && tally.claims.is_empty()
    }

    /// Whether all that could be delivered has left, confirmed or not: but for a delivery that
    /// continues, the file is spent.
    #[must_use]
    pub fn are_used_up(&self) -> bool {
        let tally = self.tally();
        let quiet = |state: &State| state.running == state.unconfirmed && state.until.is_none();
        tally.left == 0 && tally.claims.values().all(quiet)
    }

    /// Waits for the deliveries that have left to be confirmed or denied, at most
    /// [`CONFIRM_WITHIN`]: a client closes its connection right after its last byte.
    pub async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        let waiting = async {
            while self.are_used_up() && !self.are_spent() {
                if settled.changed().await.is_err() {
                    return;
                }
            }
        };
        within(&*self.clock, CONFIRM_WITHIN, waiting).await;
    }

    fn settle(&self, token: Token, progress: Progress) {
        let now = self.clock.now().boot;
        let mut tally = self.tally();
        let Some(state) = tally.claims.get_mut(&token) else { return };
        state.running -= 1;
        match progress {
            Progress::Reserved if state.running == 0 && !state.spent => {
                tally.claims.remove(&token);
                tally.left += 1;
            }
            Progress::Reserved => {}
            // Whoever got everything needs no second chance, whatever else runs under the claim.
            Progress::Whole => state.until = Some(now),
            Progress::Sending | Progress::Continued => {
                state.until.get_or_insert(now.plus(CONTINUE_WITHIN));
            }
        }
    }
}

impl Claim {
    /// The value of `Dayfly-Claim`.
    #[must_use]
    pub fn token(&self) -> String {
        BASE32_NOPAD.encode(&self.token).to_ascii_lowercase()
    }

    /// The first body byte leaves: from here on the download is spent.
    pub fn spend(&mut self) {
        if self.progress != Progress::Sending {
            self.progress = Progress::Sending;
            self.with_state(|state| state.spent = true);
        }
        if let Some(beside) = &mut self.beside {
            beside.spend();
        }
    }

    /// The last byte of the delivery has left; the client has not shown yet that it has it.
    pub fn await_confirmation(&mut self) {
        self.with_state(|state| state.unconfirmed += 1);
        self.unconfirmed = true;
        if let Some(beside) = &mut self.beside {
            beside.await_confirmation();
        }
    }

    /// The delivery has arrived.
    pub fn complete(&mut self) {
        self.progress = Progress::Whole;
        if let Some(beside) = &mut self.beside {
            beside.complete();
        }
    }

    fn with_state(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.claims.tally().claims.get_mut(&self.token) {
            change(state);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.unconfirmed {
            self.with_state(|state| state.unconfirmed -= 1);
        }
        self.claims.settle(self.token, self.progress);
        self.claims.settled.send_replace(());
    }
}

fn parse(text: &str) -> Option<Token> {
    let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{VirtualClock, Wall};
    use crate::entropy::SeededEntropy;

    fn claims(n: u64) -> (Claims, VirtualClock, SeededEntropy) {
        let clock = VirtualClock::at(Wall::from_unix(Duration::from_secs(1_800_000_000)));
        (Claims::new(n, Arc::new(clock.clone())), clock, SeededEntropy::new(1))
    }

    #[test]
    fn exactly_n_of_many_get_through() {
        let (claims, _, entropy) = claims(3);
        let held: Vec<_> = (0..10).filter_map(|_| claims.take(None, &entropy).ok()).collect();
        assert_eq!(held.len(), 3);
        for mut claim in held {
            claim.spend();
            claim.complete();
        }
        assert!(claims.are_spent());
    }

    #[test]
    fn a_claim_whose_first_byte_never_left_is_given_back() {
        let (claims, _, entropy) = claims(1);
        drop(claims.take(None, &entropy).unwrap());
        assert_eq!(claims.left(), 1);
        assert!(!claims.are_spent());
    }

    #[test]
    fn a_download_that_was_continued_to_its_end_is_not_given_back() {
        let (claims, _, entropy) = claims(1);
        let first = claims.take(None, &entropy).unwrap();
        let mut second = claims.take(Some(&first.token()), &entropy).unwrap();
        second.spend();
        second.complete();
        drop((second, first));
        assert_eq!(claims.left(), 0);
        assert!(claims.are_spent());
    }

    #[test]
    fn what_has_left_is_used_up_before_it_is_confirmed_and_may_still_turn_out_broken() {
        let (claims, _, entropy) = claims(1);
        let mut claim = claims.take(None, &entropy).unwrap();
        claim.spend();
        assert!(!claims.are_used_up());
        claim.await_confirmation();
        assert!(claims.are_used_up() && !claims.are_spent());
        let token = claim.token();
        drop(claim);
        assert!(claims.take(Some(&token), &entropy).is_ok(), "broken after all: it continues");
    }

    #[test]
    fn a_broken_delivery_continues_for_a_minute_from_its_first_break() {
        let (claims, clock, entropy) = claims(1);
        let mut claim = claims.take(None, &entropy).unwrap();
        claim.spend();
        let token = claim.token();
        drop(claim);
        assert!(!claims.are_spent());
        assert!(claims.take(None, &entropy).is_err(), "a range without it spends a claim");
        clock.advance(Duration::from_secs(40));
        drop(claims.take(Some(&token), &entropy).unwrap());
        clock.advance(Duration::from_secs(21));
        assert!(claims.take(Some(&token), &entropy).is_err(), "a second break adds no time");
        assert!(claims.are_spent());
    }

    #[test]
    fn two_counts_share_a_name_and_a_fate() {
        let (file, _, entropy) = claims(1);
        let (grant, _, _) = claims(2);
        let both = || grant.take_beside(file.take(None, &entropy)?);
        drop(both().unwrap());
        assert_eq!((file.left(), grant.left()), (1, 2), "no byte left: both are given back");
        let mut claim = both().unwrap();
        assert!(both().is_err());
        assert_eq!((file.left(), grant.left()), (0, 1), "the file had none: the grant lost none");
        claim.spend();
        let token = claim.token();
        drop(claim);
        assert!(file.continues(&token) && grant.continues(&token));
        let again = grant.take_beside(file.take(Some(&token), &entropy).unwrap());
        assert_eq!((again.is_ok(), grant.left()), (true, 1), "going on spends nothing");
    }

    #[test]
    fn a_whole_delivery_cannot_be_continued() {
        let (claims, _, entropy) = claims(2);
        let mut claim = claims.take(None, &entropy).unwrap();
        claim.spend();
        claim.complete();
        let token = claim.token();
        drop(claim);
        drop(claims.take(Some(&token), &entropy).unwrap());
        assert_eq!(claims.left(), 1, "the name of a finished claim is no claim");
    }
}
