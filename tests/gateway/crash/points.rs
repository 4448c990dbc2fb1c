//! The points: how far each kind of work has come when the gateway is killed.

use std::fmt::Write;

use super::Scene;
use crate::harness::{Ask, Client, Multipart, Wire, docx, eventually, pdf};

/// A body of many runs, which rests in the spool.
const LONG: usize = 2 << 20;
/// A body that rests in memory.
const SHORT: usize = 5000;

/// A moment to be killed at.
pub struct Point {
    pub name: String,
    pub reach: Box<dyn Fn(&mut Scene)>,
}

/// How far a sender has come.
#[derive(Clone, Copy)]
enum Sent {
    Bytes(usize),
    /// Everything, and the answer was not waited for.
    All,
    Answered,
}

#[derive(Clone, Copy)]
enum Shape {
    Length,
    Chunked,
    Multipart,
}

fn point(name: impl Into<String>, reach: impl Fn(&mut Scene) + 'static) -> Point {
    Point { name: name.into(), reach: Box::new(reach) }
}

/// Every point, in the order of a file's day.
pub fn points() -> Vec<Point> {
    let mut all = uploads();
    all.extend(resumable());
    all.extend(downloads());
    all.extend(processing());
    all.extend(deletes());
    all.extend(sweeps());
    all
}

fn uploads() -> Vec<Point> {
    let mut all = Vec::new();
    let progress = [0, 1, 16, 16_383, 16_384, 16_385, 262_143, 262_145, LONG / 2, LONG - 1];
    for (shape, word) in [(Shape::Length, "upload"), (Shape::Chunked, "chunked upload")] {
        for sent in progress {
            let reach = move |scene: &mut Scene| upload(scene, shape, Sent::Bytes(sent));
            all.push(point(format!("{word}: {sent} bytes sent"), reach));
        }
    }
    for sent in [0, 1, 16_384, LONG / 2] {
        let reach = move |scene: &mut Scene| upload(scene, Shape::Multipart, Sent::Bytes(sent));
        all.push(point(format!("form: {sent} bytes sent"), reach));
    }
    for (shape, word) in
        [(Shape::Length, "upload"), (Shape::Chunked, "chunked upload"), (Shape::Multipart, "form")]
    {
        for (sent, how) in [(Sent::All, "all sent"), (Sent::Answered, "answered")] {
            all.push(point(format!("{word}: {how}"), move |scene| upload(scene, shape, sent)));
        }
    }
    all.push(point("small upload: answered", |scene| {
        scene.upload("", SHORT);
    }));
    all.push(point("named upload: answered", |scene| {
        let path = format!("/v1/files/{}", scene.name.letters(48));
        let made = scene.client.put(path, &scene.content.text(300_000)).expect(201);
        scene.ids.push(made.text("id"));
    }));
    all.push(point("broken upload: reset", |scene| {
        upload(scene, Shape::Length, Sent::Bytes(LONG / 2));
        scene.held.drain(..).for_each(Wire::reset);
    }));
    all.push(point("four uploads at once: half sent", |scene| {
        for _ in 0..4 {
            upload(scene, Shape::Length, Sent::Bytes(LONG / 2));
        }
    }));
    all
}

/// Uploads in pieces: one that rests, and one whose second piece is on its way.
fn resumable() -> Vec<Point> {
    let reach = |sent: usize| {
        move |scene: &mut Scene| {
            let (content, client) = (scene.content.text(LONG), scene.client.clone());
            let begin = client.ask("POST", "/v1/files").header("Upload-Complete", "?0");
            let made = begin.body(&content[..SHORT]).send().expect(201);
            let place = made.header("location").unwrap().to_owned();
            scene.ids.push(place.replace("/v1/uploads/upl_", "file_"));
            let more = client.ask("PATCH", place).header("Upload-Complete", "?1");
            let more = more.header("Content-Type", "application/partial-upload");
            let more = more.header("Upload-Offset", SHORT.to_string());
            scene.held.push(send(more, &content[SHORT..], false, sent));
        }
    };
    let each = [0, 1, 16_385, LONG / 2, LONG - SHORT];
    each.map(|sent| point(format!("resumed upload: {sent} bytes sent"), reach(sent))).into()
}

