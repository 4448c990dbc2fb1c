//! One bucket, as requests: sealed bytes in, sealed bytes out, nothing left over.
//!
//! Every request is tried again while the server is only busy, except a delete, which its caller
//! repeats until it succeeds, and a download, which goes on where it broke.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_sdk_s3::primitives::{ByteStream, DateTime, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::fault::Fault;
use super::options::{Lender, PlaceError, S3Options};
use super::retry::Retry;
use super::wire::{SigningTime, Wire};
use crate::clock::{Clock, Wall};
use crate::egress::Egress;
use crate::entropy::Entropy;
use crate::keyring::Doomed;

/// One bucket of one server.
pub(super) struct Bucket {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) retry: Retry,
}

/// Sealed bytes in order, cheap to copy: whoever holds one holds their permits.
#[derive(Clone, Default)]
pub(super) struct Frames {
    frames: VecDeque<Bytes>,
    bytes: u64,
}

/// Something in the bucket that a list has shown.
pub(super) struct Listed {
    pub key: String,
    /// The upload's id, of one that is not complete.
    pub upload: Option<String>,
    pub since: Option<Wall>,
}

impl Frames {
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len() as u64;
        self.frames.push_back(frame);
    }

    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    fn stream(&self) -> ByteStream {
        ByteStream::new(SdkBody::from_body_1_x(self.clone()))
    }

    fn length(&self) -> i64 {
        i64::try_from(self.bytes).unwrap_or(i64::MAX)
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.frames.pop_front();
        self.bytes -= next.as_ref().map_or(0, |frame| frame.len() as u64);
        Poll::Ready(next.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes)
    }
}

