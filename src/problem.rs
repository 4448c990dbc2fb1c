//! Every way Dayfly says no: slug, status and title (RFC 9457).
//!
//! Pure words: which error of which module becomes which problem is decided in `http/problem.rs`
//! alone. Each slug is also a page, `/problems/<slug>`, whose text is `advice`.

macro_rules! slugs {
    ($($variant:ident $slug:literal $status:literal $title:literal $advice:literal;)*) => {
        /// A problem's stable name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Slug { $(
            #[doc = $title]
            $variant,
        )* }

        impl Slug {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The last part of the problem's `type`, and its page.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The HTTP status it travels with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What a client can do about it, for the problem's page.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }

            #[must_use]
            pub fn parse(slug: &str) -> Option<Self> {
                match slug { $($slug => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

slugs! {
    BadRequest "bad-request" 400 "The request cannot be understood"
        "Compare the request with /openapi.json; the detail names the part that is wrong.";
    UnknownParameter "unknown-parameter" 400 "Unknown query parameter"
        "Remove the parameter, or check its spelling: Dayfly refuses what it would otherwise silently ignore.";
    TokenInUrl "token-in-url" 400 "A credential in the URL"
        "Send the key in the Authorization header. URLs end up in logs; treat this key as leaked and rotate it.";
    SecretInUrl "secret-in-url" 400 "A secret option in the URL"
        "Send a document's password in the Dayfly-Password header.";
    BadFilename "bad-filename" 400 "The file name is too long"
        "Names are cut at 255 bytes, but one over 4096 bytes is refused.";
    DigestMismatch "digest-mismatch" 400 "The bytes do not match their digest"
        "Nothing was kept. Compute the digest over exactly the bytes that are sent, and send them again.";
    BadDigest "bad-digest" 400 "The digest header cannot be understood"
        "RFC 9530: sha-256=:<base64>: or sha-512=:<base64>:.";
    OauthState "oauth-state" 400 "The way back from the provider cannot be followed"
        "It was used before, took too long, or began in another browser. Nothing was connected: start again where you came from.";
    BadCode "bad-code" 400 "The code does not confirm the connection"
        "A code is good for one minute, once. The token was revoked and destroyed: ask the person again.";
    TruncatedBody "truncated-body" 400 "The body ended too early"
        "Nothing was kept. Send the file again.";
    BadMultipart "bad-multipart" 400 "The multipart body cannot be understood"
        "RFC 7578: one boundary, each file in a part with a filename, at most 1000 parts. Nothing was kept.";
    IdempotencyUnsupported "idempotency-unsupported" 400 "Idempotency-Key has no meaning here"
        "Only the requests that create something accept it; remove the header.";
    InconsistentUploadLength "inconsistent-upload-length" 400 "The upload's length contradicts itself"
        "It was said differently before, or more bytes came than it has.";
    Unauthenticated "unauthenticated" 401 "No valid key or grant"
        "Send Authorization: Bearer dfk_<id>_<secret> with a key that is configured and has not ended, or a grant that is not used up.";
    Forbidden "forbidden" 403 "The key's roles do not allow this"
        "Ask the operator for a key with the role this request needs.";
    NotPermitted "not-permitted-by-policy" 403 "The tenant's policy does not allow this"
        "The operator sets policy per tenant: regions, longest life, largest file, processors.";
    AccessDenied "access-denied" 403 "The person said no"
        "Nothing was connected. Ask again only if they want you to.";
    ScopeMismatch "scope-mismatch" 403 "The provider granted something else than was asked"
        "Less or more than the person agreed to here. The token was revoked; ask them again.";
    Suspended "suspended" 403 "The tenant is suspended"
        "Nothing can be read or taken in until the owner or the operator lifts it; deadlines run on.";
    UploadComplete "upload-complete" 403 "The upload takes no more"
        "It is a file, or part of one: its bytes stay as they are.";
    NotFound "not-found" 404 "Not found"
        "There is nothing under this address for this key.";
    ItemNotFound "item-not-found" 404 "The provider has no such item"
        "It was deleted or moved since it was listed, or this connection may not see it. List again.";
    MethodNotAllowed "method-not-allowed" 405 "The method is not allowed here"
        "The Allow header lists the methods.";
    UploadTooSlow "upload-too-slow" 408 "The upload was too slow"
        "Nothing was kept. The operator sets the least rate a body must keep.";
    MismatchingUploadOffset "mismatching-upload-offset" 409 "The upload goes on elsewhere"
        "Upload-Offset tells where: send the bytes from there on. Nothing has changed.";
    Conflict "conflict" 409 "The first request with this key is still running"
        "Wait for the first answer, then ask again.";
    ConnectionNotActive "connection-not-active" 409 "The connection is not active yet"
        "The person has to consent on its page, and the app to confirm it with the code they bring.";
    ConnectionTaken "connection-taken" 410 "The page belongs to another browser"
        "It opens in one browser alone, the first. If that was not you, do not go on: ask whoever sent you for a new link.";
    ConnectionRevoked "connection-revoked" 410 "The connection has ended"
        "It was revoked, failed or ran out; its token is destroyed. Ask the person for a new one.";
    Deleted "deleted" 410 "The file was deleted"
        "Its keys are destroyed; nobody can bring it back. The receipt tells when.";
    Expired "expired" 410 "The file has expired"
        "Its keys are destroyed; nobody can bring it back. Upload it again if it is still needed.";
    Downloaded "downloaded" 410 "The file's downloads are used up"
        "Its keys are destroyed, or will be when the last delivery ends.";
    Consumed "consumed" 410 "The file was consumed by its job"
        "Its keys are destroyed. The job's outputs have lives of their own.";
    Erased "erased" 410 "The tenant's data was erased"
        "Its keys are destroyed; nobody can bring it back.";
    KeyLost "key-lost" 410 "The file's keys were lost"
        "The gateway stopped while the file lived. Its bytes can never be opened again; upload it again.";
    PreconditionFailed "precondition-failed" 412 "The file is not the one the request expects"
        "If-Match names another ETag than the file has.";
    TusVersion "tus-version" 412 "Another version of tus"
        "Send Tus-Resumable: 1.0.0, the version there is.";
    TooLarge "too-large" 413 "The file is too large"
        "The limit is in the detail. Nothing was kept.";
    UnsupportedMediaType "unsupported-media-type" 415 "This step cannot read this type"
        "GET /v1/processors lists the types each step reads.";
    RangeNotSatisfiable "range-not-satisfiable" 416 "The range lies outside the file"
        "Content-Range tells the file's size.";
    WrongRegion "wrong-region" 421 "Another gateway holds this region"
        "Location names the gateway to ask.";
    BadTtl "bad-ttl" 422 "The life asked for is out of bounds"
        "A ttl is 1s to 23h30m, written like 90s, 15m, 4h or 23h30m.";
    NotOffered "not-offered" 422 "The provider does not offer this"
        "dropbox: browse, browse+write. google_drive: picked, browse, browse+write.";
    BadDownloads "bad-downloads" 422 "The number of downloads is out of bounds"
        "downloads is a whole number of at least 1.";
    RegionUnavailable "region-unavailable" 422 "No such region"
        "GET /v1/regions lists the regions.";
    IdempotencyMismatch "idempotency-mismatch" 422 "The key was used for another request"
        "Use a fresh Idempotency-Key for every new request.";
    UnknownStep "unknown-step" 422 "No such processing step"
        "GET /v1/processors lists the steps.";
    BadOption "bad-option" 422 "The step does not take this option"
        "GET /v1/processors lists each step's options.";
    ArchiveBomb "archive-bomb" 422 "The archive unpacks to too much"
        "Sizes, ratio and nesting of archives are limited.";
    ArchiveUnsafePath "archive-unsafe-path" 422 "The archive holds an unsafe path"
        "One of its members would leave the folder it is unpacked in, or is no file, folder or link.";
    ImageTooLarge "image-too-large" 422 "The image is too large"
        "Its width times its height is over the limit, whatever its bytes.";
    DocumentTooComplex "document-too-complex" 422 "The document is too complex"
        "It nests deeper, or refers to more objects, than the limits allow.";
    DocumentEncrypted "document-encrypted" 422 "The document is encrypted"
        "Send its password in the Dayfly-Password header.";
    DocumentDamaged "document-damaged" 422 "The document is damaged"
        "It does not follow its own format; open and save it with the program that made it.";
    ProcessorLimit "processor-limit" 422 "The step ran over its limits"
        "Time, memory and output of a step are limited; the document reached one of them.";
    Malware "malware" 422 "The scanner found malware"
        "The file is not passed on. Nothing was kept of this request.";
    UploadLocked "upload-locked" 423 "Another request writes to the upload"
        "Ask with HEAD where it stands: that makes the other let go. What it brought is kept.";
    RateLimited "rate-limited" 429 "Too many requests"
        "Wait as long as Retry-After says.";
    QuotaExceeded "quota-exceeded" 429 "The tenant's live bytes are used up"
        "Delete files, or wait until some expire.";
    ChecksumMismatch "checksum-mismatch" 460 "The bytes do not match their checksum"
        "None of them was kept, and the upload is where it was: send them again.";
    Internal "internal" 500 "The gateway failed"
        "Nothing was kept of this request. The operator finds the cause under the request id.";
    UpstreamFailed "upstream-failed" 502 "A service behind the gateway failed"
        "It refused, broke off or answered nonsense. Try again later; the operator knows the service.";
    Overloaded "overloaded" 503 "The gateway is busy"
        "Wait as long as Retry-After says, then send the request again.";
    ScannerUnavailable "scanner-unavailable" 503 "The virus scanner does not answer"
        "Nothing passes unscanned. Try again later.";
    ShuttingDown "shutting-down" 503 "The gateway is stopping"
        "It takes nothing new in. Ask another instance, or wait for its successor.";
    UpstreamTimeout "upstream-timeout" 504 "A service behind the gateway was too slow"
        "It kept everybody waiting for longer than the operator allows. Try again later.";
    NotLoggedYet "not-logged-yet" 503 "The next checkpoint will have it"
        "The log gets a new checkpoint every minute. Wait as long as Retry-After says, then ask again.";
    StorageUnfit "storage-unfit" 503 "The storage is not fit to take files in"
        "What it reports of itself has changed, so nothing new is stored. What it holds can still be read and ends on time.";
    StorageFull "storage-full" 507 "The temporary storage is full"
        "Nothing was kept. Try again when files have expired.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_parses_back_and_speaks_of_an_error() {
        for slug in Slug::ALL {
            assert_eq!(Slug::parse(slug.as_str()), Some(*slug));
            assert!((400..600).contains(&slug.status()), "{}", slug.as_str());
            assert!(!slug.title().is_empty() && slug.advice().ends_with('.'));
        }
    }
}
