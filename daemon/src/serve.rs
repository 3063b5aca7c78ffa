//! `secretsd serve`: what each stage of the start does, and how it is taken back.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use store::{Store, Unlock, UnsealError};
use sys::apart::Apart;

use crate::args::Folders;
use crate::audit::Audit;
use crate::host::Host;
use crate::start::{Stage, Stages};
use crate::{apart, housekeeping, injector, journal, server, start, watchdog};

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(folders: Folders) -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    let mut secretsd = Secretsd::new(folders)?;
    match start::start(&mut secretsd) {
        Err(_) if secretsd.told_to_end => return Ok(()),
        started => started?,
    }
    if let Some(signal) = secretsd.signals.forever().next() {
        log::info!("ends by signal {signal}");
    }
    start::stop(&mut secretsd);
    Ok(())
}

/// What the stages make.
struct Secretsd {
    folders: Folders,
    signals: Signals,
    /// A signal came while the start was waiting.
    told_to_end: bool,
    /// Ends with us.
    apart: Option<Arc<Apart>>,
    store: Option<Store>,
    /// Why it stays sealed, for `deploy status`.
    remarks: Vec<String>,
    host: Option<Arc<Host>>,
    /// Sockets of our own; the keeper's are not ours to remove.
    bound: Vec<PathBuf>,
}

impl Secretsd {
    fn new(folders: Folders) -> anyhow::Result<Secretsd> {
        Ok(Secretsd {
            folders,
            // From here on: a signal during the start is found when it is over.
            signals: Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?,
            told_to_end: false,
            apart: None,
            store: None,
            remarks: Vec::new(),
            host: None,
            bound: Vec::new(),
        })
    }

    fn store(&self) -> anyhow::Result<&Store> {
        self.store
            .as_ref()
            .ok_or_else(|| anyhow!("the store is not open"))
    }

    fn host(&self) -> anyhow::Result<&Arc<Host>> {
        self.host
            .as_ref()
            .ok_or_else(|| anyhow!("nothing is served"))
    }

    fn unseal(&mut self) -> anyhow::Result<()> {
        let report = match self.store()?.unseal(Unlock::Keyring) {
            Err(UnsealError::NotInKeyring) => self.store()?.unseal(Unlock::FileSlots),
            other => other,
        };
        match report {
            Ok(report) => {
                let generation = report.generation;
                log::info!("unsealed with the root key of generation {generation}");
                if let Some(opened) = &report.opened {
                    log::info!("records: {opened}");
                }
                self.remarks = report.warnings;
            }
            // A store without a file slot waits for a passphrase; that is as it should be.
            Err(UnsealError::NoSuchSlot(_)) => log::info!("sealed; unseal with `deploy unseal`"),
            // Sealed, it still answers services, and tells operators what is wrong.
            Err(error) => self
                .remarks
                .push(format!("the store stays sealed: {error}")),
        }
        for remark in &self.remarks {
            log::warn!("{remark}");
        }
        Ok(())
    }

    fn take_over(&mut self) -> anyhow::Result<()> {
        let audit = Audit::open(&self.folders.state_dir, self.folders.audit_fail_open);
        let apart = self.apart.clone().context("no process is apart")?;
        let host = Host::new(self.store()?.clone(), audit, apart, &self.folders.run_dir);
        host.remark(std::mem::take(&mut self.remarks));
        injector::start(&host).context("cannot start a thread")?;
        let (signals, told_to_end) = (&mut self.signals, &mut self.told_to_end);
        host.injector.wait(|| {
            *told_to_end |= signals.pending().next().is_some();
            *told_to_end
        })?;
        journal::start(&host.audit, &self.folders.journal_socket)
            .context("cannot start a thread")?;
        // After the take-over: what instances may have open is held before anything is swept.
        housekeeping::start(&host).context("cannot start a thread")?;
        self.host = Some(host);
        Ok(())
    }

