//! `multipart/form-data` (RFC 7578), part by part as it streams.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use multer::Multipart;

use super::Pace;
use crate::body::{BodyError, ByteStream};

/// Parts of any kind in one body, at most.
const MOST_PARTS: usize = 1000;
/// Bytes that may come without a part's head or a byte of a file among them: what the parser may
/// have to hold at once, and how long a field without a file name may be.
const MOST_BESIDE_FILES: usize = 1 << 20;

/// A file among the parts.
pub struct Part {
    pub name: String,
    pub declared: Option<String>,
    pub body: ByteStream,
}

/// The parts of a body.
pub struct Parts {
    multipart: Multipart<'static>,
    seen: usize,
    watch: Watch,
}

/// What the parser would not tell: how much it has read without giving anything out, and the
/// input's own error, which it would wrap beyond recognition.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<(usize, Option<BodyError>)>>);

impl Watch {
    fn read(&self, frame: Result<Bytes, BodyError>) -> Result<Bytes, BodyError> {
        let mut watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = frame.and_then(|frame| {
            watch.0 += frame.len();
            if watch.0 > MOST_BESIDE_FILES { Err(BodyError::Multipart) } else { Ok(frame) }
        });
        if let Err(error) = &judged {
            watch.1.get_or_insert(*error);
        }
        judged
    }

    fn gave_something(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = 0;
    }

    fn or_multipart(&self) -> BodyError {
        let watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watch.1.unwrap_or(BodyError::Multipart)
    }
}

/// The boundary of a `multipart/form-data` content type.
///
/// # Errors
/// When there is none, more than one, or it is not one of RFC 2046.
pub fn boundary(content_type: &str) -> Result<String, BodyError> {
    let named = content_type.to_ascii_lowercase().matches("boundary=").count();
    if named != 1 {
        return Err(BodyError::Multipart);
    }
    let boundary = multer::parse_boundary(content_type).map_err(|_| BodyError::Multipart)?;
    let fits = (1..=70).contains(&boundary.len()) && boundary.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(boundary) } else { Err(BodyError::Multipart) }
}

impl Parts {
    /// Reads parts from a body with this boundary. The whole body must keep the least rate.
    #[must_use]
    pub fn new(body: ByteStream, boundary: String, pace: Pace) -> Self {
        let watch = Watch::default();
        let reading = watch.clone();
        let body = one_at_a_time(pace.keep(body)).map(move |frame| reading.read(frame));
        Self { multipart: Multipart::new(body, boundary), seen: 0, watch }
    }

    /// The next part that has a file name; others are passed over. The part before must have been
    /// read to its end.
    ///
    /// # Errors
    /// When the syntax is damaged, there are too many parts, or the input fails.
    pub async fn next(&mut self) -> Result<Option<Part>, BodyError> {
        loop {
            let field = self.multipart.next_field().await;
            let Some(field) = field.map_err(|_| self.watch.or_multipart())? else {
                return Ok(None);
            };
            self.watch.gave_something();
            self.seen += 1;
            if self.seen > MOST_PARTS {
                return Err(BodyError::Multipart);
            }
            // A browser's file input that was left empty has an empty name.
            let name = field.file_name().filter(|name| !name.is_empty());
            let Some(name) = name.map(str::to_owned) else { continue };
            let declared = field.content_type().map(ToString::to_string);
            let watch = self.watch.clone();
            let body = field.map(move |frame| {
                watch.gave_something();
                frame.map_err(|_| watch.or_multipart())
            });
            return Ok(Some(Part { name, declared, body: Box::pin(body) }));
        }
    }
}

/// A stream that pauses after each item: the parser reads ahead until its input pauses, and would
/// otherwise hold as much of a file as a fast sender can give.
fn one_at_a_time<S: Stream>(stream: S) -> impl Stream<Item = S::Item> {
    let (mut stream, mut pause) = (Box::pin(stream), false);
    futures_util::stream::poll_fn(move |cx| {
        if std::mem::take(&mut pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = stream.as_mut().poll_next(cx);
        pause = next.is_ready();
        next
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};

    use super::*;
    use crate::clock::SystemClock;

    fn body(text: &str) -> ByteStream {
        let frames: Vec<_> = text
            .as_bytes()
            .chunks(if text.len() > 1000 { 50_000 } else { 7 })
            .map(|part| Ok(Bytes::copy_from_slice(part)))
            .collect();
        Box::pin(stream::iter(frames))
    }

    async fn read(body: ByteStream) -> Result<Vec<(String, String)>, BodyError> {
        let pace = Pace::new(Arc::new(SystemClock), 0);
        let mut parts = Parts::new(body, "B".to_owned(), pace);
        let mut files = Vec::new();
        while let Some(part) = parts.next().await? {
            let bytes: Vec<Bytes> = part.body.try_collect().await?;
            files.push((part.name, String::from_utf8(bytes.concat()).unwrap()));
        }
        Ok(files)
    }

    const TWO: &str = "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\n\
        one\r\n--B\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nno file\r\n\
        --B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"b.txt\"\r\n\r\ntwo\r\n--B--\r\n";

    #[tokio::test]
    async fn parts_with_a_file_name_are_files_and_others_are_passed_over() {
        let files = read(body(TWO)).await.unwrap();
        assert_eq!(files, [("a.txt".into(), "one".into()), ("b.txt".into(), "two".into())]);
    }

    #[tokio::test]
    async fn an_unfinished_body_is_damaged_and_a_broken_one_keeps_its_own_error() {
        assert_eq!(read(body(&TWO[..TWO.len() - 20])).await, Err(BodyError::Multipart));
        let cut = stream::iter([Err(BodyError::Truncated)]);
        let broken = Box::pin(body(&TWO[..80]).chain(cut));
        assert_eq!(read(broken).await, Err(BodyError::Truncated));
    }

    #[tokio::test]
    async fn ten_thousand_parts_are_refused() {
        let part = "--B\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\r\n";
        assert_eq!(read(body(&part.repeat(10_000))).await, Err(BodyError::Multipart));
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused_before_it_fills_the_memory() {
        let head = "--B\r\nContent-Disposition: form-data; name=\"x\"; filename=\"y";
        let endless = stream::iter([Ok(Bytes::from(head))])
            .chain(stream::repeat_with(|| Ok(Bytes::from(vec![b'y'; 64 << 10]))));
        assert_eq!(read(Box::pin(endless)).await, Err(BodyError::Multipart));
    }

    #[tokio::test]
    async fn a_file_may_be_longer_than_what_may_stand_beside_files() {
        let head = "--B\r\nContent-Disposition: form-data; name=\"x\"; filename=\"y\"\r\n\r\n";
        let long = "z".repeat(3 * MOST_BESIDE_FILES);
        let files = read(body(&format!("{head}{long}\r\n--B--\r\n"))).await.unwrap();
        assert_eq!(files[0].1.len(), long.len());
    }

    #[test]
    fn one_boundary_and_no_other_number() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Ok("abc".to_owned()));
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=\"a b\"",
        ] {
            assert_eq!(boundary(bad), Err(BodyError::Multipart), "{bad}");
        }
        assert!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
    }
}
