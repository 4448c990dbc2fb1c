//! The IETF's draft, by its points that can be seen from outside.

use super::server::{Server, eventually, skip};
use super::wire::{Answer, Ask, Head, Url};

const KIND: &str = "application/partial-upload";
/// The interop versions whose text is alike; each test of an interim answer asks with both.
const VERSIONS: [&str; 2] = ["8", "9"];

struct Draft(Server);

impl Draft {
    fn start() -> Self {
        Self(Server::of_draft())
    }

    /// A request that begins an upload.
    fn post(&self, complete: &str) -> Ask {
        let ask = self.0.ask("POST", &self.0.url).header("Upload-Complete", complete);
        ask.header("Upload-Draft-Interop-Version", VERSIONS[0])
    }

    #[track_caller]
    fn place(&self, head: &Head) -> Url {
        self.0.url.at(head.header("location").expect("a Location"))
    }

    /// An upload that has these bytes, and waits for more.
    #[track_caller]
    fn begun(&self, bytes: &[u8]) -> Url {
        let made = self.post("?0").body(bytes).send().expect_any(&[200, 201, 204]);
        self.place(&made.head)
    }

    fn head(&self, upload: &Url) -> Answer {
        self.0.ask("HEAD", upload).send()
    }

    #[track_caller]
    fn offset(&self, upload: &Url) -> u64 {
        let seen = self.head(upload).expect_any(&[200, 204]);
        seen.number("upload-offset").expect("Upload-Offset")
    }

    fn patch(&self, upload: &Url, offset: u64, complete: &str, bytes: &[u8]) -> Ask {
        let ask = self.0.ask("PATCH", upload).header("Content-Type", KIND);
        ask.header("Upload-Offset", offset).header("Upload-Complete", complete).body(bytes)
    }
}