    fn control(&mut self) -> anyhow::Result<()> {
        let mut inherited =
            sys::process::listen_fds().context("LISTEN_FDS is not as it should be")?;
        let mut listener = |name: &str, mode: u32| -> anyhow::Result<UnixListener> {
            if let Some(at) = inherited.iter().position(|(given, _)| given == name) {
                return Ok(inherited.swap_remove(at).1.into());
            }
            let path = self.folders.run_dir.join(format!("{name}.sock"));
            let listener = bind(&path, mode)
                .with_context(|| format!("cannot bind the socket {}", path.display()))?;
            self.bound.push(path);
            Ok(listener)
        };
        let control = listener("control", 0o660)?;
        let credentials = listener("credentials", 0o600);
        server::start(control, Arc::clone(self.host()?)).context("cannot start a thread")?;
        match credentials {
            Ok(it) => {
                server::credentials::start(it, self.host()?).context("cannot start a thread")?;
            }
            // A keeper from before there was one does not hold it, and the folder is root's.
            Err(error) => log::warn!("no unit gets credentials: {error:#}"),
        }
        Ok(())
    }
}

impl Stages for Secretsd {
    type Error = anyhow::Error;

    fn begin(&mut self, stage: Stage) -> anyhow::Result<()> {
        match stage {
            Stage::Harden => {
                harden()?;
                refuse_privileges()?;
                // Readers, operators and the connections have a descriptor each.
                if let Err(error) = sys::sandbox::raise_descriptors() {
                    log::info!("the limit of descriptors stays as it is: {error}");
                }
            }
            Stage::Apart => self.apart = Some(apart::start()?),
            Stage::Confine => {
                sys::sandbox::forbid_exec_and_mounts().context("cannot set the seccomp filter")?;
                // While there is one thread: those to come inherit it.
                let own = [&*self.folders.state_dir, &*self.folders.run_dir];
                if !sys::sandbox::restrict_files(&own).context("cannot restrict files")? {
                    log::warn!(
                        "this kernel has no Landlock: file modes alone keep us to our folders"
                    );
                }
            }
            Stage::OpenStore => self.store = Some(Store::open(&self.folders.state_dir)?),
            Stage::Unseal => self.unseal()?,
            Stage::TakeOver => self.take_over()?,
            Stage::Control => self.control()?,
            Stage::Ready => {
                tell(NotifyState::Ready);
                watchdog::start(self.host()?).context("cannot start a thread")?;
            }
        }
        Ok(())
    }

    fn end(&mut self, stage: Stage) {
        match stage {
            Stage::Ready => tell(NotifyState::Stopping),
            Stage::Control => {
                for path in self.bound.drain(..) {
                    let _ = std::fs::remove_file(path);
                }
            }
            // Whoever asks from here on waits for the next secretsd: the kernel keeps what is not
            // answered, and the injector keeps the connections.
            Stage::TakeOver => {
                if let Some(host) = self.host.take() {
                    host.close();
                }
            }
            // The root key stays in the keyring: a stop is no seal.
            Stage::Unseal => {}
            Stage::OpenStore => {
                if let Some(store) = self.store.take() {
                    store.close();
                }
            }
            // For good.
            Stage::Confine | Stage::Apart | Stage::Harden => {}
        }
    }
}

pub(crate) fn harden() -> anyhow::Result<()> {
    sys::sandbox::harden().context("cannot give up core dumps and new privileges")
}

/// secretsd must not have what it never needs: whoever takes it over would have it too.
pub(crate) fn refuse_privileges() -> anyhow::Result<()> {
    if rustix::process::getuid().is_root() || rustix::process::geteuid().is_root() {
        bail!(
            "secretsd must not run as root; `deploy-inject up --user USER` starts it as a user of \
             its own, and `deploy init` makes a store as that user"
        );
    }
    if sys::sandbox::has_capabilities().context("cannot read our own capabilities")? {
        bail!(
            "secretsd must not have any capability; start it by `deploy-inject up`, or without them"
        );
    }
    Ok(())
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("whoever started us does not listen: {error}");
    }
}

/// In place of what an earlier secretsd left, but not of one that lives.
fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        listener => listener?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_socket_that_was_left_is_replaced_and_one_that_is_served_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(bind(&path, 0o660).unwrap());
        let second = bind(&path, 0o660).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        assert!(bind(&path, 0o660).is_err());
        drop(second);
    }
}
