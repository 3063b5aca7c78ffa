//! Owners of a secret's files by number: secretsd knows no others.

use model::Manifest;

/// Replaces each owner that a manifest names by `UID:GID`, as `number` says them.
///
/// # Errors
/// Those of `number`.
pub(crate) fn by_number<E>(
    manifest: &mut Manifest,
    mut number: impl FnMut(&str) -> Result<(u32, u32), E>,
) -> Result<(), E> {
    for secret in &mut manifest.secrets {
        if let Some(owner) = &mut secret.owner {
            let (uid, gid) = number(owner)?;
            *owner = format!("{uid}:{gid}");
        }
    }
    Ok(())
}
