//! Every way a connection ends: the token is dead here at once, and there as soon as it can be.

use rustix::process::Signal;
use serde_json::json;

use super::Scene;
use crate::cloud::{Account, Answer as Decision, Kind, Part, Reply, Trick};
use crate::harness::eventually;

#[test]
fn a_provider_that_fails_keeps_no_token_alive_here() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let id = scene.active(kind, &json!({"ttl": "4m"}));
        let cloud = scene.cloud(kind);
        cloud.order(Part::Revoke, 1, Trick::Says(Reply::text(503, "text/html", "<h1>503</h1>")));
        let ended = scene.delete(&id).expect(200).json();
        assert_eq!(ended["state"], "revoked");
        assert_eq!(ended["provider_revocation"], "failed");
        scene.items(&id, "").problem(410, "connection-revoked");
        assert!(scene.show(&id)["account"].is_null(), "the account's name is gone");
        // Shredded before the answer: nothing is left to try again with.
        assert_eq!(scene.gateway.metric("dayfly_keyring_slots_used"), 0.0);
        assert_eq!(scene.delete(&id).expect(200).json()["provider_revocation"], "failed");
        assert_eq!(cloud.count(Part::Revoke), 1);
    }
}

#[test]
fn a_provider_that_keeps_silent_holds_nobody_up_for_long() {
    let scene = Scene::start();
    let id = scene.active(Kind::Dropbox, &json!({"ttl": "20s"}));
    scene.dropbox.order(Part::Revoke, 99, Trick::Holds);
    assert_eq!(scene.delete(&id).expect(200).json()["provider_revocation"], "failed");
    scene.items(&id, "").problem(410, "connection-revoked");
    assert_eq!(scene.gateway.metric("dayfly_keyring_slots_used"), 0.0);
    scene.dropbox.behave();
}

#[test]
fn google_ends_a_persons_whole_grant_so_the_last_connection_does_it() {
    let scene = Scene::start();
    let google = &scene.google;
    let (one, two) =
        (scene.active(Kind::GoogleDrive, &json!({})), scene.active(Kind::GoogleDrive, &json!({})));
    let ada = google.account();
    google.log_in(Account {
        id: "another".to_owned(),
        email: "bob@mail.example".to_owned(),
        ..ada.clone()
    });
    let bobs = scene.active(Kind::GoogleDrive, &json!({}));
    assert_eq!(scene.delete(&one).expect(200).json()["provider_revocation"], "deferred");
    assert_eq!(google.count(Part::Revoke), 0);
    scene.items(&one, "").problem(410, "connection-revoked");
    scene.items(&two, "").expect(200);
    assert_eq!(scene.delete(&two).expect(200).json()["provider_revocation"], "done");
    scene.items(&bobs, "").expect(200);
    // A connection that fails does not take the living one along.
    let narrow = "https://www.googleapis.com/auth/drive.metadata.readonly";
    let failed = scene.consent(Kind::GoogleDrive, &json!({}), &Decision::allow().scope(narrow));
    assert_eq!(scene.failure(&failed.id), "scope-mismatch");
    scene.items(&bobs, "").expect(200);
    assert_eq!(scene.delete(&bobs).expect(200).json()["provider_revocation"], "done");
    assert_eq!(google.tokens(), [""; 0]);
    // At Dropbox each token ends for itself.
    let (one, two) =
        (scene.active(Kind::Dropbox, &json!({})), scene.active(Kind::Dropbox, &json!({})));
    assert_eq!(scene.delete(&one).expect(200).json()["provider_revocation"], "done");
    scene.items(&two, "").expect(200);
}

#[test]
fn a_token_that_has_run_out_can_still_be_revoked() {
    let scene = Scene::start();
    for kind in Kind::BOTH {
        let id = scene.active(kind, &json!({"offline": true}));
        scene.cloud(kind).expire();
        assert_eq!(scene.delete(&id).expect(200).json()["provider_revocation"], "done");
        assert_eq!(scene.cloud(kind).tokens(), [""; 0], "{kind:?}: the refresh token too");
        let gone = scene.active(kind, &json!({}));
        scene.cloud(kind).withdraw();
        let ended = scene.delete(&gone).expect(200).json();
        assert_eq!(ended["provider_revocation"], "done", "it was revoked there before");
    }
}

#[test]
fn what_ends_in_the_middle_of_the_exchange_leaves_no_token() {
    let scene = Scene::start();
    let begun = scene.begin(Kind::Dropbox, &json!({}));
    let mut person = scene.person();
    let sent = scene.agree(&mut person, &begun.url);
    let back = scene.dropbox.decide(&sent, &Decision::allow());
    scene.dropbox.order(Part::Token, 1, Trick::Holds);
    std::thread::scope(|scope| {
        let coming = scope.spawn(|| person.open(&back));
        eventually("the code is sent", || (scene.dropbox.count(Part::Token) == 1).then_some(()));
        assert_eq!(scene.delete(&begun.id).expect(200).json()["state"], "revoked");
        scene.dropbox.behave();
        coming.join().unwrap().expect(303);
    });
    assert_eq!(scene.state(&begun.id), "revoked");
    eventually("its token is revoked", || {
        let given = scene.dropbox.count(Part::Revoke) == 1;
        (given && scene.dropbox.tokens().is_empty()).then_some(())
    });
}

#[test]
fn a_listing_under_way_stops_when_its_connection_ends() {
    let scene = Scene::start();
    let id = scene.active(Kind::Dropbox, &json!({}));
    scene.dropbox.order(Part::List, 1, Trick::Holds);
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| scene.items(&id, ""));
        eventually("it is asked for", || (scene.dropbox.count(Part::List) == 1).then_some(()));
        scene.delete(&id).expect(200);
        listing.join().unwrap().problem(410, "connection-revoked");
    });
    assert_eq!(
        scene.dropbox.count(Part::List),
        1,
        "it was not the provider's silence that ended it"
    );
    scene.dropbox.behave();
}

#[test]
fn the_gateways_end_is_every_connections_end() {
    let mut scene = Scene::start();
    scene.active(Kind::Dropbox, &json!({"offline": true}));
    scene.active(Kind::GoogleDrive, &json!({}));
    scene.consent(Kind::Dropbox, &json!({}), &Decision::allow());
    assert_eq!(scene.dropbox.tokens().len(), 3);
    scene.gateway.signal(Signal::TERM);
    scene.gateway.ends_well();
    assert_eq!(scene.dropbox.tokens(), [""; 0]);
    assert_eq!(scene.google.tokens(), [""; 0]);
}

#[test]
fn a_gateway_ends_on_time_though_a_provider_keeps_silent() {
    let mut scene = Scene::start();
    let id = scene.active(Kind::Dropbox, &json!({}));
    scene.active(Kind::Dropbox, &json!({}));
    scene.dropbox.order(Part::Revoke, 99, Trick::Says(Reply::text(500, "text/plain", "")));
    scene.delete(&id).expect(200);
    scene.dropbox.order(Part::Revoke, 99, Trick::Holds);
    scene.gateway.signal(Signal::TERM);
    scene.gateway.ends_well();
}

#[test]
fn a_draining_gateway_does_not_wait_for_connections() {
    let mut scene = Scene::start();
    let id = scene.active(Kind::Dropbox, &json!({}));
    scene.dropbox.order(Part::Revoke, 1, Trick::Says(Reply::text(500, "text/plain", "")));
    scene.delete(&id).expect(200);
    scene.active(Kind::GoogleDrive, &json!({}));
    scene.gateway.signal(Signal::USR1);
    scene.gateway.ends_well();
    assert_eq!(scene.google.tokens(), [""; 0]);
}
