//! The pages of a connection: who asks and for what, whose account it is, and how it ended.
//!
//! All of their English stands in this file; the templates beside it only arrange it.

use std::time::Duration;

use askama::Template;

use super::written;
use crate::problem::Slug;
use crate::provider::{Access, Service};

/// What the consent page tells a person.
pub struct ConsentPage<'a> {
    /// The secret part of the page's address.
    pub page: &'a str,
    pub form: &'a str,
    /// Who asks.
    pub name: &'a str,
    /// Where the person goes afterwards.
    pub return_host: Option<&'a str>,
    pub service: Service,
    pub access: Access,
    pub offline: bool,
    pub lasts: Duration,
}

/// What the page after consent tells a person.
pub struct AccountPage<'a> {
    pub page: &'a str,
    pub form: &'a str,
    pub name: &'a str,
    pub service: Service,
    /// Whose account it is.
    pub label: &'a str,
    /// Where to go on, with the code; without it the code is shown.
    pub onward: Option<&'a str>,
    pub code: &'a str,
}

/// A line of what is asked for.
struct Point {
    what: &'static str,
    said: String,
}

#[derive(Template)]
#[template(path = "consent.html", config = "src/web/askama.toml")]
struct Consent<'a> {
    title: String,
    who: String,
    asks: String,
    points: Vec<Point>,
    agree: String,
    agree_to: String,
    refuse: &'static str,
    refuse_to: String,
    form: &'a str,
    small: Vec<String>,
}

#[derive(Template)]
#[template(path = "account.html", config = "src/web/askama.toml")]
struct Account<'a> {
    title: String,
    lead: String,
    label: &'a str,
    next: String,
    onward: Option<&'a str>,
    onward_text: String,
    code: &'a str,
    code_says: &'static str,
    not_you: &'static str,
    disconnect: &'static str,
    disconnect_to: String,
    form: &'a str,
    small: Vec<String>,
}

#[derive(Template)]
#[template(path = "ended.html", config = "src/web/askama.toml")]
struct Ended<'a> {
    title: &'a str,
    lead: &'a str,
    small: Vec<String>,
    onward: Option<&'a str>,
    onward_text: String,
}

/// `/connect/…`: the question.
#[must_use]
pub fn consent_page(given: &ConsentPage<'_>) -> String {
    let ConsentPage { page, form, name, service, .. } = given;
    let title = service.title();
    let who = match given.return_host {
        Some(host) => format!("{name} ({host}) asks you"),
        None => format!("{name} asks you"),
    };
    let asks = match given.access {
        Access::Picked => format!("May {name} read the files you pick from your {title}?"),
        Access::Browse => format!("May {name} read your {title}?"),
        Access::BrowseWrite => format!("May {name} read your {title}, and put files into it?"),
    };
    written(&Consent {
        title: format!("{name} asks for {title}"),
        who,
        asks,
        points: points(given),
        agree: format!("Agree and go to {}", house(*service)),
        agree_to: format!("/connect/{page}/consent"),
        refuse: "No, do not connect",
        refuse_to: format!("/connect/{page}/refuse"),
        form,
        small: vec![
            format!(
                "You sign in at {} itself. Neither {name} nor this page sees your password.",
                house(*service)
            ),
            format!(
                "This page is Dayfly's, the gateway that {name} uses. It keeps the permission \
                 sealed, uses it for {name} alone, and destroys it on time."
            ),
            "If you did not just come here from there yourself, say no.".to_owned(),
        ],
    })
}

fn points(given: &ConsentPage<'_>) -> Vec<Point> {
    let (name, title) = (given.name, given.service.title());
    let reads = match given.access {
        Access::Picked => {
            format!(
                "Only the files that you pick at {}. Nothing else of your {title}.",
                house(given.service)
            )
        }
        Access::Browse | Access::BrowseWrite => format!(
            "All files of your {title}: their names, folders and content. And your account's name \
             and e-mail address, to show you on the next page which account it is."
        ),
    };
    let mut points = vec![Point { what: "It can read", said: reads }];
    if given.access == Access::BrowseWrite {
        let said = match given.service {
            Service::Dropbox => "New files, into folders of yours. The permission that Dropbox \
                                 has for this also lets files be changed; Dayfly only adds."
                .to_owned(),
            Service::GoogleDrive => {
                "New files. Google lets it change only what it added.".to_owned()
            }
        };
        points.push(Point { what: "It can add", said });
    }
    if given.access == Access::Picked {
        let said = "Your account's name and e-mail address, to show you on the next page which \
                    account it is."
            .to_owned();
        points.push(Point { what: "It can see", said });
    }
    points.push(Point {
        what: "What for",
        said: format!("So that {name} can fetch the files you choose there, and process them."),
    });
    let at_most = format!("At most {} after you agree.", span(given.lasts));
    let said = match given.offline {
        true => format!("{at_most} Until then also while you are away."),
        false => format!("{at_most} Perhaps less: {} may end it sooner.", house(given.service)),
    };
    points.push(Point { what: "How long", said });
    points.push(Point { what: "Taking it back", said: take_back(name, given.service) });
    points
}

