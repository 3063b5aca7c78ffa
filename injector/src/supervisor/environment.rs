//! What a service gets to see of its surroundings: a fixed list of variables, and its command as an
//! absolute path. The list is part of what docs/semantics.md promises.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use model::{Manifest, SecretRequest};
use sys::users::Account;

/// Debian's own for root; the caller's is nobody's promise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where programs look that follow systemd's convention.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// PATH, HOME, USER, LOGNAME, SHELL, LANG, DEPLOY_SERVICE, and TERM where the caller has one;
/// CREDENTIALS_DIRECTORY where there are secrets, if the manifest has no other use for it; and the paths that the manifest wants in variables. Whether one of an `optional` secret is there shows
/// inside alone, see [`crate::exec`].
pub(super) fn variables(manifest: &Manifest, account: &Account) -> Vec<(OsString, OsString)> {
    let name = match &account.name {
        Some(name) => name.clone(),
        None => account.uid.to_string(),
    };
    let lang = std::env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into());
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOME".into(), account.home.clone().into()),
        ("USER".into(), name.clone().into()),
        ("LOGNAME".into(), name.into()),
        ("SHELL".into(), "/bin/sh".into()),
        ("LANG".into(), lang),
        ("DEPLOY_SERVICE".into(), manifest.service.as_str().into()),
    ];
    if let Some(term) = std::env::var_os("TERM") {
        variables.push(("TERM".into(), term));
    }
    let own = |secret: &SecretRequest| {
        let named = [&secret.env, &secret.env_file];
        named.into_iter().flatten().any(|name| name == CREDENTIALS)
    };
    if !manifest.secrets.is_empty() && !manifest.secrets.iter().any(own) {
        variables.push((CREDENTIALS.into(), manifest.targets.secret.clone().into()));
    }
    for secret in manifest.secrets.iter().filter(|secret| !secret.optional) {
        if let Some(name) = &secret.env_file {
            let path = manifest.targets.secret.join(secret.name.as_str());
            variables.push((name.into(), path.into()));
        }
    }
    variables
}

/// The program that `word` means: a name is looked for in the service's PATH, a path is taken from
/// the caller's working folder (the service's own is `/`).
///
/// # Errors
/// `NotFound` (a shell's 127) or `PermissionDenied` (126).
pub(super) fn find_program(word: &OsStr) -> io::Result<PathBuf> {
    find_in(word, PATH)
}

fn find_in(word: &OsStr, path: &str) -> io::Result<PathBuf> {
    if word.as_encoded_bytes().contains(&b'/') {
        let path = std::path::absolute(word)?;
        return is_program(&path).map(|()| path);
    }
    let mut result = Err(io::ErrorKind::NotFound.into());
    for folder in path.split(':') {
        let candidate = Path::new(folder).join(word);
        match is_program(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            denied => result = denied.map(|()| candidate),
        }
    }
    result
}

fn is_program(path: &Path) -> io::Result<()> {
    let meta = path.metadata()?;
    if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_is_found_in_the_path_and_what_is_no_program_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, "").unwrap();
        let path = format!("/nonexistent:{}", dir.path().display());
        let kind = |word: &str| find_in(OsStr::new(word), &path).unwrap_err().kind();

        assert_eq!(kind("program"), io::ErrorKind::PermissionDenied);
        assert_eq!(kind("other"), io::ErrorKind::NotFound);
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find_in(OsStr::new("program"), &path).unwrap(), program);
        assert_eq!(find_in(program.as_os_str(), "").unwrap(), program);
        assert_eq!(kind("./program"), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_callers_own_variables_stay_outside() {
        let account = sys::users::account("0").unwrap().unwrap();
        let manifest = Manifest::parse(b"service: web", Path::new("web.yaml")).unwrap();
        let mut names: Vec<_> = variables(&manifest, &account)
            .into_iter()
            .map(|(name, _)| name.into_string().unwrap())
            .filter(|name| name != "TERM")
            .collect();
        names.sort();
        let promised = "DEPLOY_SERVICE HOME LANG LOGNAME PATH SHELL USER";
        assert_eq!(names.join(" "), promised);
    }
}
