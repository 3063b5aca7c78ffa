//! Places on the host where a test has views mounted.

use std::path::{Path, PathBuf};

/// A name below /run that no other test has. What a test leaves there goes at its end.
#[derive(Debug)]
pub struct OwnPlace(PathBuf);

impl OwnPlace {
    /// A name of its own for each `test`; nothing is made.
    pub fn new(test: &str) -> OwnPlace {
        let name = format!("dt-{}-{test}", std::process::id());
        OwnPlace(Path::new("/run").join(name))
    }

    /// The place itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it, as a manifest takes it.
    pub fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        // No link is followed, and no mount of another namespace is in the way.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
