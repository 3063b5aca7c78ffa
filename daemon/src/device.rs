//! Which device the connection for secrets is: membership counts mounts of that one alone.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The minor number of the device that is mounted at `point`, as our own mount table says it. By the
/// table and not by stat(2): the folder is root's alone, and we answer for what is mounted there.
///
/// # Errors
/// The table cannot be read, or nothing is mounted there.
pub(crate) fn minor_at(point: &Path) -> io::Result<u32> {
    find(&std::fs::read("/proc/self/mountinfo")?, point).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("nothing is mounted at {}", point.display()),
        )
    })
}

/// The last line that names `point`: of several mounts at one place it is on top.
fn find(table: &[u8], point: &Path) -> Option<u32> {
    table.split(|byte| *byte == b'\n').rev().find_map(|line| {
        // 36 35 0:61 / /run/deploy/views/secret rw - fuse deploy-secrets:secret rw
        let mut fields = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(fields.nth(2)?).ok()?;
        let (root, at) = (fields.next()?, fields.next()?);
        let whole = root == b"/" && unescape(at) == point.as_os_str().as_bytes();
        whole
            .then(|| device.strip_prefix("0:")?.parse().ok())
            .flatten()
    })
}

/// Space, tab, line feed and backslash stand there as `\ooo`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 27 0:41 / /run/a\\040b/views/secret rw shared:3 - fuse deploy-secrets:secret rw
32 27 0:42 / /run/d/views/secret rw - fuse deploy-secrets:secret rw
33 27 0:43 / /run/d/views/secret rw - fuse deploy-secrets:secret rw
34 27 0:44 /5 /run/d/views/other ro - fuse deploy-secrets:secret rw
";

    #[test]
    fn the_topmost_whole_mount_at_the_place_is_the_one() {
        let find = |path: &str| find(TABLE, Path::new(path));
        assert_eq!(find("/run/d/views/secret"), Some(43));
        assert_eq!(find("/run/a b/views/secret"), Some(41));
        assert_eq!(find("/run/d/views/other"), None);
        assert_eq!(find("/run/d/views"), None);
        assert_eq!(find("/"), None);
    }
}
