//! Looking into a connected account: folders, page by page, within bounds.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

use super::{Connect, ConnectError};
use crate::file::TenantId;
use crate::provider::{Access, Ask, Item, Page, ProviderError};
use crate::table::{Connection, ConnectionId, Permission, Standing};

/// Pages without a single item that are passed over before the caller gets one.
const EMPTY_PAGES: usize = 5;
/// Pages of one listing; a folder that goes on for longer never ends.
const MOST_PAGES: u16 = 10_000;
/// The longest cursor that is taken from a provider, bytes.
const LONGEST_CURSOR: usize = 4096;
/// What was picked is asked for one by one.
const PICKED_AT_ONCE: usize = 20;
const TAG_BYTES: usize = 16;

/// What is looked for.
pub struct Browse<'a> {
    pub folder: Option<&'a str>,
    /// From the page before.
    pub cursor: Option<&'a str>,
    pub subject: Option<&'a str>,
    pub limit: usize,
}

/// Part of a folder.
pub struct Listed {
    pub items: Vec<Item>,
    pub cursor: Option<String>,
}

impl Connect {
    /// Part of a folder of the connected account.
    ///
    /// # Errors
    /// When the connection is not active, or the provider does not answer well.
    pub async fn items(
        &self,
        id: ConnectionId,
        tenant: TenantId,
        browse: &Browse<'_>,
    ) -> Result<Listed, ConnectError> {
        let view = self.find_for(id, tenant, browse.subject)?;
        self.suspended(tenant)?;
        let grant = match (&view.standing, &view.grant) {
            (Standing::Active, Some(grant)) => grant.clone(),
            (Standing::Over(..), _) => return Err(ConnectError::Over),
            _ => return Err(ConnectError::NotActive),
        };
        let work = Box::pin(self.pages(&view, &grant, browse));
        let cut = Box::pin(grant.cut.fired());
        match futures_util::future::select(work, cut).await {
            futures_util::future::Either::Left((Err(error), _)) => {
                if error == ConnectError::Provider(ProviderError::Revoked) {
                    self.suspended(tenant)?;
                    self.lost(id);
                    return Err(ConnectError::Over);
                }
                Err(error)
            }
            futures_util::future::Either::Left((listed, _)) => listed,
            futures_util::future::Either::Right(_) => Err(ConnectError::Over),
        }
    }

    async fn pages(
        &self,
        view: &Connection,
        grant: &Arc<Permission>,
        browse: &Browse<'_>,
    ) -> Result<Listed, ConnectError> {
        let (mut number, mut cursor) = match browse.cursor {
            Some(cursor) => {
                let (number, cursor) = self.opened(view, browse.folder, cursor)?;
                (number, Some(cursor))
            }
            None => (0, None),
        };
        for _ in 0..EMPTY_PAGES {
            number += 1;
            if number > MOST_PAGES {
                return Err(ProviderError::Nonsense.into());
            }
            let before = cursor.take();
            let page = self.page(view, grant, browse, before.as_deref()).await?;
            let stuck = before.is_some() && page.items.is_empty() && page.cursor == before;
            if stuck || page.cursor.as_ref().is_some_and(|next| next.len() > LONGEST_CURSOR) {
                return Err(ProviderError::Nonsense.into());
            }
            cursor = page.cursor;
            if !page.items.is_empty() || cursor.is_none() {
                let cursor = cursor.map(|next| self.closed(view, browse.folder, number, &next));
                return Ok(Listed { items: page.items, cursor });
            }
        }
        let cursor = cursor.map(|next| self.closed(view, browse.folder, number, &next));
        Ok(Listed { items: Vec::new(), cursor })
    }

    async fn page(
        &self,
        view: &Connection,
        grant: &Arc<Permission>,
        browse: &Browse<'_>,
        cursor: Option<&str>,
    ) -> Result<Page, ConnectError> {
        let (provider, access) = (&view.terms.provider, view.terms.access);
        let (tokens, account) = (self.tokens(grant, provider), self.open_account(grant)?);
        let root = account.root.as_deref();
        if access != Access::Picked {
            let (folder, limit) = (browse.folder, browse.limit);
            let ask = Ask { folder, cursor, limit, access, root };
            return Ok(provider.list(&tokens, &ask).await?);
        }
        if browse.folder.is_some() {
            return Err(ProviderError::NotFound.into());
        }
        let start = cursor.map_or(Some(0), |at| at.parse::<usize>().ok());
        let start = start.ok_or(ConnectError::Cursor)?;
        let end = account.picked.len().min(start + PICKED_AT_ONCE.min(browse.limit));
        let mut items = Vec::new();
        for id in account.picked.get(start..end).unwrap_or_default() {
            match provider.item(&tokens, id, root).await {
                Ok(item) => items.push(item),
                // Deleted since, or no longer shared.
                Err(ProviderError::NotFound | ProviderError::Refused) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let cursor = (end < account.picked.len()).then(|| end.to_string());
        Ok(Page { items, cursor })
    }

    /// A provider's cursor as a client carries it: bound to its connection and folder.
    fn closed(&self, view: &Connection, folder: Option<&str>, page: u16, next: &str) -> String {
        let mut bytes = self.tag(view, folder, page, next)[..TAG_BYTES].to_vec();
        bytes.extend_from_slice(&page.to_be_bytes());
        bytes.extend_from_slice(next.as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    fn opened(
        &self,
        view: &Connection,
        folder: Option<&str>,
        cursor: &str,
    ) -> Result<(u16, String), ConnectError> {
        let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).map_err(|_| ConnectError::Cursor)?;
        let (tag, rest) = bytes.split_at_checked(TAG_BYTES).ok_or(ConnectError::Cursor)?;
        let (page, next) = rest.split_first_chunk::<2>().ok_or(ConnectError::Cursor)?;
        let next = std::str::from_utf8(next).map_err(|_| ConnectError::Cursor)?;
        let page = u16::from_be_bytes(*page);
        let due = self.tag(view, folder, page, next);
        let same: bool = due[..TAG_BYTES].ct_eq(tag).into();
        same.then(|| (page, next.to_owned())).ok_or(ConnectError::Cursor)
    }

    fn tag(&self, view: &Connection, folder: Option<&str>, page: u16, next: &str) -> [u8; 32] {
        let id = view.terms.id.keys();
        let folder = folder.unwrap_or_default().as_bytes();
        self.marks("cursor", &[id.as_bytes(), folder, &page.to_be_bytes(), next.as_bytes()])
    }
}
