//! What the operators' tree shows and does, as root alone sees it.

use std::sync::Arc;

use fuse_fs::{CtlError, CtlLine, OperatorActs};
use model::{SecretName, ServiceName, Timestamp};
use store::{GrantMeta, Operator, SetOptions, Value, WriteError};
use sys::peer::PeerCredentials;

use super::acts::ActError;
use super::{Host, ourselves};

/// A group that is nobody's: of who writes there, the kernel tells the user alone.
const NO_GROUP: u32 = u32::MAX;

/// The state behind the tree.
pub(super) struct OperatorTree(pub Arc<Host>);

impl OperatorActs for OperatorTree {
    fn command(&self, line: CtlLine, uid: u32) -> Result<(), CtlError> {
        let operator = operator(uid)?;
        match line {
            CtlLine::Set { name, value } => self
                .0
                .set(
                    &operator,
                    &name,
                    Value::Single(value),
                    SetOptions::default(),
                )
                .map(drop)
                .map_err(act_refusal),
            CtlLine::Delete { name } => self
                .0
                .delete(&operator, &name)
                .map(drop)
                .map_err(act_refusal),
            CtlLine::RotateKey => {
                let host = Arc::clone(&self.0);
                let rotate = move || {
                    if let Err(error) = host.rotate_root(&operator, &|_, _| {}) {
                        log::error!("the root key is not rotated: {error}");
                    }
                };
                let started = std::thread::Builder::new()
                    .name("rotate-key".into())
                    .spawn(rotate);
                started
                    .map(drop)
                    .map_err(|error| CtlError::Failed(error.to_string()))
            }
        }
    }

    fn secrets(&self) -> Result<Vec<SecretName>, CtlError> {
        let secrets = self.0.store.list(&root()?, "").map_err(refusal)?;
        Ok(secrets.into_iter().map(|secret| secret.name).collect())
    }

    fn record(&self, name: &SecretName) -> Result<Vec<u8>, CtlError> {
        self.0.store.raw_record(&root()?, name).map_err(refusal)
    }

    fn services(&self) -> Result<Vec<ServiceName>, CtlError> {
        let grants = self.0.store.grants(&root()?, None).map_err(refusal)?;
        let mut services: Vec<_> = grants.into_iter().map(|one| one.service).collect();
        services.sort();
        services.dedup();
        Ok(services)
    }

    fn grants(&self, service: &ServiceName) -> Result<String, CtlError> {
        let grants = self
            .0
            .store
            .grants(&root()?, Some(service))
            .map_err(refusal)?;
        Ok(grants.iter().map(line).collect())
    }
}

/// `db_password until 2026-12-01T00:00:00Z for user www-data alone`, without what is not so.
fn line(GrantMeta { grant, .. }: &GrantMeta) -> String {
    let until = |until: Timestamp| format!(" until {until}");
    let pins = match grant.pins.is_empty() {
        true => String::new(),
        false => format!(" for {} alone", grant.pins),
    };
    format!(
        "{}{}{pins}\n",
        grant.secret,
        grant.until.map(until).unwrap_or_default()
    )
}

/// The tree's folder is root's alone, so whoever can ask is.
fn root() -> Result<Operator, CtlError> {
    ourselves().ok_or_else(|| CtlError::Failed("root is no operator".to_owned()))
}

fn operator(uid: u32) -> Result<Operator, CtlError> {
    let peer = PeerCredentials {
        pid: 0,
        uid,
        gid: NO_GROUP,
    };
    let operator = Operator::authenticate(&peer, &[], None)
        .ok_or_else(|| CtlError::Failed(format!("uid {uid} is no operator")))?;
    Ok(operator.named(sys::users::name_of(uid)))
}

fn act_refusal(error: ActError) -> CtlError {
    match error {
        ActError::Store(error) => refusal(error),
        error => CtlError::Failed(error.to_string()),
    }
}

fn refusal(error: WriteError) -> CtlError {
    match error {
        WriteError::Sealed => CtlError::Sealed,
        WriteError::NotFound(_) => CtlError::NotFound,
        error => CtlError::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::Pins;

    use super::*;
    use std::path::Path;
    use store::{Cipher, SecretBytes, Store};

    fn tree() -> (OperatorTree, tempfile::TempDir) {
        let state = tempfile::tempdir().unwrap();
        let host = Host::new(
            Store::in_memory(Cipher::default()),
            crate::audit::Audit::open(state.path(), false),
            crate::apart::of_nobody(),
            Path::new("/nonexistent"),
        );
        (OperatorTree(host), state)
    }

    #[test]
    fn what_root_writes_is_done_and_others_are_refused() {
        let (tree, _state) = tree();
        let name: SecretName = "a".parse().unwrap();
        let set = |value: &[u8]| CtlLine::Set {
            name: name.clone(),
            value: SecretBytes::from(value),
        };
        assert!(tree.command(set(b"1"), 1000).is_err());
        tree.command(set(b"1"), 0).unwrap();
        assert_eq!(tree.secrets().unwrap(), std::slice::from_ref(&name));
        assert!(!tree.record(&name).unwrap().is_empty());
        tree.command(CtlLine::Delete { name: name.clone() }, 0)
            .unwrap();
        let again = tree.command(CtlLine::Delete { name }, 0);
        assert!(matches!(again, Err(CtlError::NotFound)));
    }

    #[test]
    fn grants_are_a_line_for_each_secret() {
        let (tree, _state) = tree();
        let us = ourselves().unwrap();
        let service: ServiceName = "web".parse().unwrap();
        let unit = Pins {
            unit: Some("web.service".into()),
            ..Pins::default()
        };
        let until = Some(Timestamp(4_102_444_800));
        for (name, until, pins) in [
            ("a", None, Pins::default()),
            ("b", until, Pins::default()),
            ("c", None, unit),
        ] {
            let name: SecretName = name.parse().unwrap();
            let value = Value::Single(SecretBytes::from(&b"1"[..]));
            tree.0
                .set(&us, &name, value, SetOptions::default())
                .unwrap();
            tree.0.grant(&us, &service, &[name], until, pins).unwrap();
        }
        assert_eq!(tree.services().unwrap(), std::slice::from_ref(&service));
        assert_eq!(
            tree.grants(&service).unwrap(),
            "a\nb until 2100-01-01T00:00:00Z\nc for unit web.service alone\n"
        );
        assert_eq!(tree.grants(&"other".parse().unwrap()).unwrap(), "");
    }

    #[test]
    fn a_sealed_store_shows_nothing() {
        let (tree, _state) = tree();
        tree.0.store.seal();
        assert!(matches!(tree.secrets(), Err(CtlError::Sealed)));
        assert!(matches!(tree.services(), Err(CtlError::Sealed)));
        assert!(matches!(tree.command(CtlLine::RotateKey, 0), Ok(())));
    }
}
