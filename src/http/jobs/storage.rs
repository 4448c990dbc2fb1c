//! People's storage as a source of jobs, and as the place where their results are put.

use crate::connect::Lent;
use crate::http::caller::Caller;
use crate::http::{Gate, Problem};
use crate::pipeline::{Pull, PutBack, Storage};
use crate::problem::Slug;
use crate::provider::{Access, Service};
use crate::table::ConnectionId;
use crate::wire;

/// An item of a connection, as it is asked for.
#[derive(PartialEq, Eq)]
pub struct Item {
    pub connection: String,
    pub item: String,
}

/// What is to be fetched, and the services it lies at.
pub fn pulls(
    gate: &Gate,
    caller: &Caller,
    items: &[Item],
    subject: Option<&str>,
) -> Result<(Vec<Pull>, Vec<Service>), Problem> {
    let (mut pulls, mut services) = (Vec::with_capacity(items.len()), Vec::new());
    for Item { connection, item } in items {
        let lent = lend(gate, caller, connection, subject)?;
        if lent.picked.as_ref().is_some_and(|picked| !picked.contains(item)) {
            return Err(Slug::ItemNotFound.into());
        }
        let service = lent.provider.service();
        if !services.contains(&service) {
            services.push(service);
        }
        pulls.push(Pull { storage: storage(lent), item: item.clone() });
    }
    Ok((pulls, services))
}

/// Where results are put.
pub fn delivery(
    gate: &Gate,
    caller: &Caller,
    to: wire::Deliver,
    subject: Option<&str>,
) -> Result<PutBack, Problem> {
    let lent = lend(gate, caller, &to.connection, subject)?;
    if lent.access != Access::BrowseWrite {
        let detail = "The person did not agree to anything being put into their storage.";
        return Err(Problem::because(Slug::NotPermitted, detail));
    }
    Ok(PutBack { storage: storage(lent), folder: to.folder.filter(|id| !id.is_empty()) })
}

fn lend(
    gate: &Gate,
    caller: &Caller,
    connection: &str,
    subject: Option<&str>,
) -> Result<Lent, Problem> {
    let id: ConnectionId = connection.parse().map_err(|_| Slug::NotFound)?;
    Ok(gate.connect.lend(id, caller.tenant_id(), subject)?)
}

fn storage(lent: Lent) -> Storage {
    let Lent { provider, tokens, root, cut, .. } = lent;
    Storage { provider, tokens, root, cut }
}
