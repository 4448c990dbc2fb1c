//! Secrets that the settings only point to: in a file of their own, in the environment, or lent by
//! the machine.

use std::path::Path;

use zeroize::Zeroizing;

use super::raw;
use super::typed::Complaints;
use crate::disk;
use crate::store::Lender;

/// Who gives the credentials of the bucket: the operator, or the machine.
pub(super) fn of_bucket(
    s3: &raw::S3,
    insecure_loopback: bool,
    wrong: &mut Complaints,
) -> Option<Lender> {
    if s3.instance_role {
        return instance(s3, insecure_loopback, wrong);
    }
    if s3.instance_metadata_url.is_some() {
        let complaint = "it is asked only where vault.s3.instance_role = true";
        wrong.say("vault.s3.instance_metadata_url", complaint);
    }
    let mut written = |name: &str, file: Option<&Path>, variables: &[&str]| {
        secret(&format!("vault.s3.{name}_file"), file, variables, wrong)
    };
    let id = ["DAYFLY_VAULT_S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"];
    let access_key_id = written("access_key_id", s3.access_key_id_file.as_deref(), &id);
    let key = ["DAYFLY_VAULT_S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"];
    let file = s3.secret_access_key_file.as_deref();
    let secret_access_key = written("secret_access_key", file, &key)?;
    Some(Lender::Operator { access_key_id: access_key_id?, secret_access_key })
}

#[cfg(feature = "instance-role")]
fn instance(s3: &raw::S3, insecure_loopback: bool, wrong: &mut Complaints) -> Option<Lender> {
    if s3.access_key_id_file.is_some() || s3.secret_access_key_file.is_some() {
        let complaint = "either the machine's role or files with credentials, not both";
        wrong.say("vault.s3.instance_role", complaint);
    }
    let written = s3.instance_metadata_url.as_deref();
    let origin = crate::egress::Origin::instance(written, insecure_loopback);
    let origin = origin.map_err(|error| wrong.say("vault.s3.instance_metadata_url", error));
    origin.ok().map(Lender::Instance)
}

#[cfg(not(feature = "instance-role"))]
fn instance(_: &raw::S3, _: bool, wrong: &mut Complaints) -> Option<Lender> {
    let complaint = "this build cannot: build it with --features instance-role, or name files";
    wrong.say("vault.s3.instance_role", complaint);
    None
}

/// A secret from `file`, else from the first of these variables that is set.
pub(super) fn secret(
    key: &str,
    file: Option<&Path>,
    variables: &[&str],
    wrong: &mut Complaints,
) -> Option<Zeroizing<String>> {
    if let Some(file) = file {
        let text = disk::read_text(file).map(Zeroizing::new);
        let text = match text {
            Ok(text) => Zeroizing::new(text.trim().to_owned()),
            Err(error) => {
                wrong.say(key, format!("the file cannot be read ({})", error.kind()));
                return None;
            }
        };
        return wrong.need(key, Some(text).filter(|text| !text.is_empty()), "the file is empty");
    }
    let found = variables.iter().find_map(|name| variable(name));
    wrong.need(key, found, &format!("name a file, or set {}", variables.join(" or ")))
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that others must go through")]
fn variable(name: &str) -> Option<Zeroizing<String>> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Zeroizing::new)
}
