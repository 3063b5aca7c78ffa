//! What a supervisor asks the injector: an instance for a life of its service, and its end.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use control::inner::{Link, RefusedKind, Reply, ToInjector};
use model::Manifest;
use sys::cgroup::Cgroup;
use sys::users::Account;

use super::RunOptions;
use super::life::StartError;
use crate::explain::explain;
use crate::owners;
use crate::run_dir::RunDir;

/// Asks for an instance for a process that waits.
pub(super) fn make_instance(
    options: &RunOptions,
    run_dir: &RunDir,
    account: &Account,
    cgroup: Option<&Cgroup>,
    service: BorrowedFd<'_>,
    again: bool,
) -> Result<u32, StartError> {
    let body = ToInjector::MakeInstance {
        manifest: with_owners(&options.manifest)?,
        manifest_path: absolute(&options.manifest_path),
        uid: account.uid,
        gid: account.gid,
        cgroup: cgroup.map(|cgroup| cgroup.path().to_owned()),
        root: None,
        container: None,
        image: None,
        again,
    };
    let refused = |message: String, code, ends: bool| StartError::Refused {
        message,
        code,
        waits: !ends,
    };
    match ask(run_dir, &body, &[service])? {
        Reply::Made { number, .. } => Ok(number),
        Reply::Refused {
            kind,
            missing,
            message,
            hint,
        } => {
            let code = match kind {
                RefusedKind::Missing => 3,
                RefusedKind::Sealed => 5,
                _ => 1,
            };
            let service = options.manifest.service.as_str();
            Err(refused(
                explain(service, &message, hint.as_deref(), &missing),
                code,
                code == 1,
            ))
        }
        Reply::Failed { message } => Err(refused(message, 1, true)),
        _ => {
            let words = "the injector answers something else";
            Err(refused(words.to_owned(), 1, true))
        }
    }
}

/// The manifest with owners by number: secretsd knows no others.
pub(super) fn with_owners(manifest: &Manifest) -> Result<Manifest, StartError> {
    let mut manifest = manifest.clone();
    owners::by_number(&mut manifest, |owner| {
        account(owner).map(|account| (account.uid, account.gid))
    })?;
    Ok(manifest)
}

/// A user of this host.
pub(super) fn account(user: &str) -> Result<Account, StartError> {
    match sys::users::account(user) {
        Ok(Some(account)) => Ok(account),
        Ok(None) => Err(StartError::NoUser {
            user: user.to_owned(),
        }),
        Err(source) => Err(StartError::System {
            what: format!("as user `{user}`"),
            source,
        }),
    }
}

/// Ends one that was made.
pub(super) fn end_instance(run_dir: &RunDir, number: u32) {
    // If nobody is there now, the injector that comes back sees that the process has ended.
    if let Err(error) = ask(run_dir, &ToInjector::EndInstance { number }, &[]) {
        log::info!("instance {number} was not ended in order: {error}");
    }
}

/// One question over a link of its own.
pub(super) fn ask(
    run_dir: &RunDir,
    body: &ToInjector,
    fds: &[BorrowedFd<'_>],
) -> Result<Reply, StartError> {
    let socket = run_dir.inject_socket();
    let no_injector = |why: String| StartError::NoInjector {
        socket: socket.clone(),
        why,
    };
    let link = Link::connect(&socket).map_err(|error| no_injector(error.to_string()))?;
    match link.request(body, fds) {
        Ok((reply, _)) => Ok(reply),
        Err(error) => Err(no_injector(error.to_string())),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
