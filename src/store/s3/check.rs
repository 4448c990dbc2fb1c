//! What the server says of the bucket: where it lies, and whether it keeps what was deleted.
//!
//! No more is claimed than the storage API reports. What a server does not offer (versions, locks)
//! cannot be switched on there, and is reported as such.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled, Permission};

use super::bucket::Bucket;
use super::fault::Fault;
use crate::clock::Wall;

/// What a server reports of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The region the bucket lies in; absent where the server does not say.
    pub bucket_region: Option<String>,
    /// `off`, `on`, `suspended`, or `not-offered`.
    pub versioning: &'static str,
    /// `off`, `on`, or `not-offered`.
    pub object_lock: &'static str,
    /// `off`, `on`, or `not-offered`.
    pub replication: &'static str,
    /// `blocked`, `unset` (no block of the bucket's own, and nobody else may read it), `open`, or
    /// `not-offered`.
    pub public_access: &'static str,
    pub at: Wall,
}

/// Why a bucket cannot take files in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the bucket does not exist: make it in {region}, without versioning")]
    Absent { region: String },
    #[error("the bucket lies in {found}, not in {wanted}: name one that lies there")]
    Region { found: String, wanted: String },
    #[error("the server points elsewhere: the bucket does not lie in {wanted}")]
    Elsewhere { wanted: String },
    #[error("versioning is {0}, so deleted bytes stay: use a bucket that never had it")]
    Versioning(&'static str),
    #[error("object lock is on, so nothing can be deleted in time: use a bucket without it")]
    ObjectLock,
    #[error("replication is on, so bytes leave the bucket: remove the rule")]
    Replication,
    #[error("the public can reach it: turn on all four blocks of public access")]
    Public,
    #[error("the credentials may not ask for the bucket's {0}: allow {1}")]
    Denied(&'static str, &'static str),
    #[error("the server did not answer when asked for the bucket's {0}")]
    Silent(&'static str),
    #[error("the server has not said for {hours} h what the bucket is: nobody knows any more")]
    Stale { hours: u64 },
}

impl Unfit {
    /// Whether the server has said so. Silence says nothing: what was known before stays.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        !matches!(self, Self::Silent(_))
    }
}

/// A question that failed, by what was asked for and the right it takes.
fn failed(fault: Fault, what: &'static str, right: &'static str) -> Unfit {
    match fault {
        Fault::Denied => Unfit::Denied(what, right),
        _ => Unfit::Silent(what),
    }
}

fn told<T, E: ProvideErrorMetadata>(sent: Result<T, SdkError<E>>) -> Result<T, Fault> {
    sent.map_err(|error| Fault::of(&error))
}

/// Some servers answer in an element of another name than AWS does, which the SDK does not read.
/// The status inside is the same word for all.
fn loosely<E>(error: &SdkError<E>) -> Option<&'static str> {
    let answer = error.raw_response().filter(|answer| answer.status().is_success())?;
    let body = std::str::from_utf8(answer.body().bytes()?).ok()?;
    let said = |word: &str| body.contains(&format!("<Status>{word}</Status>"));
    match (body.contains("Versioning"), said("Enabled"), said("Suspended")) {
        (false, ..) => None,
        (true, true, _) => Some("on"),
        (true, false, true) => Some("suspended"),
        (true, false, false) => (!body.contains("Status")).then_some("off"),
    }
}

impl Bucket {
    /// Asks for everything that decides whether the bucket can forget.
    ///
    /// # Errors
    /// The first reason why it cannot, or that the server did not say.
    pub async fn check(&self, wanted: &str, at: Wall) -> Result<Checked, Unfit> {
        let bucket_region = self.region(wanted).await?;
        if let Some(found) = bucket_region.clone().filter(|found| found != wanted) {
            return Err(Unfit::Region { found, wanted: wanted.to_owned() });
        }
        let checked = Checked {
            bucket_region,
            versioning: self.versioning().await?,
            object_lock: self.object_lock().await?,
            replication: self.replication().await?,
            public_access: self.public_access().await?,
            at,
        };
        match checked {
            Checked { versioning: state @ ("on" | "suspended"), .. } => {
                Err(Unfit::Versioning(state))
            }
            Checked { object_lock: "on", .. } => Err(Unfit::ObjectLock),
            Checked { replication: "on", .. } => Err(Unfit::Replication),
            Checked { public_access: "open", .. } => Err(Unfit::Public),
            checked => Ok(checked),
        }
    }