impl Bucket {
    /// # Errors
    /// When the bucket has no origin of its own.
    pub fn new(
        options: &S3Options,
        egress: Egress,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, PlaceError> {
        let origin = options.origin()?;
        let credentials = match &options.credentials {
            Lender::Operator { access_key_id: id, secret_access_key: key } => {
                let written = Credentials::new(id.as_str(), key.as_str(), None, None, "dayfly");
                SharedCredentialsProvider::new(written)
            }
            #[cfg(feature = "instance-role")]
            Lender::Instance(origin) => {
                let (origin, egress) = (origin.clone(), egress.clone());
                let role = super::role::Role::new(egress, origin, clock.clone(), entropy.clone());
                SharedCredentialsProvider::new(role)
            }
        };
        let config = aws_sdk_s3::Config::builder()
            .behavior_version_latest()
            .region(Region::new(options.region.clone()))
            .endpoint_url(options.endpoint.to_string())
            .force_path_style(options.path_style)
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .http_client(Wire { egress, origin })
            .time_source(SigningTime(clock.clone()))
            // Waiting and trying again is ours, on our own clock.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Every sealed chunk carries its own tag, and not every server knows these.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .disable_multi_region_access_points(true)
            .disable_s3_express_session_auth(true)
            .accelerate(false)
            .build();
        let client = Client::from_conf(config);
        Ok(Self { client, name: options.bucket.clone(), retry: Retry { clock, entropy } })
    }

    /// Stores a small object with one request.
    pub async fn put(&self, key: &str, frames: &Frames) -> Result<(), Fault> {
        let put = || async {
            let request = self.client.put_object().bucket(&self.name).key(key);
            let request = request.content_length(frames.length()).body(frames.stream());
            // The bytes are sealed and the way is TLS: hashing them once more would cost ten times
            // what sealing them did.
            let sent = request.customize().disable_payload_signing().send().await;
            sent.map(drop).map_err(|error| Fault::of(&error))
        };
        self.retry.run(put).await
    }

    /// Begins an object in parts; returns the upload's id.
    pub async fn begin(&self, key: &str) -> Result<String, Fault> {
        let begin = || async {
            let request = self.client.create_multipart_upload().bucket(&self.name).key(key);
            let begun = request.send().await.map_err(|error| Fault::of(&error))?;
            begun.upload_id.ok_or(Fault::Strange)
        };
        self.retry.run(begin).await
    }

    /// Sends one part; returns what the server calls it.
    pub async fn part(
        &self,
        key: &str,
        upload: &str,
        number: i32,
        frames: &Frames,
    ) -> Result<String, Fault> {
        let part = || async {
            let request = self.client.upload_part().bucket(&self.name).key(key);
            let request = request.upload_id(upload).part_number(number);
            let request = request.content_length(frames.length()).body(frames.stream());
            let sent = request.customize().disable_payload_signing().send().await;
            sent.map_err(|error| Fault::of(&error))?.e_tag.ok_or(Fault::Strange)
        };
        self.retry.run(part).await
    }

    /// Makes the parts one object of `bytes` bytes.
    pub async fn complete(
        &self,
        key: &str,
        upload: &str,
        parts: &[(i32, String)],
        bytes: u64,
    ) -> Result<(), Fault> {
        let part = |(number, tag): &(i32, String)| {
            CompletedPart::builder().part_number(*number).e_tag(tag).build()
        };
        let list = CompletedMultipartUpload::builder();
        let list = list.set_parts(Some(parts.iter().map(part).collect())).build();
        let complete = || async {
            let request = self.client.complete_multipart_upload().bucket(&self.name).key(key);
            let request = request.upload_id(upload).multipart_upload(list.clone());
            request.send().await.map(drop).map_err(|error| Fault::of(&error))
        };
        let Err(fault) = self.retry.run(complete).await else { return Ok(()) };
        // An answer may have been lost on its way: then the upload is gone, the object there.
        let uncertain = matches!(fault, Fault::Busy | Fault::NoUpload);
        if uncertain && self.size(key).await == Ok(bytes) { Ok(()) } else { Err(fault) }
    }

    async fn size(&self, key: &str) -> Result<u64, Fault> {
        let size = || async {
            let request = self.client.head_object().bucket(&self.name).key(key);
            let head = request.send().await.map_err(|error| Fault::of(&error))?;
            head.content_length.and_then(|bytes| u64::try_from(bytes).ok()).ok_or(Fault::Strange)
        };
        self.retry.run(size).await
    }

    /// Drops an upload and its parts. One that is gone already is no error.
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), Fault> {
        let request = self.client.abort_multipart_upload().bucket(&self.name).key(key);
        match request.upload_id(upload).send().await.map_err(|error| Fault::of(&error)) {
            Ok(_) | Err(Fault::NoUpload | Fault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Deletes an object once. One that is gone already is no error.
    pub async fn delete(&self, key: &str, _leave: Doomed<'_>) -> Result<(), Fault> {
        let request = self.client.delete_object().bucket(&self.name).key(key);
        match request.send().await.map_err(|error| Fault::of(&error)) {
            // Versioning was switched on behind our back: the object is only hidden so far.
            Ok(answer) if answer.delete_marker == Some(true) => self.purge(key).await,
            Ok(_) | Err(Fault::Missing) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// Deletes every version of an object, and the marks that hid them.
    async fn purge(&self, key: &str) -> Result<(), Fault> {
        loop {
            let list = self.client.list_object_versions().bucket(&self.name).prefix(key);
            let list = list.send().await.map_err(|error| Fault::of(&error))?;
            let objects = list.versions().iter().map(|one| (one.key(), one.version_id()));
            let marks = list.delete_markers().iter().map(|one| (one.key(), one.version_id()));
            for version in objects.chain(marks).filter(|(name, _)| *name == Some(key)) {
                let request = self.client.delete_object().bucket(&self.name).key(key);
                let request = request.set_version_id(version.1.map(str::to_owned));
                request.send().await.map_err(|error| Fault::of(&error))?;
            }
            if list.is_truncated != Some(true) {
                return Ok(());
            }
        }
    }

    /// Begins to read a stretch of an object, once.
    pub async fn get(&self, key: &str, range: Range<u64>) -> Result<ByteStream, Fault> {
        let asked = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
        let request = self.client.get_object().bucket(&self.name).key(key).range(asked);
        let answer = request.send().await.map_err(|error| Fault::of(&error))?;
        let here = format!("bytes {}-", range.start);
        let told = answer.content_range.is_some_and(|range| range.starts_with(&here));
        if told { Ok(answer.body) } else { Err(Fault::Strange) }
    }

    /// Every upload below a prefix that is not complete.
    pub async fn uploads(&self, prefix: &str) -> Result<Vec<Listed>, Fault> {
        let (mut all, mut marker): (Vec<Listed>, Option<(String, String)>) = (Vec::new(), None);
        loop {
            let page = || async {
                let (key, upload) = marker.clone().unzip();
                let request = self.client.list_multipart_uploads().bucket(&self.name);
                let request = request.prefix(prefix).set_key_marker(key);
                let request = request.set_upload_id_marker(upload);
                request.send().await.map_err(|error| Fault::of(&error))
            };
            let page = self.retry.run(page).await?;
            for upload in page.uploads.unwrap_or_default() {
                let since = upload.initiated.as_ref().and_then(wall);
                let Some(key) = upload.key.filter(|key| key.starts_with(prefix)) else { continue };
                all.push(Listed { key, upload: upload.upload_id, since });
            }
            marker = page.next_key_marker.zip(page.next_upload_id_marker);
            if page.is_truncated != Some(true) || marker.is_none() {
                return Ok(all);
            }
        }
    }

    /// Every object below a prefix.
    pub async fn objects(&self, prefix: &str) -> Result<Vec<Listed>, Fault> {
        let (mut all, mut after): (Vec<Listed>, Option<String>) = (Vec::new(), None);
        loop {
            let page = || async {
                let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
                let request = request.set_continuation_token(after.clone());
                request.send().await.map_err(|error| Fault::of(&error))
            };
            let page = self.retry.run(page).await?;
            for object in page.contents.unwrap_or_default() {
                let since = object.last_modified.as_ref().and_then(wall);
                let Some(key) = object.key.filter(|key| key.starts_with(prefix)) else { continue };
                all.push(Listed { key, upload: None, since });
            }
            after = page.next_continuation_token;
            if page.is_truncated != Some(true) || after.is_none() {
                return Ok(all);
            }
        }
    }
}

fn wall(time: &DateTime) -> Option<Wall> {
    let seconds = u64::try_from(time.secs()).ok()?;
    Some(Wall::from_unix(std::time::Duration::from_secs(seconds)))
}
