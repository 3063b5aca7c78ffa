//! Where an instance's views are mounted.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The kernel's own trees: a view there would hide what the service and we ask the kernel by.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];
/// PATH_MAX, without room to spare for the names below.
const LONGEST: usize = 1024;

/// Where an instance's two views are. Both are absolute, in one spelling, and not within each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Targets {
    /// `/secret` unless the manifest says otherwise.
    pub secret: PathBuf,
    /// `/config` unless the manifest says otherwise.
    pub config: PathBuf,
}

/// Why a target is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetsError {
    /// Relative, or with `.`, `..`, `//`, a `/` at its end, or a control character.
    #[error("expected an absolute path in its shortest form, such as /run/secrets")]
    NotNormal,
    /// `/`, or one of the kernel's trees.
    #[error("a view cannot be at /, nor at or below /proc, /sys or /dev")]
    Kernels,
    /// Longer than 1024 bytes.
    #[error("the path is longer than {LONGEST} bytes")]
    TooLong,
    /// Both at one place, or one within the other.
    #[error("the secret and the config target must not be the same, nor one within the other")]
    Nested,
    /// The target of one secret, with another target.
    #[error("no target may be another one's, nor within it")]
    Among,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets {
            secret: "/secret".into(),
            config: "/config".into(),
        }
    }
}

impl Targets {
    /// Checks both, and that neither hides the other.
    ///
    /// # Errors
    /// A path that is not absolute and in normal form, or that no view may be at.
    pub fn new(secret: &str, config: &str) -> Result<Targets, TargetsError> {
        let (secret, config) = (Targets::parse_one(secret)?, Targets::parse_one(config)?);
        if secret.starts_with(&config) || config.starts_with(&secret) {
            return Err(TargetsError::Nested);
        }
        Ok(Targets { secret, config })
    }

    /// Checks a further target beside these and `others`.
    pub(super) fn check_beside(&self, path: &Path, others: &[&Path]) -> Result<(), TargetsError> {
        let both = [self.secret.as_path(), self.config.as_path()];
        let mut all = both.iter().chain(others);
        match all.any(|other| path.starts_with(other) || other.starts_with(path)) {
            true => Err(TargetsError::Among),
            false => Ok(()),
        }
    }

    pub(super) fn parse_one(path: &str) -> Result<PathBuf, TargetsError> {
        if path == "/" {
            return Err(TargetsError::Kernels);
        }
        if path.len() > LONGEST {
            return Err(TargetsError::TooLong);
        }
        let names = path.strip_prefix('/').ok_or(TargetsError::NotNormal)?;
        let sound = |name: &str| {
            !matches!(name, "" | "." | "..")
                && name.len() <= 255
                && !name.contains(char::is_control)
        };
        if !names.split('/').all(sound) {
            return Err(TargetsError::NotNormal);
        }
        let path = PathBuf::from(path);
        if KERNELS.iter().any(|kernels| path.starts_with(kernels)) {
            return Err(TargetsError::Kernels);
        }
        Ok(path)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    secret: String,
    config: String,
}

impl TryFrom<Unchecked> for Targets {
    type Error = TargetsError;

    fn try_from(raw: Unchecked) -> Result<Targets, TargetsError> {
        Targets::new(&raw.secret, &raw.config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_has_one_spelling_and_hides_nothing_of_the_kernel() {
        for path in [
            "/secret",
            "/run/secrets",
            "/procs",
            "/devices/x",
            "/run/a b",
        ] {
            assert_eq!(Targets::parse_one(path).unwrap(), PathBuf::from(path));
        }
        for path in [
            "", "secret", "./a", "/a/", "/a//b", "/a/./b", "/a/../b", "/..", "/a\nb",
        ] {
            assert_eq!(
                Targets::parse_one(path),
                Err(TargetsError::NotNormal),
                "{path}"
            );
        }
        for path in ["/", "/proc", "/proc/1", "/sys/fs", "/dev/shm"] {
            assert_eq!(
                Targets::parse_one(path),
                Err(TargetsError::Kernels),
                "{path}"
            );
        }
        let long = format!("/{}", "x/".repeat(512));
        assert_eq!(Targets::parse_one(&long), Err(TargetsError::TooLong));
        assert_eq!(
            Targets::parse_one(&format!("/{}", "x".repeat(256))),
            Err(TargetsError::NotNormal)
        );
    }

    #[test]
    fn neither_is_within_the_other() {
        for (secret, config) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a")] {
            assert_eq!(Targets::new(secret, config), Err(TargetsError::Nested));
        }
        assert!(Targets::new("/a/b", "/a/bc").is_ok());
        let text = serde_json::to_string(&Targets::default()).unwrap();
        assert_eq!(text, r#"{"secret":"/secret","config":"/config"}"#);
        assert_eq!(
            serde_json::from_str::<Targets>(&text).unwrap(),
            Targets::default()
        );
        assert!(serde_json::from_str::<Targets>(r#"{"secret":"/a","config":"/a"}"#).is_err());
    }
}