/// A limit's value in `Upload-Limit`.
fn limit(head: &Head, name: &str) -> Option<u64> {
    let mut members = head.header("upload-limit")?.split(',').map(str::trim);
    members.find_map(|member| member.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn told(answer: &Answer) -> Option<&Head> {
    answer.interim.iter().find(|head| head.status == 104)
}

#[test]
fn point_01_no_interim_answer_to_a_version_that_is_not_spoken() {
    let draft = Draft::start();
    for version in [None, Some("1"), Some("7"), Some("99"), Some("\"8\""), Some("8.0")] {
        let mut ask = draft.post("?1").without("Upload-Draft-Interop-Version").body(b"hello");
        if let Some(version) = version {
            ask = ask.header("Upload-Draft-Interop-Version", version);
        }
        let answer = ask.send().expect_any(&[200, 201, 204]);
        assert!(told(&answer).is_none(), "{version:?}");
    }
    for version in VERSIONS {
        let ask = draft.post("?1").without("Upload-Draft-Interop-Version").body(b"hello");
        let answer = ask.header("Upload-Draft-Interop-Version", version).send();
        let told = told(&answer).expect("a 104");
        assert_eq!(told.header("upload-draft-interop-version"), Some(version));
    }
}

#[test]
fn point_02_creation_tells_where_it_goes_on_and_what_the_limits_are() {
    let draft = Draft::start();
    let answer = draft.post("?0").body(b"hello").send().expect(201);
    assert!(answer.header("location").is_some());
    let told = told(&answer).expect("a 104");
    assert!(told.header("location").is_some());
    for head in [told, &answer.head] {
        assert!(limit(head, "max-age").is_some() || !draft.0.is_ours(), "its end is a limit");
    }
    assert_eq!(answer.header("upload-complete"), Some("?0"));
    assert_eq!(answer.number("upload-offset"), Some(5));
}

#[test]
fn point_03_an_uploads_place_is_the_same_in_all_answers() {
    let draft = Draft::start();
    let answer = draft.post("?0").body(b"hello").send().expect(201);
    let places: Vec<_> = answer.interim.iter().filter_map(|head| head.header("location")).collect();
    let last = answer.header("location").unwrap();
    assert!(!places.is_empty() && places.iter().all(|place| *place == last), "{places:?} {last}");
}

#[test]
fn point_04_values_of_the_wrong_type_are_no_values() {
    let draft = Draft::start();
    for value in ["1", "true", "?2", "\"?1\"", "?0, ?1"] {
        let answer = draft.post(value).body(b"hello").send();
        assert!(told(&answer).is_none(), "{value}: it is no request of this protocol");
    }
    let upload = draft.begun(b"hello");
    for (name, value) in
        [("Upload-Offset", "5.0"), ("Upload-Offset", "\"5\""), ("Upload-Complete", "1")]
    {
        let ask = draft.patch(&upload, 5, "?0", b"world").without(name).header(name, value);
        ask.send().expect(400);
    }
    let ask = draft.patch(&upload, 5, "?0", b"world").header("Upload-Length", "many");
    ask.send().expect_any(&[200, 204]);
    assert_eq!(draft.offset(&upload), 10, "an unreadable length is none");
}

#[test]
fn point_05_an_offset_never_goes_back() {
    let draft = Draft::start();
    let upload = draft.begun(b"hello");
    draft.patch(&upload, 0, "?0", b"other").send().expect(409);
    draft.patch(&upload, 7, "?0", b"other").send().expect(409);
    assert_eq!(draft.offset(&upload), 5);
    draft.patch(&upload, 5, "?0", b"").send().expect_any(&[200, 204]);
    assert_eq!(draft.offset(&upload), 5);
}

#[test]
fn point_06_head_tells_where_an_upload_stands_and_is_never_stored() {
    let draft = Draft::start();
    let made = draft.post("?0").header("Upload-Length", 10).body(b"hello").send().expect(201);
    let upload = draft.place(&made.head);
    let seen = draft.head(&upload).expect_any(&[200, 204]);
    assert_eq!(seen.number("upload-offset"), Some(5));
    assert_eq!(seen.header("upload-complete"), Some("?0"));
    assert_eq!(seen.number("upload-length"), Some(10));
    assert!(seen.header("upload-limit").is_some());
    assert!(seen.header("cache-control").is_some_and(|said| said.contains("no-store")));
    draft.patch(&upload, 5, "?1", b"world").send().expect_any(&[200, 201, 204]);
    let seen = draft.head(&upload).expect_any(&[200, 204]);
    assert_eq!(seen.header("upload-complete"), Some("?1"));
    assert_eq!(seen.number("upload-offset"), Some(10));
    draft.head(&draft.0.url.at(&format!("{}-none", upload.path))).expect_any(&[404, 410]);
}

#[test]
fn point_07_an_append_has_its_own_type_its_offset_and_says_whether_it_is_the_last() {
    let draft = Draft::start();
    let upload = draft.begun(b"hello");
    let patch = || draft.patch(&upload, 5, "?0", b"world");
    for kind in ["application/offset+octet-stream", "application/octet-stream"] {
        patch().without("Content-Type").header("Content-Type", kind).send().expect(415);
    }
    patch().without("Content-Type").send().expect(415);
    patch().without("Upload-Offset").send().expect(400);
    patch().without("Upload-Complete").send().expect(400);
    let refused = draft.patch(&upload, 3, "?0", b"world").send().expect(409);
    assert_eq!(refused.header("upload-complete"), Some("?0"));
    assert_eq!(refused.number("upload-offset"), Some(5));
    let said = String::from_utf8(refused.body).unwrap();
    assert!(said.contains("http-problem-types#mismatching-upload-offset"), "{said}");
    assert!(
        said.contains("\"expected-offset\":5") && said.contains("\"provided-offset\":3"),
        "{said}"
    );
    assert_eq!(draft.offset(&upload), 5);
}

#[test]
fn point_08_the_last_append_is_answered_like_the_first_request() {
    let draft = Draft::start();
    let at_once = draft.post("?1").body(b"hello world").send();
    assert_eq!(at_once.header("upload-complete"), Some("?1"));
    let upload = draft.begun(b"hello ");
    let kept = draft.patch(&upload, 6, "?0", b"wor").send().expect_any(&[200, 201, 204]);
    assert_eq!(kept.header("upload-complete"), Some("?0"));
    let done = draft.patch(&upload, 9, "?1", b"ld").send().expect(at_once.status());
    assert_eq!(done.header("upload-complete"), Some("?1"));
    assert_eq!(done.header("content-type"), at_once.header("content-type"));
    if draft.0.is_ours() {
        let content = draft.0.url.at(&format!("{}/content", done.header("location").unwrap()));
        assert_eq!(draft.0.ask("GET", &content).send().expect(200).body, b"hello world");
    }
}

#[test]
fn point_09_a_length_is_said_once_and_what_passes_it_ends_the_upload() {
    let draft = Draft::start();
    let refused = draft.post("?1").header("Upload-Length", 7).body(b"hello").send().expect(400);
    let said = String::from_utf8(refused.body).unwrap();
    assert!(said.contains("http-problem-types#inconsistent-upload-length"), "{said}");
    let begun = || {
        let made = draft.post("?0").header("Upload-Length", 10).body(b"hello").send().expect(201);
        draft.place(&made.head)
    };
    let other = begun();
    draft.patch(&other, 5, "?0", b"x").header("Upload-Length", 11).send().expect(400);
    let beyond = begun();
    let refused = draft.patch(&beyond, 5, "?0", b"worlds!").send();
    assert!((400..500).contains(&refused.status()), "{}", refused.status());
    draft.head(&beyond).expect_any(&[404, 410]);
    let short = begun();
    draft.patch(&short, 5, "?1", b"wor").send().expect(400);
    let chunked = begun();
    let refused = draft.patch(&chunked, 5, "?0", b"worlds!").chunked(None).send();
    assert!((400..500).contains(&refused.status()), "{}", refused.status());
}

#[test]
fn point_10_an_interim_answer_to_an_append_tells_the_offset_and_no_place() {
    let draft = Draft::start();
    let upload = draft.begun(b"hello");
    let ask = draft.patch(&upload, 5, "?0", b"world");
    let answer = ask.header("Upload-Draft-Interop-Version", VERSIONS[1]).send();
    for head in answer.interim.iter().filter(|head| head.status == 104) {
        assert!(head.number("upload-offset").is_some());
        assert_eq!(head.header("location"), None);
    }
}

#[test]
fn point_11_a_deleted_upload_is_gone_and_whoever_sends_is_cut() {
    let draft = Draft::start();
    let upload = draft.begun(b"hello");
    let mut sending = draft.patch(&upload, 5, "?1", b"wor").missing(1000).begin();
    draft.0.ask("DELETE", &upload).send().expect_any(&[200, 202, 204]);
    draft.head(&upload).expect_any(&[404, 410]);
    let cut = sending.answer("PATCH");
    assert!(cut.is_none_or(|answer| answer.status() >= 400), "it was not taken");
    draft.patch(&upload, 5, "?1", b"world").send().expect_any(&[404, 410]);
}

#[test]
fn point_12_of_two_that_write_one_wins_and_head_tells_what_the_next_can_use() {
    let draft = Draft::start();
    let upload = draft.begun(b"hello");
    let stuck = draft.patch(&upload, 5, "?0", b"wor").missing(1000).begin();
    let offset = eventually("what came is kept", || {
        let offset = draft.offset(&upload);
        (offset == 8).then_some(offset)
    });
    draft.patch(&upload, offset, "?0", b"ld").send().expect_any(&[200, 204]);
    assert_eq!(draft.offset(&upload), 10);
    drop(stuck);
    let race: Vec<u16> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| draft.patch(&upload, 10, "?0", &[b'!'; 50_000]).send().status())
            })
            .collect();
        sent.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let won = race.iter().filter(|status| (200..300).contains(*status)).count();
    assert_eq!(won, 1, "{race:?}");
    assert!(race.iter().all(|status| matches!(status, 200..=299 | 409 | 423)), "{race:?}");
    assert_eq!(draft.offset(&upload), 50_010);
}

