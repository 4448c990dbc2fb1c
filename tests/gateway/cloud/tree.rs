//! What lies in an account: the same files for both services, each in its own words.

use std::sync::Arc;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::Kind;

/// A file or a folder.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: String,
    /// Empty for the root.
    pub parent: String,
    pub name: String,
    pub folder: bool,
    pub bytes: u64,
    pub media_type: String,
    /// The shared drive it lies in.
    pub drive: Option<String>,
    /// Google: what a shortcut leads to.
    pub target: Option<(String, String)>,
    /// Its bytes; without them as many `x` as it says it has.
    pub content: Option<Arc<Content>>,
    /// Counts up when its content changes.
    pub version: u32,
    /// What it is made into, for documents without bytes.
    pub made: Option<(String, Arc<Content>)>,
    /// Google: what a link to it has to be asked for with.
    pub key: Option<String>,
}

/// Bytes, and their hashes in hexadecimal.
#[derive(Debug)]
pub struct Content {
    pub bytes: Vec<u8>,
    pub sha256: String,
    pub md5: String,
    pub blocks: String,
}

impl Content {
    pub fn of(bytes: Vec<u8>) -> Arc<Self> {
        let mut blocks = Sha256::new();
        for block in bytes.chunks(4 << 20) {
            blocks.update(Sha256::digest(block));
        }
        let hex = |hash: &[u8]| data_encoding::HEXLOWER.encode(hash);
        let (sha256, md5) = (hex(&Sha256::digest(&bytes)), hex(&Md5::digest(&bytes)));
        Arc::new(Self { sha256, md5, blocks: hex(&blocks.finalize()), bytes })
    }
}

#[derive(Clone, Default)]
pub struct Tree {
    pub nodes: Vec<Node>,
    /// Google: shared drives, id and name.
    pub drives: Vec<(String, String)>,
}

pub const FOLDER: &str = "application/vnd.google-apps.folder";
pub const SHORTCUT: &str = "application/vnd.google-apps.shortcut";

impl Node {
    pub fn file(kind: Kind, id: &str, parent: &str, name: &str) -> Self {
        let mark = |id: &str| match (kind, id) {
            (_, "") => String::new(),
            (Kind::Dropbox, id) => format!("id:{id}"),
            (Kind::GoogleDrive, id) => id.to_owned(),
        };
        Self {
            id: mark(id),
            parent: mark(parent),
            name: name.to_owned(),
            folder: false,
            bytes: 1234,
            media_type: "application/pdf".to_owned(),
            drive: None,
            target: None,
            content: None,
            version: 1,
            made: None,
            key: None,
        }
    }

    /// A file with these bytes.
    pub fn of(kind: Kind, id: &str, parent: &str, name: &str, bytes: &[u8]) -> Self {
        let content = Some(Content::of(bytes.to_vec()));
        Self { bytes: bytes.len() as u64, content, ..Self::file(kind, id, parent, name) }
    }

    /// One of the service's own documents, made into these bytes when it is asked for.
    pub fn document(kind: Kind, id: &str, media_type: &str, made: &str, bytes: &[u8]) -> Self {
        let made = Some((made.to_owned(), Content::of(bytes.to_vec())));
        let media_type = media_type.to_owned();
        Self { made, media_type, bytes: 7, ..Self::file(kind, id, "", "A document") }
    }

    /// A shortcut to something.
    pub fn shortcut(id: &str, parent: &str, target: &str, kind: &str) -> Self {
        let target = Some((target.to_owned(), kind.to_owned()));
        let media_type = SHORTCUT.to_owned();
        Self { target, media_type, ..Self::file(Kind::GoogleDrive, id, parent, id) }
    }

    pub fn content(&self) -> Arc<Content> {
        let filler = || Content::of(vec![b'x'; self.bytes as usize]);
        self.content.clone().unwrap_or_else(filler)
    }

    /// The revision it has now.
    pub fn rev(&self) -> String {
        let of = format!("{} {}", self.id, self.version);
        blake3::hash(of.as_bytes()).to_hex()[..16].to_owned()
    }

    pub fn folder(kind: Kind, id: &str, parent: &str, name: &str) -> Self {
        let media_type = FOLDER.to_owned();
        Self { folder: true, bytes: 0, media_type, ..Self::file(kind, id, parent, name) }
    }

    pub fn on_drive(mut self, drive: &str) -> Self {
        self.drive = Some(drive.to_owned());
        self
    }
}

impl Tree {
    pub fn of(nodes: Vec<Node>) -> Self {
        Self { nodes, drives: Vec::new() }
    }

    /// A few of everything.
    pub fn sample(kind: Kind) -> Self {
        let mut nodes = vec![
            Node::folder(kind, "folder1", "", "Papers"),
            Node::file(kind, "file1", "", "Invoice 1/2 \u{1f600}\n.pdf"),
            Node::file(kind, "file2", "", "twin.pdf"),
            Node::file(kind, "file3", "", "twin.pdf"),
            Node::file(kind, "file4", "", ".."),
            Node::file(kind, "file5", "folder1", "inside.txt"),
            Node { bytes: 0, ..Node::file(kind, "file6", "folder1", "empty.txt") },
        ];
        let mut drives = Vec::new();
        if kind == Kind::GoogleDrive {
            let media_type = "application/vnd.google-apps.document".to_owned();
            nodes.push(Node { media_type, ..Node::file(kind, "doc1", "", "A document") });
            let target = Some(("folder1".to_owned(), FOLDER.to_owned()));
            let media_type = SHORTCUT.to_owned();
            let shortcut = Node::file(kind, "short1", "", "To the papers");
            nodes.push(Node { media_type, target, ..shortcut });
            drives.push(("0ADrive".to_owned(), "Team drive".to_owned()));
            nodes.push(Node::folder(kind, "shared1", "0ADrive", "Plans").on_drive("0ADrive"));
            nodes.push(Node::file(kind, "shared2", "shared1", "plan.txt").on_drive("0ADrive"));
        }
        Self { nodes, drives }
    }

    pub fn children(&self, parent: &str) -> Vec<&Node> {
        self.nodes.iter().filter(|node| node.parent == parent).collect()
    }

    pub fn get(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}
