//! What is wrong with a manifest, and where.

use std::fmt;
use std::path::Path;

use super::MAX_TEXT;
use crate::text;

/// Why a text is not a manifest: `web.yaml:2:1: unknown key ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    file: String,
    place: Option<Place>,
    words: String,
}

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

/// A fault of which the place is known, where it has one.
#[derive(Debug)]
pub(super) struct Located {
    pub place: Option<Place>,
    pub words: String,
}

/// A fault of a node of the tree.
#[derive(Debug)]
pub(super) struct Fault {
    /// The number of the node or key.
    pub at: usize,
    pub words: String,
}

impl Located {
    pub(super) fn nowhere(words: impl Into<String>) -> Located {
        Located {
            place: None,
            words: words.into(),
        }
    }
}

impl ManifestError {
    pub(super) fn new(path: &Path, fault: Located) -> ManifestError {
        // As the operator gave it, but no character of it acts on the terminal.
        let path = path.to_string_lossy();
        let file = path
            .split('/')
            .map(text::escaped)
            .collect::<Vec<_>>()
            .join("/");
        ManifestError {
            file,
            place: fault.place,
            words: fault.words,
        }
    }

    /// Where it is, if it is at one place: line and column from 1.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        self.place.map(|place| (place.line, place.column))
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.words)
    }
}

impl std::error::Error for ManifestError {}

/// The bytes as text, if they can be that of a manifest; without a byte order mark.
pub(super) fn readable(bytes: &[u8]) -> Result<&str, Located> {
    if bytes.len() > MAX_TEXT {
        let words = format!(
            "it has {} bytes; a manifest has at most {MAX_TEXT}",
            bytes.len()
        );
        return Err(Located::nowhere(words));
    }
    let place = |at: usize| {
        let before = String::from_utf8_lossy(&bytes[..at]);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Some(Place { line, column })
    };
    let text = std::str::from_utf8(bytes).map_err(|error| Located {
        place: place(error.valid_up_to()),
        words: "this is not UTF-8 text".into(),
    })?;
    if let Some(at) = text.find('\0') {
        return Err(Located {
            place: place(at),
            words: "a NUL byte; a manifest is text".into(),
        });
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
