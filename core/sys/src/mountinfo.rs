//! Lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What we want to know of a mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// `MAJOR:MINOR`.
    pub device: &'a [u8],
    /// Which folder of the file system is mounted, still escaped.
    root: &'a [u8],
    /// Where, still escaped.
    point: &'a [u8],
    /// The file system's type.
    pub kind: &'a [u8],
}

impl Line<'_> {
    /// Which folder of the file system is mounted.
    pub fn root(&self) -> OsString {
        unescape(self.root)
    }

    /// Where it is mounted.
    pub fn point(&self) -> OsString {
        unescape(self.point)
    }
}

/// The lines of a table; what is no line is left out.
pub fn lines(table: &[u8]) -> impl Iterator<Item = Line<'_>> {
    table.split(|byte| *byte == b'\n').filter_map(parse)
}

// 36 35 0:61 /7 /secret ro,nosuid - fuse deploy-secret ro
fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?;
    let root = fields.next()?;
    let point = fields.next()?;
    // Optional fields end with a dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = fields.next()?;
    Some(Line {
        device,
        root,
        point,
        kind,
    })
}

/// Space, tab, line feed and backslash are written `\ooo`.
fn unescape(text: &[u8]) -> OsString {
    let mut rest = text;
    let mut plain = Vec::with_capacity(text.len());
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
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_path_with_blanks_and_optional_fields_shift_nothing() {
        let table = b"36 35 0:61 /7 /my\\040\\134secret ro,nosuid shared:3 master:1 - fuse a\\040b ro\n\nnonsense\n";
        let found: Vec<_> = lines(table).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].device, found[0].kind),
            (&b"0:61"[..], &b"fuse"[..])
        );
        assert_eq!(found[0].root(), "/7");
        assert_eq!(found[0].point(), OsStr::from_bytes(b"/my \\secret"));
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(
            unescape(b"\\9\\04\\777\\"),
            OsStr::from_bytes(b"\\9\\04\\777\\")
        );
    }
}
