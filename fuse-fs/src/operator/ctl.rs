//! The lines of `ctl`.

use model::SecretName;
use store::SecretBytes;

/// The longest value; longer ones go through `deploy secret set`.
const MAX_VALUE: usize = 64 * 1024;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CtlLine {
    /// `set NAME VALUE`: all bytes after the space, but for one line feed at the end.
    Set {
        /// The secret.
        name: SecretName,
        /// Its new value.
        value: SecretBytes,
    },
    /// `delete NAME`
    Delete {
        /// The secret.
        name: SecretName,
    },
    /// `rotate-key`
    RotateKey,
}

impl CtlLine {
    /// Parses what was written; `None` if it is not exactly one command.
    pub fn parse(written: &[u8]) -> Option<CtlLine> {
        let line = written.strip_suffix(b"\n").unwrap_or(written);
        if line == b"rotate-key" {
            return Some(CtlLine::RotateKey);
        }
        if let Some(name) = line.strip_prefix(b"delete ") {
            return Some(CtlLine::Delete {
                name: parse_name(name)?,
            });
        }
        let rest = line.strip_prefix(b"set ")?;
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let (name, value) = (&rest[..space], &rest[space + 1..]);
        if value.len() > MAX_VALUE {
            return None;
        }
        Some(CtlLine::Set {
            name: parse_name(name)?,
            value: SecretBytes::from(value),
        })
    }
}

fn parse_name(bytes: &[u8]) -> Option<SecretName> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(name: &str, value: &[u8]) -> Option<CtlLine> {
        Some(CtlLine::Set {
            name: name.parse().unwrap(),
            value: SecretBytes::from(value),
        })
    }

    #[test]
    fn a_value_keeps_its_bytes_but_for_one_line_feed() {
        let parse = CtlLine::parse;
        assert_eq!(
            parse(b"set db_password s3cret\n"),
            set("db_password", b"s3cret")
        );
        assert_eq!(
            parse(b"set a  two spaces \n\n"),
            set("a", b" two spaces \n")
        );
        assert_eq!(parse(b"set a \xff\0"), set("a", b"\xff\0"));
        assert_eq!(parse(b"set a "), set("a", b""));
        assert_eq!(parse(b"rotate-key\n"), Some(CtlLine::RotateKey));
        let name = "api_key".parse().unwrap();
        assert_eq!(parse(b"delete api_key\n"), Some(CtlLine::Delete { name }));
    }

    #[test]
    fn what_is_not_one_command_is_refused() {
        let long = [b"set a ".as_slice(), &[b'x'; MAX_VALUE + 1]].concat();
        let bad: [&[u8]; 10] = [
            b"",
            b"\n",
            b"set",
            b"set a",
            b"set ../a b",
            b"delete",
            b"delete A",
            b"delete a b",
            b"rotate-key now",
            &long,
        ];
        for line in bad {
            assert_eq!(CtlLine::parse(line), None);
        }
    }

    #[test]
    fn a_value_is_not_shown() {
        assert!(!format!("{:?}", CtlLine::parse(b"set a hush")).contains("hush"));
    }
}
