//! How far a connection has come. A step takes the stage before and gives the one after.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{CODE_WITHIN, LetGo, Permission, Until};
use crate::clock::{Boot, Now};
use crate::problem::Slug;

/// A keyed hash of something that only its holder should know.
pub type Mark = [u8; 32];

/// The browser that a page belongs to.
#[derive(Clone)]
pub struct Browser {
    /// The name of its cookie; no secret.
    pub cookie: String,
    /// Of the cookie's value.
    pub mark: Mark,
}

impl Browser {
    /// Whether what was shown is this browser's cookie.
    #[must_use]
    pub fn is(&self, shown: Option<&Mark>) -> bool {
        shown.is_some_and(|shown| self.mark.ct_eq(shown).into())
    }
}

/// A way to the provider and back.
pub struct Asked {
    /// Of the one-time state.
    pub state: Mark,
    /// PKCE.
    pub verifier: Zeroizing<String>,
}

/// What a code is exchanged with; there is one for each way to the provider.
pub struct Exchange(pub Zeroizing<String>);

/// What became of a page that somebody opened.
pub enum Opened {
    First(super::View),
    Again(super::View),
    /// It belongs to another browser.
    Taken,
    Unknown,
}

/// Where a connection stands, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Pending,
    Consented,
    Active,
    Over(Ending, Revocation),
}

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Revoked,
    Expired,
    Failed(Slug),
}

/// What the provider made of the revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The provider has ended the token, or there was none.
    Done,
    /// The provider has not answered well; it is asked again while the token can be opened.
    Failed,
    /// Another live connection stands on the same grant: the last of them ends it.
    Deferred,
}

impl Revocation {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
        }
    }
}

/// The stages.
pub enum Stage {
    /// Nobody has opened the page.
    Unopened,
    /// A browser has; perhaps it is at the provider.
    Open(Browser, Option<Asked>),
    /// It came back, and its code is being exchanged.
    Exchanging(Browser),
    Consented(Consented),
    Active(Active),
    Over(Over),
    /// Between two stages, inside one call.
    Moving,
}

/// There is a token, and the app has not confirmed that its user is the one who consented.
pub struct Consented {
    pub browser: Browser,
    pub grant: Arc<Permission>,
    codes: Vec<(Mark, Until)>,
}

/// The token may be used.
pub struct Active {
    browser: Browser,
    grant: Arc<Permission>,
}

/// There is nothing any more but the memory of how it ended.
pub struct Over {
    browser: Option<Browser>,
    ending: Ending,
    pub revocation: Revocation,
    since: Boot,
}

/// Codes that are good at a time: a page that is loaded again shows a fresh one.
const CODES: usize = 4;

impl Consented {
    pub(super) const fn new(browser: Browser, grant: Arc<Permission>) -> Self {
        Self { browser, grant, codes: Vec::new() }
    }

    pub(super) fn show(&mut self, code: Mark, now: Now) {
        self.codes.retain(|(_, until)| !until.is_due(now));
        if self.codes.len() >= CODES {
            self.codes.remove(0);
        }
        self.codes.push((code, Until::after(now, CODE_WITHIN)));
    }

    pub(super) fn knows(&self, code: &Mark, now: Now) -> bool {
        let good = self.codes.iter().filter(|(_, until)| !until.is_due(now));
        good.fold(false, |found, (known, _)| found | bool::from(known.ct_eq(code)))
    }

    pub(super) fn confirmed(self) -> Stage {
        Stage::Active(Active { browser: self.browser, grant: self.grant })
    }
}

impl Stage {
    pub(super) fn opened_by(self, browser: Browser) -> Self {
        match self {
            Self::Unopened => Self::Open(browser, None),
            other => other,
        }
    }

    pub(super) const fn browser(&self) -> Option<&Browser> {
        match self {
            Self::Open(browser, _) | Self::Exchanging(browser) => Some(browser),
            Self::Consented(consented) => Some(&consented.browser),
            Self::Active(active) => Some(&active.browser),
            Self::Over(over) => over.browser.as_ref(),
            Self::Unopened | Self::Moving => None,
        }
    }

    /// Of the state under way.
    pub(super) fn state(&self) -> Option<Mark> {
        match self {
            Self::Open(_, Some(asked)) => Some(asked.state),
            _ => None,
        }
    }

    pub(super) fn ask(self, asked: Asked) -> (Self, bool) {
        match self {
            Self::Open(browser, _) => (Self::Open(browser, Some(asked)), true),
            other => (other, false),
        }
    }

    /// Gives out what a code is exchanged with, if all was well; either way nobody can have it
    /// again.
    pub(super) fn exchange(self, good: bool) -> (Self, Option<Exchange>) {
        match self {
            Self::Open(browser, Some(asked)) if good => {
                (Self::Exchanging(browser), Some(Exchange(asked.verifier)))
            }
            Self::Open(browser, _) => (Self::Open(browser, None), None),
            other => (other, None),
        }
    }

    pub(super) const fn grant(&self) -> Option<&Arc<Permission>> {
        match self {
            Self::Consented(consented) => Some(&consented.grant),
            Self::Active(active) => Some(&active.grant),
            _ => None,
        }
    }

    pub(super) fn end(self, ending: Ending, now: Now) -> (Self, LetGo) {
        let revocation = match &self {
            // Its code may be a token by now: that is taken back when it arrives.
            Self::Exchanging(_) if !matches!(ending, Ending::Failed(_)) => Revocation::Failed,
            Self::Consented(_) | Self::Active(_) => Revocation::Failed,
            _ => Revocation::Done,
        };
        let over = |browser| Self::Over(Over { browser, ending, revocation, since: now.boot });
        let (stage, grant) = match self {
            Self::Over(over) => return (Self::Over(over), LetGo { was_over: true, grant: None }),
            Self::Unopened | Self::Moving => (over(None), None),
            Self::Open(browser, _) | Self::Exchanging(browser) => (over(Some(browser)), None),
            Self::Consented(consented) => (over(Some(consented.browser)), Some(consented.grant)),
            Self::Active(active) => (over(Some(active.browser)), Some(active.grant)),
        };
        if let Some(grant) = &grant {
            grant.cut.fire();
        }
        (stage, LetGo { was_over: false, grant })
    }

    pub(super) const fn standing(&self) -> Standing {
        match self {
            Self::Unopened | Self::Open(..) | Self::Exchanging(_) | Self::Moving => {
                Standing::Pending
            }
            Self::Consented(_) => Standing::Consented,
            Self::Active(_) => Standing::Active,
            Self::Over(over) => Standing::Over(over.ending, over.revocation),
        }
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }

    pub(super) const fn over_since(&self) -> Option<Boot> {
        match self {
            Self::Over(over) => Some(over.since),
            _ => None,
        }
    }
}
