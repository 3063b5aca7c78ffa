//! `/proc/PID/mountinfo` as a tree (proc_pid_mountinfo(5)). Reading it asks no file system anything,
//! so it is safe while secretsd is dead; a stat(2) of a master mount would wait for it.

use std::io;
use std::path::{Path, PathBuf};

/// Starts the source of every mount that we make, so that copies of them are known again, those of
/// a killed predecessor too.
pub(crate) const SOURCE_PREFIX: &str = "deploy-secrets:";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// That of the mount that it is on.
    pub parent: u64,
    /// The file system's device, as `major:minor`.
    pub device: String,
    /// Which folder of the file system is at the root of this mount.
    pub root: PathBuf,
    /// Where it is, as the process sees it.
    pub point: PathBuf,
    /// Its peer group, if it has one: mounts made on it appear on all of those as well.
    pub shared: Option<u64>,
    /// The file system's type.
    pub kind: String,
    /// What it is said to be a mount of.
    pub source: String,
}

impl Mount {
    /// Did a deploy-inject make it?
    pub fn is_ours(&self) -> bool {
        self.kind == "fuse" && self.source.starts_with(SOURCE_PREFIX)
    }

    /// A whole tree of ours: a master mount, or a copy of one.
    pub fn is_master(&self) -> bool {
        self.is_ours() && self.root == Path::new("/")
    }
}

/// The mounts of one namespace, in the kernel's order: of two at one point the later is on top.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Those that process `pid` sees, by the host's own /proc.
    ///
    /// # Errors
    /// The process is gone, or has no mount namespace any more.
    pub fn of(pid: i32) -> io::Result<Mounts> {
        Ok(Mounts::parse(&std::fs::read_to_string(format!(
            "/proc/{pid}/mountinfo"
        ))?))
    }

    /// Those that we see.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn here() -> io::Result<Mounts> {
        Ok(Mounts::parse(&std::fs::read_to_string(
            "/proc/thread-self/mountinfo",
        )?))
    }

    /// Lines that are not as proc_pid_mountinfo(5) says are left out.
    pub fn parse(text: &str) -> Mounts {
        Mounts(text.lines().filter_map(parse_line).collect())
    }

    /// All, in the kernel's order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mount> {
        self.0.iter()
    }

    /// With those peer groups alone that `others` have too.
    #[must_use]
    pub fn shared_with(mut self, others: &Mounts) -> Mounts {
        for mount in &mut self.0 {
            let is_there = |group: &u64| others.0.iter().any(|other| other.shared == Some(*group));
            mount.shared = mount.shared.filter(is_there);
        }
        self
    }

    /// What is there besides the masters.
    #[must_use]
    pub fn without_masters(mut self) -> Mounts {
        self.0.retain(|mount| !mount.is_master());
        self
    }

    /// What is there besides our own mounts.
    pub fn without_ours(&self) -> Mounts {
        Mounts(self.0.iter().filter(|m| !m.is_ours()).cloned().collect())
    }

    /// The mount that a walk to `path` (absolute, without symlinks) ends in: what lies on top.
    pub fn at(&self, path: &Path) -> Option<&Mount> {
        let is_root = |m: &&Mount| m.parent == m.id || !self.0.iter().any(|p| p.id == m.parent);
        let mut current = self.0.iter().find(is_root)?;
        loop {
            let next = self
                .0
                .iter()
                .filter(|m| m.parent == current.id && m.id != current.id)
                .filter(|m| path.starts_with(&m.point))
                .min_by_key(|m| m.point.components().count());
            match next {
                Some(next) => current = next,
                None => return Some(current),
            }
        }
    }

    /// The mount whose root is exactly at `point`, the top one.
    pub fn exactly_at(&self, point: &Path) -> Option<&Mount> {
        self.at(point).filter(|m| m.point == point)
    }
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let parent = left.next()?.parse().ok()?;
    let device = left.next()?.to_owned();
    let root = unescape(left.next()?);
    let point = unescape(left.next()?);
    let _options = left.next()?;
    let shared = left.find_map(|tag| tag.strip_prefix("shared:")?.parse().ok());
    let mut right = right.split(' ');
    Some(Mount {
        id,
        parent,
        device,
        root: root.into(),
        point: point.into(),
        shared,
        kind: right.next()?.to_owned(),
        source: unescape(right.next()?),
    })
}

/// Space, tab, line feed and backslash stand there as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let octal = rest.get(at + 1..at + 4);
        match octal.and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOST: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
30 27 0:40 / /run rw shared:7 - tmpfs tmpfs rw
31 30 0:41 / /run/d/views/secret rw - fuse deploy-secrets:secret rw
32 27 0:41 /5 /secret ro - fuse deploy-secrets:secret rw
33 27 0:50 / /mnt/with\\040space rw - tmpfs none rw
34 30 0:51 / /run rw - tmpfs over rw
";

    #[test]
    fn a_walk_ends_in_what_lies_on_top() {
        let mounts = Mounts::parse(HOST);
        assert_eq!(mounts.at(Path::new("/secret/x")).unwrap().id, 32);
        assert_eq!(mounts.at(Path::new("/etc")).unwrap().id, 27);
        // 34 covers /run, so what lay below it before is not reached any more.
        assert_eq!(mounts.at(Path::new("/run/d/views/secret")).unwrap().id, 34);
        assert!(
            mounts
                .exactly_at(Path::new("/run/d/views/secret"))
                .is_none()
        );
    }

    #[test]
    fn masters_are_told_from_views_and_from_others() {
        let mounts = Mounts::parse(HOST);
        let masters: Vec<_> = mounts.iter().filter(|m| m.is_master()).collect();
        assert_eq!(masters.len(), 1);
        assert_eq!(masters[0].id, 31);
        assert!(mounts.exactly_at(Path::new("/secret")).unwrap().is_ours());
    }

    #[test]
    fn escapes_and_propagation_are_read() {
        let mounts = Mounts::parse(HOST);
        let proc = Path::new("/proc");
        assert_eq!(mounts.exactly_at(proc).unwrap().shared, Some(5));
        let private = mounts.clone().shared_with(&Mounts::default());
        assert_eq!(private.exactly_at(proc).unwrap().shared, None);
        let shared = mounts.clone().shared_with(&mounts);
        assert_eq!(shared.exactly_at(proc).unwrap().shared, Some(5));
        let spaced = mounts.exactly_at(Path::new("/mnt/with space")).unwrap();
        assert_eq!(spaced.shared, None);
        assert_eq!(spaced.kind, "tmpfs");
    }

    #[test]
    fn broken_lines_are_left_out() {
        assert_eq!(Mounts::parse("nonsense\n1 2 - \n\n").iter().count(), 0);
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("\\134x\\"), "\\x\\");
    }
}