/// Whose pages a person signs in at.
const fn house(service: Service) -> &'static str {
    match service {
        Service::Dropbox => "Dropbox",
        Service::GoogleDrive => "Google",
    }
}

fn take_back(name: &str, service: Service) -> String {
    let place = match service {
        Service::Dropbox => "at dropbox.com under Settings, Connected apps",
        Service::GoogleDrive => "at myaccount.google.com/connections",
    };
    format!("At any time: on the next page, by asking {name}, or {place}.")
}

/// `/connect/…/account`: whose account it is.
#[must_use]
pub fn account_page(given: &AccountPage<'_>) -> String {
    let AccountPage { page, form, name, service, label, onward, code } = *given;
    let title = service.title();
    let next = match onward {
        Some(_) => format!("If this is you, go on to {name}. Nothing is read before that."),
        None => format!("If this is you, give {name} this code. Nothing is read before that."),
    };
    let mut small = Vec::new();
    if onward.is_some() {
        small.push("The button works for one minute. After that, load this page again.".to_owned());
    }
    if service.revokes_whole_grant() {
        small.push(format!(
            "Disconnecting takes back all that {} let this gateway see of your account, unless \
             another of your connections still needs it.",
            house(service)
        ));
    }
    written(&Account {
        title: format!("Is this your {title}?"),
        lead: format!("{name} is about to see the {title} of"),
        label,
        next,
        onward,
        onward_text: format!("Continue to {name}"),
        code,
        code_says: "Good for one minute, once. After that, load this page again.",
        not_you: "Not you?",
        disconnect: "Disconnect",
        disconnect_to: format!("/connect/{page}/disconnect"),
        form,
        small,
    })
}

/// How a connection ended, or where it stands when there is nothing to decide any more.
#[must_use]
pub fn ended_page(name: &str, service: Service, how: Option<Slug>, onward: Option<&str>) -> String {
    let title = service.title();
    let (head, lead) = match how {
        Some(Slug::AccessDenied) => {
            ("Nothing was connected", format!("You said no. {name} sees nothing of your {title}."))
        }
        Some(Slug::ScopeMismatch) => (
            "Nothing was connected",
            format!(
                "{title} granted something else than you agreed to here, so it was taken back at \
                 once. If you unticked something there, start again and leave it ticked, or say no."
            ),
        ),
        Some(Slug::ConnectionRevoked) => (
            "Disconnected",
            format!("{name} can no longer see your {title}. What it was given is destroyed."),
        ),
        Some(Slug::BadCode) => (
            "Disconnected",
            format!("{name} brought a wrong or late code, so the permission was taken back."),
        ),
        Some(_) => (
            "Nothing was connected",
            format!("{title} did not answer as it should. Start again in a while."),
        ),
        None => {
            ("Connected", format!("{name} can use your {title} now, for as long as you agreed to."))
        }
    };
    let small = vec![format!("You can close this page. To take something back later, ask {name}.")];
    let onward_text = format!("Back to {name}");
    written(&Ended { title: head, lead: &lead, small, onward, onward_text })
}

/// A refusal, to a person: on the pages above and on the way back from a provider.
#[must_use]
pub fn refusal_page(slug: Slug, detail: &str, request_id: &str) -> String {
    let small = vec![format!("Reference for whoever helps you: {request_id}")];
    let (lead, onward_text) = (detail, String::new());
    written(&Ended { title: slug.title(), lead, small, onward: None, onward_text })
}

/// Goes with these pages: forms lead to ourselves, and from there to one provider.
#[must_use]
pub fn consent_policy(provider: Option<&str>) -> String {
    // A browser holds a form to this list along its redirects, too.
    let forms = provider.map(|origin| format!(" {origin}")).unwrap_or_default();
    format!(
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; \
         form-action 'self'{forms}; frame-ancestors 'none'"
    )
}

/// A span in words.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds % 3600 / 60);
    let count = |n: u64, unit: &str| match n {
        1 => format!("1 {unit}"),
        n => format!("{n} {unit}s"),
    };
    match (hours, minutes) {
        (0, 0) => count(seconds, "second"),
        (0, minutes) => count(minutes, "minute"),
        (hours, 0) => count(hours, "hour"),
        (hours, minutes) => format!("{} and {}", count(hours, "hour"), count(minutes, "minute")),
    }
}

#[cfg(test)]
mod tests;
