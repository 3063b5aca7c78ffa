//! The drop-in by which systemd shows a unit its view: written by `deploy unit enable`, read by the
//! injector when the unit starts. It is the only thing there is of an enabled unit.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use model::{Manifest, Targets};

/// Its name in `UNIT.d`.
pub const NAME: &str = "50-deploy-secrets.conf";
/// Where operators' drop-ins are.
pub const SYSTEM: &str = "/etc/systemd/system";
const SECTION: &str = "[X-Deploy]";

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropIn {
    /// The manifest.
    pub manifest: PathBuf,
    /// As whom the unit runs, where the manifest does not say it; `None`: root.
    pub user: Option<User>,
    /// Where the views are shown.
    pub targets: Targets,
    /// The run folder.
    pub run_dir: PathBuf,
    /// Somebody acts on changes: deploy-on-change@.service.
    pub on_change: bool,
}

/// The user of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// `User=`, a name or a number.
    Static(String),
    /// `DynamicUser=yes`: systemd makes it when the unit starts.
    Dynamic(String),
}

/// Why there is no view by a drop-in.
#[derive(Debug, thiserror::Error)]
pub enum DropInError {
    /// No drop-in.
    #[error("{0} is not enabled; deploy unit enable {0} --manifest FILE")]
    NotEnabled(String),
    /// It is none of ours, or was changed so that it cannot be understood.
    #[error("{} has no line {what}; write it anew: deploy unit enable", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// Somebody else than root may write it, so that it is not an operator's word.
    #[error("{} may be written by others than root; chown root and chmod go-w", .0.display())]
    Writable(PathBuf),
    /// A path that a unit file cannot say.
    #[error("{} has characters that have a meaning in unit files", .0.display())]
    Path(PathBuf),
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is wrong.
    #[error("{0}")]
    Manifest(String),
}

/// The name of the template of a unit, if it is of one: `web@.service` of `web@1.service`.
#[must_use]
pub fn template_of(unit: &str) -> Option<String> {
    let (stem, ending) = unit.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{ending}"))
}

/// Where the drop-in of a unit, or of a template, is below `system`.
#[must_use]
pub fn place(system: &Path, unit: &str) -> PathBuf {
    system.join(format!("{unit}.d")).join(NAME)
}

