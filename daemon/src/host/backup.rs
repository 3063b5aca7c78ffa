//! Backups of the running store.

use std::io::Write;
use std::sync::TryLockError;

use store::{BackupError, BackupTo, Contents, Operator};

use super::Host;
use crate::audit::{Act, Unaudited};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupActError {
    #[error(transparent)]
    Store(#[from] BackupError),
    #[error(transparent)]
    Unaudited(#[from] Unaudited),
    /// One at a time: each may take the memory of a passphrase and a copy of the table of records.
    #[error("another backup is being made")]
    Busy,
}

impl Host {
    /// Writes all of the store at one moment to `out`, read again on the way. Writers go on.
    pub fn backup(
        &self,
        operator: &Operator,
        to: &BackupTo,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Contents, BackupActError> {
        let _one = match self.backing_up.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(dead)) => dead.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(BackupActError::Busy),
        };
        // Before it is written down: what is no recipient may be a private half.
        to.check()?;
        let detail = match to {
            BackupTo::Recipients(all) => format!("to {}", all.join(", ")),
            BackupTo::Passphrase(_) => "under a passphrase".to_owned(),
        };
        let act = Act::new("backup", "store").detail(&detail);
        let contents = self.audit.act(operator, act, || {
            let last = self.audit.health().last;
            let anchor = (last.seq > 0).then(|| last.to_string());
            let made = self.store.backup(operator, to, anchor, out, progress);
            made.map_err(BackupActError::from)
        })?;
        log::info!(
            "{}: made a backup of {} records",
            operator.name(),
            contents.records
        );
        Ok(contents)
    }
}
