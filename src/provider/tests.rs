//! What is asked of whom: addresses, scopes, and PKCE as its RFC has it.

use super::*;
use crate::clock::SystemClock;
use crate::entropy::SystemEntropy;
use crate::tasks::Tasks;

fn made(service: Service) -> Arc<dyn Provider> {
    let clock = Arc::new(SystemClock);
    let edges = Edges {
        egress: Egress::new(clock.clone(), Tasks::default(), false),
        clock,
        entropy: Arc::new(SystemEntropy),
        budget: Budget::of(1 << 20),
    };
    let endpoints = Endpoints::built_in(service).unwrap();
    let client_secret = Some(ClientSecret::new("secret of ours".to_owned()));
    provider(Client { service, client_id: "our id".into(), client_secret, endpoints }, edges)
}

fn consent(access: Access, offline: bool) -> Consent<'static> {
    Consent {
        access,
        offline,
        state: "onetime",
        verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        redirect: "https://eu.example/oauth/callback/x",
    }
}

#[test]
fn a_consent_request_carries_the_challenge_of_rfc_7636_and_no_secret() {
    for service in Service::ALL {
        let url = made(service).authorize_url(&consent(Access::Browse, false)).unwrap();
        let origin = made(service).authorize_origin().to_string();
        assert!(url.starts_with(&origin) && origin.starts_with("https://"), "{url}");
        assert!(url.contains("code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"));
        assert!(url.contains("code_challenge_method=S256") && url.contains("state=onetime"));
        assert!(!url.contains("secret") && !url.contains("dBjftJ"), "{url}");
        assert!(!url.contains("include_granted_scopes"));
        let offline = made(service).authorize_url(&consent(Access::Browse, true)).unwrap();
        assert!(url.contains("access_type=online") && offline.contains("access_type=offline"));
    }
}

#[test]
fn scopes_are_sorted_least_and_never_all_of_drive() {
    for service in Service::ALL {
        for access in [Access::Picked, Access::Browse, Access::BrowseWrite] {
            let Some(scopes) = made(service).scopes(access) else {
                assert_eq!((service, access), (Service::Dropbox, Access::Picked));
                assert!(made(service).authorize_url(&consent(access, false)).is_err());
                continue;
            };
            assert!(scopes.is_sorted(), "compared in order: {scopes:?}");
            assert!(!scopes.iter().any(|scope| scope.ends_with("/auth/drive")));
            let writes = scopes.iter().any(|s| s.contains("write") || s.ends_with("drive.file"));
            assert_eq!(writes, access != Access::Browse, "{scopes:?}");
        }
    }
}

#[test]
fn addresses_are_https_or_loopback_that_the_operator_wrote() {
    assert!(Endpoint::parse("https://accounts.example/o/auth", false).is_ok());
    assert!(Endpoint::parse("http://127.0.0.1:9/token", true).is_ok());
    for (url, insecure) in [
        ("http://127.0.0.1:9/token", false),
        ("http://accounts.example/token", true),
        ("https://accounts.example/token?x=1", true),
        ("https://user@accounts.example/token", true),
    ] {
        assert!(Endpoint::parse(url, insecure).is_err(), "{url}");
    }
}

#[test]
fn a_token_that_could_break_a_header_is_none() {
    for token in ["", "a b", "a\r\nX: y", "é", &"x".repeat(5000)] {
        assert!(Bearer::new(token).is_none(), "{token:?}");
    }
    let token = Bearer::new("sl.u.AF_b-c/d+e=~.").unwrap();
    assert_eq!(format!("{token:?}"), "Bearer(..)");
    assert!(token.header().unwrap().is_sensitive());
    let shown = format!("{:?}", ClientSecret::new("hidden".to_owned()));
    assert!(!shown.contains("hidden"));
}
