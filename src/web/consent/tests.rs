//! The pages of a connection say who, what and how long, and need nothing from elsewhere.

use super::*;

fn asked(service: Service, access: Access) -> ConsentPage<'static> {
    ConsentPage {
        page: "secretofthepage",
        form: "tokenoftheform",
        name: "Acme <Ltd> & Sons",
        return_host: Some("app.acme.example"),
        service,
        access,
        offline: false,
        lasts: Duration::from_secs(5400),
    }
}

fn all() -> Vec<String> {
    let mut pages = Vec::new();
    for service in Service::ALL {
        for access in [Access::Picked, Access::Browse, Access::BrowseWrite] {
            pages.push(consent_page(&asked(service, access)));
        }
        for onward in [None, Some("https://app.acme.example/back?connection=c&code=d")] {
            pages.push(account_page(&AccountPage {
                page: "secretofthepage",
                form: "tokenoftheform",
                name: "Acme",
                service,
                label: "Ada <script>alert(1)</script>",
                onward,
                code: "abcdabcdabcdabcd",
            }));
        }
        for how in [None, Some(Slug::AccessDenied), Some(Slug::ScopeMismatch)] {
            pages.push(ended_page("Acme", service, how, None));
        }
    }
    pages.push(refusal_page(Slug::OauthState, "It took too long.", "req_a"));
    pages
}

#[test]
fn pages_carry_no_script_and_load_nothing_from_elsewhere() {
    for page in all() {
        for word in ["<script", "style=", "<img", "<iframe", "onclick"] {
            assert!(!page.contains(word), "{word} in {page}");
        }
        assert_eq!(page.matches("<h1>").count(), 1, "{page}");
        let hrefs = page.split("href=\"").skip(1).filter(|href| href.starts_with("http"));
        assert!(hrefs.count() <= 1, "the way on is the only link away: {page}");
        assert!(page.contains("<html lang=\"en\">") && page.contains("name=\"viewport\""));
    }
}

#[test]
fn the_question_says_who_what_and_how_long_before_it_asks() {
    let page = consent_page(&asked(Service::Dropbox, Access::Browse));
    let places: Vec<usize> = [
        "Acme &#60;Ltd&#62; &#38; Sons (app.acme.example) asks you",
        "May Acme",
        "All files of your Dropbox",
        "At most 1 hour and 30 minutes",
        "action=\"/connect/secretofthepage/consent\"",
        "action=\"/connect/secretofthepage/refuse\"",
    ]
    .iter()
    .map(|text| page.find(text).unwrap_or_else(|| panic!("{text} is missing in {page}")))
    .collect();
    assert!(places.is_sorted(), "{places:?}");
    let picked = consent_page(&asked(Service::GoogleDrive, Access::Picked));
    assert!(!picked.contains("All files") && picked.contains("Only the files that you pick"));
}

#[test]
fn spans_are_said_in_words() {
    for (seconds, said) in [
        (1, "1 second"),
        (60, "1 minute"),
        (5400, "1 hour and 30 minutes"),
        (84_600, "23 hours and 30 minutes"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), said);
    }
}

#[test]
fn forms_may_lead_to_one_provider_and_nowhere_else() {
    let policy = consent_policy(Some("https://www.dropbox.com"));
    assert!(policy.contains("form-action 'self' https://www.dropbox.com;"), "{policy}");
    assert!(consent_policy(None).contains("form-action 'self';"));
}