/// A request that sends `body` in that shape, as far as it is to come.
fn send(ask: Ask<'_>, body: &[u8], chunked: bool, sent: usize) -> Wire {
    if !chunked {
        let mut wire = ask.begin(Some(body.len() as u64));
        wire.send(&body[..sent]).unwrap();
        return wire;
    }
    let mut wire = ask.chunked().begin(None);
    // The last chunk declares more than comes.
    for part in body[..sent].chunks(8000) {
        let length = if sent < body.len() { 8000 } else { part.len() };
        let end: &[u8] = if part.len() == length { b"\r\n" } else { b"" };
        wire.send(&[format!("{length:x}\r\n").as_bytes(), part, end].concat()).unwrap();
    }
    if sent == body.len() {
        wire.send(b"0\r\n\r\n").unwrap();
    }
    wire
}

fn upload(scene: &mut Scene, shape: Shape, sent: Sent) {
    let (content, name) = (scene.content.text(LONG), scene.name.letters(48));
    let client = scene.client.clone();
    let ask = client.ask("POST", format!("/v1/files?name={name}"));
    let (ask, body) = match shape {
        Shape::Multipart => {
            let form = Multipart::new().file(&name, &content).finish();
            (ask.header("Content-Type", Multipart::CONTENT_TYPE), form)
        }
        Shape::Length | Shape::Chunked => (ask, content),
    };
    let head = if matches!(shape, Shape::Multipart) { 130 } else { 0 };
    let most = match sent {
        Sent::Bytes(bytes) => bytes + head,
        Sent::All | Sent::Answered => body.len(),
    };
    let mut wire = send(ask, &body, matches!(shape, Shape::Chunked), most);
    if matches!(sent, Sent::Answered) {
        scene.answered(&mut wire);
    }
    scene.held.push(wire);
}

fn downloads() -> Vec<Point> {
    let mut all = Vec::new();
    for read in [0, 1, 16_384, 262_145, LONG / 2, LONG] {
        all.push(point(format!("download: {read} bytes read"), move |scene| {
            let id = scene.upload("", LONG);
            download(scene, &id, read);
        }));
    }
    all.push(point("download: asked for", |scene| {
        let id = scene.upload("", LONG);
        let wire = scene.client.ask("GET", Client::content(&id)).begin_narrow();
        scene.held.push(wire);
    }));
    all.push(point("small download: read", |scene| {
        let id = scene.upload("", SHORT);
        download(scene, &id, SHORT);
    }));
    all.push(point("last download: half read", |scene| {
        let id = scene.upload("&downloads=1", LONG);
        download(scene, &id, LONG / 2);
    }));
    all.push(point("last download: read", |scene| {
        let id = scene.upload("&downloads=1", LONG);
        download(scene, &id, LONG);
    }));
    all.push(point("three downloads at once: begun", |scene| {
        let id = scene.upload("", LONG);
        for read in [1, 1000, 100_000] {
            download(scene, &id, read);
        }
    }));
    all
}

fn download(scene: &mut Scene, id: &str, read: usize) {
    let mut wire = scene.client.ask("GET", Client::content(id)).begin_narrow();
    assert_eq!(wire.head().status, 200);
    assert_eq!(wire.up_to(read).len(), read);
    scene.held.push(wire);
}

fn processing() -> Vec<Point> {
    let mut all = Vec::new();
    for (kind, make) in [("pdf", pdf as fn(&[&str]) -> Vec<u8>), ("docx", docx)] {
        for (share, how) in [(0, "head sent"), (50, "half sent"), (100, "sent")] {
            all.push(point(format!("text of a {kind}: {how}"), move |scene| {
                let words = scene.content.letters(2000);
                let body = make(&[words.as_str(); 60]);
                let client = scene.client.clone();
                let ask = client.ask("POST", "/v1/process/text");
                scene.held.push(send(ask, &body, false, body.len() * share / 100));
            }));
        }
        all.push(point(format!("text of a {kind}: answered"), move |scene| {
            let words = scene.content.letters(2000);
            let text = scene.client.post("/v1/process/text", &make(&[words.as_str(); 60]));
            assert!(text.expect(200).body_text().contains(&words[..100]));
        }));
    }
    for sent in [1, 100_000, LONG / 2, LONG] {
        all.push(point(format!("compress: {sent} bytes sent"), move |scene| {
            process(scene, "compress?format=gzip&level=1", sent);
        }));
    }
    for sent in [LONG / 2, LONG] {
        all.push(point(format!("text and compress: {sent} bytes sent"), move |scene| {
            process(scene, "text+compress?compress.format=zstd", sent);
        }));
    }
    all.push(point("checksum: half sent", |scene| process(scene, "checksum", LONG / 2)));
    all.push(point("four texts at once: sent", |scene| {
        for _ in 0..4 {
            process(scene, "text", LONG);
        }
    }));
    all
}