#[test]
fn point_13_options_tells_the_limits() {
    let draft = Draft::start();
    let answer = Ask::new("OPTIONS", &draft.0.url).send().expect_any(&[200, 204]);
    let said = answer.header("upload-limit").expect("Upload-Limit");
    for member in said.split(',') {
        let (name, value) = member.trim().split_once('=').expect("a limit");
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{said}");
        assert!(value.parse::<u64>().is_ok(), "{said}");
    }
}

#[test]
fn point_14_what_is_too_large_is_told_how_large_it_may_be() {
    let draft = Draft::start();
    let answer = Ask::new("OPTIONS", &draft.0.url).send();
    let Some(most) = limit(&answer.head, "max-size") else { return skip("max-size: no limit") };
    let refused = draft.post("?0").header("Upload-Length", most + 1).body(b"hello").send();
    assert_eq!(limit(&refused.expect(413).head, "max-size"), Some(most));
    draft.post("?0").send().expect(201);
}

#[test]
fn point_15_the_age_is_the_seconds_that_are_left_and_only_falls() {
    let draft = Draft::start();
    let upload = draft.begun(b"hello");
    let Some(first) = limit(&draft.head(&upload).head, "max-age") else {
        return skip("max-age: no limit");
    };
    eventually("a second has passed", || {
        let left = limit(&draft.head(&upload).head, "max-age").unwrap();
        assert!(left <= first, "it has grown from {first} to {left}");
        (left < first).then_some(())
    });
}

