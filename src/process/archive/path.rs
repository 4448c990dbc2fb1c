//! Names that stay below the folder an archive is unpacked in, on every system.

use std::collections::BTreeSet;

use super::super::frame::Fault;

/// The longest name, bytes.
const MAX_NAME: usize = 4096;

/// Bytes of all links' names together.
const MAX_LINKS: usize = 4 << 20;

/// The parts of a safe name, by whatever system's separators.
fn parts(name: &str) -> Result<Vec<&str>, Fault> {
    let odd = name.is_empty() || name.len() > MAX_NAME || name.contains(char::is_control);
    let drive = name.as_bytes().get(1) == Some(&b':');
    if odd || drive || name.starts_with(['/', '\\']) {
        return Err(Fault::UnsafePath);
    }
    Ok(name.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect())
}

/// The paths of one archive, each held against the links before it.
#[derive(Default)]
pub(super) struct Paths {
    links: BTreeSet<String>,
    bytes: usize,
}

impl Paths {
    /// Judges a member's name.
    pub(super) fn judge(&self, name: &str) -> Result<(), Fault> {
        let parts = parts(name)?;
        if parts.contains(&"..") {
            return Err(Fault::UnsafePath);
        }
        if self.links.is_empty() {
            return Ok(());
        }
        // What lies below a link is written to wherever the link leads.
        let mut above = String::new();
        for part in parts {
            above.push('/');
            above.push_str(part);
            if self.links.contains(&above) {
                return Err(Fault::UnsafePath);
            }
        }
        Ok(())
    }

    /// As [`Paths::judge`], for a member that may be one of the links itself.
    pub(super) fn judge_unless_link(&self, name: &str) -> Result<(), Fault> {
        let path: String = parts(name)?.into_iter().flat_map(|part| ["/", part]).collect();
        if self.links.contains(&path) { Ok(()) } else { self.judge(name) }
    }

    /// Judges where a symbolic link leads, from the folder it lies in.
    pub(super) fn link(&mut self, name: &str, target: &str) -> Result<(), Fault> {
        let mut depth = parts(name)?.len().saturating_sub(1);
        for part in parts(target)? {
            if part == ".." {
                depth = depth.checked_sub(1).ok_or(Fault::UnsafePath)?;
            } else {
                depth += 1;
            }
        }
        let path: String = parts(name)?.into_iter().flat_map(|part| ["/", part]).collect();
        self.bytes += path.len();
        if self.bytes > MAX_LINKS {
            return Err(Fault::Complex);
        }
        self.links.insert(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused_on_every_system() {
        let paths = Paths::default();
        for name in ["a", "a/b.txt", "./a", "a//b", "..a/b..", "C", "\u{e9}/\u{65e5}"] {
            assert_eq!(paths.judge(name), Ok(()), "{name}");
        }
        for name in ["", "/a", "../a", "a/../../b", "a\\..\\b", "\\a", "C:\\a", "c:a", "a\0b", ".."]
        {
            assert_eq!(paths.judge(name), Err(Fault::UnsafePath), "{name}");
        }
        assert_eq!(paths.judge(&"a/".repeat(3000)), Err(Fault::UnsafePath));
    }

    #[test]
    fn links_stay_inside_and_nothing_is_written_through_them() {
        let mut paths = Paths::default();
        assert_eq!(paths.link("a/b/link", "../../c"), Ok(()));
        assert_eq!(paths.link("a/link", "../../c"), Err(Fault::UnsafePath));
        assert_eq!(paths.link("link", "/etc"), Err(Fault::UnsafePath));
        assert_eq!(paths.link("dir", "elsewhere"), Ok(()));
        assert_eq!(paths.judge("dir/file"), Err(Fault::UnsafePath));
        assert_eq!(paths.judge("./dir//x"), Err(Fault::UnsafePath));
        assert_eq!(paths.judge("dirt/file"), Ok(()));
    }
}
