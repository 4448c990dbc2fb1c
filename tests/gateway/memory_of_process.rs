//! What a file leaves in the gateway's memory once it is over: nothing that root can read there.
//!
//! The parent process is searched page by page through /proc, as a thief with root would. Keys
//! cannot be searched for from outside: nobody but the gateway ever knows them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::{
    Client, Found, Marker, Multipart, TestGateway, docx, eventually, noise, pdf, search_memory,
    skip,
};

/// The promise: this long after the end nothing is found.
const WITHIN: Duration = Duration::from_secs(5);

/// Whether the gateway wipes memory as it is freed. As long as it does not, what the tests below
/// find is said aloud, and not held against it.
const FREED_IS_WIPED: bool = true;

/// What was planted, and what has to be ended before it counts as over.
struct Planter {
    client: Client,
    query: &'static str,
    markers: RefCell<Vec<Marker>>,
    ids: RefCell<Vec<String>>,
}

impl Planter {
    fn new(gateway: &TestGateway, query: &'static str) -> Self {
        let (markers, ids) = (RefCell::default(), RefCell::default());
        Self { client: gateway.client(), query, markers, ids }
    }

    fn marker(&self, what: &str) -> Marker {
        let marker = Marker::new(what);
        self.markers.borrow_mut().push(marker.clone());
        marker
    }

    fn keep(&self, id: String) {
        self.ids.borrow_mut().push(id);
    }

    fn uploads(&self) {
        let (client, query) = (&self.client, self.query);
        for (what, size) in [("small", 200), ("middling", 20_000), ("large", 2 << 20)] {
            let marker = self.marker(&format!("{what} upload"));
            self.keep(client.upload(&format!("?{query}"), &marker.text(size)));
            let marker = self.marker(&format!("{what} chunked upload"));
            let ask = client.ask("POST", format!("/v1/files?{query}")).chunked();
            self.keep(ask.body(&marker.text(size)).send().expect(201).text("id"));
            let (part, name) = (format!("{what} part"), format!("{what} part's name"));
            let (part, name) = (self.marker(&part), self.marker(&name));
            let form = Multipart::new().file(&name.letters(48), &part.text(size)).finish();
            let ask = client.ask("POST", format!("/v1/files?{query}"));
            let ask = ask.header("Content-Type", Multipart::CONTENT_TYPE).body(&form);
            let made = ask.send().expect(201).json();
            self.keep(made["files"][0]["id"].as_str().unwrap().to_owned());
        }
    }

    fn downloads(&self) {
        let (client, query) = (&self.client, self.query);
        for (what, size) in [("small", 200), ("large", 2 << 20)] {
            let text = self.marker(&format!("{what} download")).text(size);
            let id = client.upload(&format!("?{query}"), &text);
            client.download(&id).expect(200).is_body(&text);
            let part = client.ask("GET", Client::content(&id)).header("Range", "bytes=50-150");
            part.send().expect(206).is_body(&text[50..=150]);
            let mut reader = client.ask("GET", Client::content(&id)).begin_narrow();
            reader.up_to(1000);
            reader.reset();
            self.keep(id);
        }
    }

    fn names(&self) {
        let (client, query) = (&self.client, self.query);
        let name = self.marker("name in a query").letters(48);
        let id = client.upload(&format!("?{query}&name={name}"), b"content");
        client.get(format!("/v1/files/{id}")).expect(200);
        client.download(&id).expect(200);
        self.keep(id);
        let name = self.marker("name in a path").letters(48);
        let put = client.put(format!("/v1/files/{name}?{query}"), b"content").expect(201);
        self.keep(put.text("id"));
        client.get("/v1/files").expect(200);
    }