fn process(scene: &mut Scene, what: &str, sent: usize) {
    let (client, body) = (scene.client.clone(), scene.content.text(LONG));
    let ask = client.ask("POST", format!("/v1/process/{what}"));
    scene.held.push(send(ask, &body, false, sent));
}

fn deletes() -> Vec<Point> {
    let mut all = Vec::new();
    for (size, word) in [(SHORT, "small"), (LONG, "large")] {
        all.push(point(format!("delete of a {word} file: asked for"), move |scene| {
            let id = scene.upload("", size);
            let wire = scene.client.ask("DELETE", format!("/v1/files/{id}")).begin(None);
            scene.held.push(wire);
        }));
        all.push(point(format!("delete of a {word} file: answered"), move |scene| {
            let id = scene.upload("", size);
            scene.client.delete(format!("/v1/files/{id}")).expect(200);
        }));
    }
    all.push(point("delete under a reader: answered", |scene| {
        let id = scene.upload("", LONG);
        download(scene, &id, 1000);
        scene.client.delete(format!("/v1/files/{id}")).expect(200);
    }));
    all.push(point("many deletes: asked for on one connection", |scene| {
        let mut asks = String::new();
        for _ in 0..8 {
            let id = scene.upload("", 300_000);
            let key = crate::harness::key_of("acme");
            let line = format!("DELETE /v1/files/{id} HTTP/1.1\r\nHost: x\r\n");
            write!(asks, "{line}Authorization: Bearer {key}\r\n\r\n").unwrap();
        }
        let mut wire = Wire::open(scene.client.addr);
        wire.send(asks.as_bytes()).unwrap();
        assert_eq!(wire.head().status, 200);
        scene.held.push(wire);
    }));
    all
}

/// Waits until at most `files` are alive.
fn until_left(scene: &Scene, files: f64) {
    eventually("the sweeper has come by", || {
        (scene.gateway.metric("dayfly_live_files") < files + 0.5).then_some(())
    });
}

fn sweeps() -> Vec<Point> {
    let mut all = Vec::new();
    for (left, word) in [(24.0, "before"), (23.0, "begun"), (0.0, "done")] {
        all.push(point(format!("sweep of many: {word}"), move |scene| {
            for _ in 0..24 {
                scene.upload("&ttl=1s", 20_000);
            }
            until_left(scene, left);
        }));
    }
    all.push(point("sweep of a large file: done", |scene| {
        scene.upload("&ttl=1s", LONG);
        until_left(scene, 0.0);
    }));
    all.push(point("sweep under a reader: done", |scene| {
        let id = scene.upload("&ttl=1s", LONG);
        download(scene, &id, 1000);
        until_left(scene, 0.0);
    }));
    all.push(point("sweep under an upload: done", |scene| {
        let (client, content) = (scene.client.clone(), scene.content.text(LONG));
        let ask = client.ask("POST", "/v1/files?ttl=1s");
        let mut wire = send(ask, &content, false, LONG / 2);
        // It is answered when its life ends under it.
        assert!(wire.head().status >= 400);
        scene.held.push(wire);
    }));
    all.push(point("shortened life: over", |scene| {
        let id = scene.upload("&ttl=20m", 300_000);
        let patch = scene.client.ask("PATCH", format!("/v1/files/{id}"));
        let patch = patch.header("Content-Type", "application/json").body(b"{\"ttl\":\"1s\"}");
        patch.send().expect(200);
        until_left(scene, 0.0);
    }));
    all.push(point("shutdown: begun under an upload", |scene| {
        upload(scene, Shape::Length, Sent::Bytes(LONG / 2));
        scene.gateway.signal(rustix::process::Signal::TERM);
    }));
    all
}
