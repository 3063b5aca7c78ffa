//! Manifests: what a service asks for.
//!
//! Two forms, YAML ([`yaml`]) and lines ([`lines`]), become the same tree of [`tree::Node`]s, and
//! one reader ([`read`]) makes the [`Manifest`] of it: so both forms have the same rules. A fault
//! names a node, and the form says in which line and column that node is.

mod error;
mod lines;
mod modes;
mod read;
mod rules;
mod targets;
#[cfg(test)]
mod tests;
mod tree;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ConfigKey, ConfigName, SecretName, ServiceName};
pub use error::ManifestError;
pub use modes::{Modes, ModesError};
pub use targets::{Targets, TargetsError};

/// The longest manifest in bytes.
pub const MAX_TEXT: usize = 64 * 1024;
/// The most secrets, config keys, stored configs, and words of a command.
pub const MAX_COUNT: usize = 4096;

/// What a service asks for, and how it is started. It grants nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Manifest {
    /// The service's name.
    pub service: ServiceName,
    /// A user's name or number, or `UID:GID`; `None`: root.
    pub user: Option<String>,
    /// Program and arguments; empty: given at the start.
    pub command: Vec<String>,
    /// The secrets, in the order of the file, each once.
    pub secrets: Vec<SecretRequest>,
    /// Inline settings. They win over stored ones.
    pub config: BTreeMap<ConfigKey, String>,
    /// Stored configs, each once; a later one wins.
    pub config_from: Vec<ConfigName>,
    /// What the service is told when a secret changes.
    pub on_change: Option<OnChange>,
    /// When it is started again.
    pub restart: Restart,
    /// For how many seconds a start waits for a grant or an unseal; `None`: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
    /// Where its views are.
    pub targets: Targets,
    /// Permissions of its views.
    pub modes: Modes,
}

/// A secret that a manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRequest {
    /// Its name.
    pub name: SecretName,
    /// The environment variable that carries its value too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The environment variable that carries the path of its file, or of the folder of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
    /// Permissions of its files, where they are not those of the whole view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u16>,
    /// Whose its files are, where they are not the service's user's: a name, a number, or UID:GID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The service is started without it too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Where the folder of its fields is seen besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// What of it is written into the audit log.
    #[serde(default, skip_serializing_if = "Audit::is_default")]
    pub audit: Audit,
    /// Whether the version before is shown too, while a rotation's grace lasts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub previous: bool,
}

/// What of a secret's use is written into the audit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audit {
    /// Each open. The page cache answers the reads of a descriptor that is open.
    #[default]
    EveryOpen,
    /// Each read too: nothing is cached, and each read comes to secretsd.
    EveryRead,
}

impl Audit {
    fn is_default(&self) -> bool {
        *self == Audit::default()
    }
}

/// What a service is told when one of its secrets or its config changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// A signal, by its name without `SIG`.
    Signal(String),
    /// A program with arguments is run.
    Command(Vec<String>),
    /// It is started again.
    Restart,
}

/// When a service is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// After an exit code other than 0, or a signal.
    OnFailure,
    /// After every end that was not asked for.
    Always,
}

impl SecretRequest {
    /// A secret as it is asked for by its name alone.
    #[must_use]
    pub fn plain(name: SecretName) -> SecretRequest {
        SecretRequest {
            name,
            env: None,
            env_file: None,
            mode: None,
            owner: None,
            optional: false,
            target: None,
            audit: Audit::default(),
            previous: false,
        }
    }

    /// The owner by number, if it is written so: whoever starts a service looks names up before.
    #[must_use]
    pub fn owner_ids(&self) -> Option<(u32, u32)> {
        let (uid, gid) = self.owner.as_deref()?.split_once(':')?;
        Some((uid.parse().ok()?, gid.parse().ok()?))
    }
}

impl Manifest {
    /// Parses either form. `path` names the file in errors, and the service if the text does not:
    /// `web.yaml` is `web`.
    ///
    /// # Errors
    /// Text that is not a manifest: with its place, what was expected there, and the nearest right
    /// word; never with a value of `config`.
    pub fn parse(text: &[u8], path: &Path) -> Result<Manifest, ManifestError> {
        let refused = |fault: error::Located| ManifestError::new(path, fault);
        let text = error::readable(text).map_err(refused)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if lines::is_line_form(text) {
            let (tree, places) = lines::parse(text).map_err(refused)?;
            read::manifest(tree, &stem).map_err(|fault| refused(places.locate(fault)))
        } else {
            let document = yaml::Document::parse(text).map_err(refused)?;
            let tree = document.tree().map_err(refused)?;
            read::manifest(tree, &stem).map_err(|fault| refused(document.locate(fault)))
        }
    }
}

/// Shows the keys of `config` and not their values.
impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("service", &self.service)
            .field("user", &self.user)
            .field("command", &self.command)
            .field("secrets", &self.secrets)
            .field("config", &self.config.keys())
            .field("config_from", &self.config_from)
            .field("on_change", &self.on_change)
            .field("restart", &self.restart)
            .field("wait", &self.wait)
            .field("targets", &self.targets)
            .field("modes", &self.modes)
            .finish()
    }
}

/// Whether a text can name a user.
pub(crate) fn check_user(user: &str) -> Result<(), &'static str> {
    rules::user(user)
}

/// A manifest on its way between programs, before its rules were asked again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    service: ServiceName,
    user: Option<String>,
    command: Vec<String>,
    secrets: Vec<SecretRequest>,
    config: BTreeMap<ConfigKey, String>,
    config_from: Vec<ConfigName>,
    on_change: Option<OnChange>,
    restart: Restart,
    #[serde(default)]
    wait: Option<u32>,
    targets: Targets,
    modes: Modes,
}

impl TryFrom<Unchecked> for Manifest {
    type Error = String;

    fn try_from(raw: Unchecked) -> Result<Manifest, String> {
        let manifest = Manifest {
            service: raw.service,
            user: raw.user,
            command: raw.command,
            secrets: raw.secrets,
            config: raw.config,
            config_from: raw.config_from,
            on_change: raw.on_change,
            restart: raw.restart,
            wait: raw.wait,
            targets: raw.targets,
            modes: raw.modes,
        };
        rules::check(&manifest)?;
        Ok(manifest)
    }
}