#[test]
fn point_16_offsets_count_the_bytes_and_not_how_they_are_framed() {
    let draft = Draft::start();
    let made = draft.post("?0").body(&[7; 5000]).chunked(None).send().expect(201);
    assert_eq!(made.number("upload-offset"), Some(5000));
    let upload = draft.place(&made.head);
    draft.patch(&upload, 5000, "?0", &[8; 3000]).chunked(None).send().expect_any(&[200, 204]);
    assert_eq!(draft.offset(&upload), 8000);
}

#[test]
fn point_17_a_body_that_waits_is_asked_for_all_the_same() {
    let draft = Draft::start();
    let ask = draft.post("?1").header("Expect", "100-continue").missing(5);
    let mut wire = ask.begin();
    let mut seen = Vec::new();
    while seen.last() != Some(&100) {
        seen.push(wire.head().expect("an interim answer").status);
    }
    assert!(seen.contains(&104), "{seen:?}");
    assert!(wire.send(b"hello"));
    wire.answer("POST").unwrap().expect_any(&[200, 201, 204]);
}

#[test]
fn point_18_a_files_name_is_in_its_disposition() {
    let draft = Draft::start();
    let named = "inline; filename=\"report.txt\"";
    let made = draft.post("?1").header("Content-Disposition", named).body(b"hello").send();
    let made = made.expect_any(&[200, 201, 204]);
    if draft.0.is_ours() {
        let said = String::from_utf8(made.body).unwrap();
        assert!(said.contains("\"name\":\"report.txt\""), "{said}");
    }
}

#[test]
fn point_19_a_place_cannot_be_guessed_and_belongs_to_whoever_began_it() {
    let draft = Draft::start();
    let (one, other) = (draft.begun(b"hello"), draft.begun(b"hello"));
    let last = |url: &Url| url.path.rsplit('/').next().unwrap_or_default().to_owned();
    let (one_id, other_id) = (last(&one), last(&other));
    assert_ne!(one_id, other_id);
    let shared = one_id.bytes().zip(other_id.bytes()).filter(|(a, b)| a == b).count();
    assert!(one_id.len() >= 20 && shared < one_id.len() / 2, "{one_id} {other_id}");
    if draft.0.is_ours() {
        Ask::new("HEAD", &one).send().expect(401);
        Ask::new("PATCH", &one).header("Content-Type", KIND).send().expect(401);
    }
}