/// The drop-in by which a unit is enabled: its own, or that of its template.
///
/// # Errors
/// There is none, or it cannot be understood.
pub fn find(system: &Path, unit: &str) -> Result<(PathBuf, DropIn), DropInError> {
    for name in [Some(unit.to_owned()), template_of(unit)]
        .into_iter()
        .flatten()
    {
        let path = place(system, &name);
        match read_of_root(&path) {
            Ok(text) => return Ok((path.clone(), DropIn::parse(&path, &text)?)),
            Err(DropInError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(DropInError::NotEnabled(unit.to_owned()))
}

/// The manifest of a unit, of which nobody but root has had a say.
///
/// # Errors
/// It cannot be read, somebody else may write it, or it is wrong.
pub fn manifest(path: &Path) -> Result<Manifest, DropInError> {
    let text = read_of_root(path)?;
    Manifest::parse(text.as_bytes(), path).map_err(|error| DropInError::Manifest(error.to_string()))
}

fn read_of_root(path: &Path) -> Result<String, DropInError> {
    let failed = |source| DropInError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Of what was opened: a name may lead elsewhere a moment later.
    let meta = file.metadata().map_err(failed)?;
    if meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(DropInError::Writable(path.to_owned()));
    }
    io::read_to_string(file).map_err(failed)
}

impl DropIn {
    /// # Errors
    /// A path has characters that have a meaning in unit files.
    pub fn check(&self) -> Result<(), DropInError> {
        let Targets { secret, config } = &self.targets;
        for path in [&self.manifest, secret, config, &self.run_dir] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/-_.+@".contains(c);
            if !path.to_str().is_some_and(|text| text.chars().all(plain)) {
                return Err(DropInError::Path(path.clone()));
            }
        }
        Ok(())
    }

    /// What a file says.
    ///
    /// # Errors
    /// It lacks something.
    pub fn parse(path: &Path, text: &str) -> Result<DropIn, DropInError> {
        let lacks = |what| DropInError::Lacks {
            path: path.to_owned(),
            what,
        };
        let ours = text
            .lines()
            .skip_while(|line| line.trim() != SECTION)
            .skip(1);
        let ours: Vec<_> = ours
            .take_while(|line| !line.trim_start().starts_with('['))
            .collect();
        let value = |key: &str| {
            ours.iter()
                .find_map(|line| line.split_once('=').filter(|(name, _)| name.trim() == key))
                .map(|(_, value)| value.trim().to_owned())
        };
        let folder = |key, what| value(key).map(PathBuf::from).ok_or_else(|| lacks(what));
        Ok(DropIn {
            manifest: folder("Manifest", "Manifest= in [X-Deploy]")?,
            user: match (value("User"), value("DynamicUser")) {
                (Some(user), _) => Some(User::Static(user)),
                (None, Some(user)) => Some(User::Dynamic(user)),
                (None, None) => None,
            },
            targets: Targets {
                secret: folder("Secrets", "Secrets= in [X-Deploy]")?,
                config: folder("Config", "Config= in [X-Deploy]")?,
            },
            run_dir: folder("RunDir", "RunDir= in [X-Deploy]")?,
            on_change: value("OnChange").is_some_and(|word| word == "yes"),
        })
    }
}

impl fmt::Display for DropIn {
    /// The file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Targets { secret, config } = &self.targets;
        let (secret, config) = (secret.display(), config.display());
        let run_dir = self.run_dir.display();
        writeln!(
            f,
            "# By `deploy unit enable`; `deploy unit disable` takes it away. Not to be edited.\n\
             {SECTION}\nManifest={}",
            self.manifest.display()
        )?;
        match &self.user {
            Some(User::Static(user)) => writeln!(f, "User={user}")?,
            Some(User::Dynamic(user)) => writeln!(f, "DynamicUser={user}")?,
            None => {}
        }
        writeln!(f, "Secrets={secret}\nConfig={config}\nRunDir={run_dir}")?;
        if self.on_change {
            writeln!(f, "OnChange=yes")?;
        }
        writeln!(f, "\n[Unit]\nWants=deploy-inject.service secretsd.service")?;
        if self.on_change {
            writeln!(f, "Wants=deploy-on-change@%n.service")?;
        }
        write!(
            f,
            "After=deploy-inject.service secretsd.service\n\n\
             [Service]\nBindReadOnlyPaths={run_dir}/views/secret/%n:{secret}\n\
             BindReadOnlyPaths={run_dir}/views/config/%n:{config}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn drop_in(user: Option<User>) -> DropIn {
        DropIn {
            manifest: "/etc/deploy/web.yaml".into(),
            user,
            targets: Targets {
                secret: "/secret".into(),
                config: "/config".into(),
            },
            run_dir: "/run/deploy".into(),
            on_change: false,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for user in [
            None,
            Some(User::Static("www-data".into())),
            Some(User::Dynamic("web".into())),
        ] {
            let one = drop_in(user);
            one.check().unwrap();
            for on_change in [false, true] {
                let one = DropIn {
                    on_change,
                    ..one.clone()
                };
                let read = DropIn::parse(Path::new("x"), &one.to_string()).unwrap();
                assert_eq!(read, one);
            }
        }
        let other = DropIn::parse(Path::new("x"), "[Service]\nManifest=/x\n");
        assert!(matches!(other, Err(DropInError::Lacks { .. })));
        let mut odd = drop_in(None);
        odd.manifest = "/etc/a b%n.yaml".into();
        assert!(matches!(odd.check(), Err(DropInError::Path(_))));
    }

    #[test]
    fn an_instance_of_a_template_is_enabled_by_its_own_or_by_the_templates() {
        assert_eq!(
            template_of("web@1.service").as_deref(),
            Some("web@.service")
        );
        assert_eq!(template_of("web.service"), None);
        assert_eq!(template_of("web@.service"), None);
        let dir = tempfile::tempdir().unwrap();
        let found = |unit| find(dir.path(), unit).map(|(path, _)| path);
        assert!(matches!(
            found("web@1.service"),
            Err(DropInError::NotEnabled(_))
        ));
        for name in ["web@.service", "web@1.service"] {
            let path = place(dir.path(), name);
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(&path, drop_in(None).to_string()).unwrap();
            assert_eq!(found("web@1.service").unwrap(), path);
        }
        assert_eq!(
            found("web@2.service").unwrap(),
            place(dir.path(), "web@.service")
        );
        // An operator's word, or nobody's.
        let path = place(dir.path(), "web@.service");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(matches!(
            found("web@2.service"),
            Err(DropInError::Writable(_))
        ));
    }
}