    fn processing(&self) {
        let client = &self.client;
        let words = self.marker("pdf").letters(2000);
        client.post("/v1/process/text", &pdf(&[words.as_str(); 20])).expect(200);
        let words = self.marker("docx").letters(2000);
        client.post("/v1/process/text", &docx(&[words.as_str(); 100])).expect(200);
        let text = self.marker("plain text").text(1 << 20);
        client.post("/v1/process/text", &text).expect(200);
        let text = self.marker("compressed").text(1 << 20);
        client.post("/v1/process/compress?format=zstd&level=1", &text).expect(200);
        let text = self.marker("digested").text(1 << 20);
        client.post("/v1/process/checksum", &text).expect(200);
    }

    fn broken_uploads(&self) {
        let text = self.marker("broken upload").text(300_000);
        let ask = self.client.ask("POST", format!("/v1/files?{}", self.query));
        let mut broken = ask.begin(Some(1 << 20));
        broken.send(&text).unwrap();
        broken.reset();
    }
}

/// What is left of the plants once the gateway is empty: looked for until it is gone, or for as
/// long as the promise allows.
#[track_caller]
fn left_over(gateway: &TestGateway, planter: &Planter) -> Vec<Found> {
    gateway.is_empty_again();
    let start = Instant::now();
    let markers = planter.markers.borrow();
    let look = || search_memory(gateway.process(), &markers).expect("it runs").0;
    let found = eventually("the end of a search", || {
        let found = look();
        let over = found.is_empty() || start.elapsed() > WITHIN || !FREED_IS_WIPED;
        over.then_some(found)
    });
    if !found.is_empty() {
        return found;
    }
    // It stays away.
    for size in [100, 20_000, 1 << 20] {
        let id = planter.client.upload("", &noise(size));
        planter.client.download(&id).expect(200);
        planter.client.delete(format!("/v1/files/{id}")).expect(200);
    }
    look()
}

/// Plants by every kind of work, has it all ended by `end`, and judges what is left.
#[track_caller]
fn nothing_is_left(query: &'static str, end: impl Fn(&Planter)) {
    let gateway = TestGateway::start();
    if search_memory(gateway.process(), &[]).is_none_or(|(_, bytes)| bytes < 1 << 20) {
        return skip("the search of the gateway's memory: only root may read it");
    }
    let planter = Planter::new(&gateway, query);
    planter.uploads();
    planter.downloads();
    planter.names();
    planter.processing();
    planter.broken_uploads();
    end(&planter);
    let found = left_over(&gateway, &planter);
    if FREED_IS_WIPED {
        assert!(found.is_empty(), "{} pieces are left:\n{found:?}", found.len());
    } else {
        let kinds: BTreeSet<&str> = found.iter().map(|one| one.what.as_str()).collect();
        let (count, all) = (found.len(), planter.markers.borrow().len());
        let of = format!("{} of {all} plants: {kinds:?}", kinds.len());
        skip(&format!("freed memory is not wiped; {count} pieces are left of {of}"));
    }
}

#[test]
fn nothing_of_a_deleted_file_is_left_in_memory() {
    nothing_is_left("ttl=1h", |planter| {
        for id in planter.ids.borrow().iter() {
            planter.client.delete(format!("/v1/files/{id}")).expect(200);
        }
    });
}

#[test]
fn nothing_of_an_expired_file_is_left_in_memory() {
    // Long enough for a busy machine to read them once.
    nothing_is_left("ttl=4s", |_| {});
}

#[test]
fn what_is_in_memory_is_found_there() {
    let gateway = TestGateway::start();
    let markers = [Marker::new("in memory")];
    let half = 20_000;
    let mut wire = gateway.client().ask("POST", "/v1/files").begin(Some(2 * half));
    let text = markers[0].text(half as usize);
    wire.send(&text).unwrap();
    let see = || search_memory(gateway.process(), &markers);
    if see().is_none_or(|(_, bytes)| bytes < 1 << 20) {
        return skip("the search of the gateway's memory: only root may read it");
    }
    // The half that has come waits for the other, to be sealed with it.
    eventually("the search finds it", || (!see()?.0.is_empty()).then_some(()));
    wire.send(&text).unwrap();
    assert_eq!(wire.head().status, 201);
}