    /// GetBucketLocation first; HeadBucket's header where a server does not offer it.
    async fn region(&self, wanted: &str) -> Result<Option<String>, Unfit> {
        let location =
            || async { told(self.client.get_bucket_location().bucket(&self.name).send().await) };
        let head = || async { told(self.client.head_bucket().bucket(&self.name).send().await) };
        let refused = |fault: Fault, right: &'static str| match fault {
            Fault::NoBucket | Fault::Missing => Unfit::Absent { region: wanted.to_owned() },
            Fault::Elsewhere => Unfit::Elsewhere { wanted: wanted.to_owned() },
            fault => failed(fault, "location", right),
        };
        match self.retry.run(location).await {
            Ok(answer) => {
                let named = answer.location_constraint.map(|name| name.as_str().to_owned());
                // Two names are older than regions (AWS, GetBucketLocation).
                return Ok(Some(match named.as_deref().unwrap_or_default() {
                    "" => "us-east-1".to_owned(),
                    "EU" => "eu-west-1".to_owned(),
                    name => name.to_owned(),
                }));
            }
            Err(Fault::NotOffered | Fault::Denied) => {}
            Err(fault) => return Err(refused(fault, "s3:GetBucketLocation")),
        }
        let answer = self.retry.run(head).await;
        let answer = answer.map_err(|fault| refused(fault, "s3:GetBucketLocation"))?;
        Ok(answer.bucket_region.filter(|name| !name.is_empty()))
    }

    async fn versioning(&self) -> Result<&'static str, Unfit> {
        let ask = || async {
            match self.client.get_bucket_versioning().bucket(&self.name).send().await {
                Ok(answer) => Ok(match answer.status {
                    None => "off",
                    Some(BucketVersioningStatus::Suspended) => "suspended",
                    Some(_) => "on",
                }),
                Err(error) => loosely(&error).ok_or_else(|| Fault::of(&error)),
            }
        };
        match self.retry.run(ask).await {
            Ok(state) => Ok(state),
            Err(Fault::NotOffered) => Ok("not-offered"),
            Err(fault) => Err(failed(fault, "versioning", "s3:GetBucketVersioning")),
        }
    }

    async fn object_lock(&self) -> Result<&'static str, Unfit> {
        let ask = || async {
            told(self.client.get_object_lock_configuration().bucket(&self.name).send().await)
        };
        match self.retry.run(ask).await {
            Ok(answer) => {
                let set =
                    answer.object_lock_configuration.and_then(|lock| lock.object_lock_enabled);
                Ok(if set == Some(ObjectLockEnabled::Enabled) { "on" } else { "off" })
            }
            Err(Fault::NotSet | Fault::Missing) => Ok("off"),
            Err(Fault::NotOffered) => Ok("not-offered"),
            Err(fault) => Err(failed(fault, "object lock", "s3:GetBucketObjectLockConfiguration")),
        }
    }

    async fn replication(&self) -> Result<&'static str, Unfit> {
        let ask =
            || async { told(self.client.get_bucket_replication().bucket(&self.name).send().await) };
        match self.retry.run(ask).await {
            Ok(answer) => {
                let rules = answer.replication_configuration.map_or(0, |set| set.rules.len());
                Ok(if rules > 0 { "on" } else { "off" })
            }
            Err(Fault::NotSet | Fault::Missing) => Ok("off"),
            Err(Fault::NotOffered) => Ok("not-offered"),
            Err(fault) => Err(failed(fault, "replication", "s3:GetReplicationConfiguration")),
        }
    }

    /// The four blocks, where they are set on the bucket. Where they are not, an account may have
    /// set them, which the bucket does not show: then its own grants and policy decide.
    async fn public_access(&self) -> Result<&'static str, Unfit> {
        let ask = || async {
            told(self.client.get_public_access_block().bucket(&self.name).send().await)
        };
        match self.retry.run(ask).await {
            Ok(answer) => {
                let set = answer.public_access_block_configuration;
                let all = set.is_some_and(|set| {
                    let four = [
                        set.block_public_acls,
                        set.ignore_public_acls,
                        set.block_public_policy,
                        set.restrict_public_buckets,
                    ];
                    four.iter().all(|one| *one == Some(true))
                });
                Ok(if all { "blocked" } else { "open" })
            }
            Err(Fault::NotSet | Fault::Missing) => {
                Ok(if self.is_public().await? { "open" } else { "unset" })
            }
            Err(Fault::NotOffered) => Ok("not-offered"),
            Err(fault) => Err(failed(fault, "public access", "s3:GetBucketPublicAccessBlock")),
        }
    }

    async fn is_public(&self) -> Result<bool, Unfit> {
        let policy = || async {
            told(self.client.get_bucket_policy_status().bucket(&self.name).send().await)
        };
        let policy = match self.retry.run(policy).await {
            Ok(answer) => answer.policy_status.and_then(|status| status.is_public) == Some(true),
            Err(Fault::NotSet | Fault::Missing | Fault::NotOffered | Fault::Strange) => false,
            Err(fault) => return Err(failed(fault, "policy", "s3:GetBucketPolicyStatus")),
        };
        let grants =
            || async { told(self.client.get_bucket_acl().bucket(&self.name).send().await) };
        let grants = match self.retry.run(grants).await {
            Ok(answer) => answer.grants.unwrap_or_default(),
            Err(Fault::NotSet | Fault::Missing | Fault::NotOffered) => Vec::new(),
            Err(fault) => return Err(failed(fault, "grants", "s3:GetBucketAcl")),
        };
        let everybody =
            |uri: &str| uri.ends_with("/AllUsers") || uri.ends_with("/AuthenticatedUsers");
        let open = grants.iter().any(|grant| {
            let group = grant.grantee.as_ref().and_then(|who| who.uri.as_deref());
            group.is_some_and(everybody) && grant.permission != Some(Permission::ReadAcp)
        });
        Ok(policy || open)
    }
}
