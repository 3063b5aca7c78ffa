//! Which device the connection for secrets is: membership counts mounts of that one alone.

use std::io;
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
    let line = sys::mountinfo::lines(table)
        .filter(|line| line.root() == "/" && line.point() == point.as_os_str())
        .last()?;
    let device = std::str::from_utf8(line.device).ok()?;
    device.strip_prefix("0:")?.parse().ok()
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
