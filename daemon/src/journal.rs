//! The audit log's second sink: systemd's journal, which may be kept on another machine.
//!
//! A thread follows the log, so that nobody who waits for an answer waits for journald; what journald
//! does not take is given to it again.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit::{Entry, Follow, Record, Verdict};

use crate::audit::Audit;

/// Between two looks at the log.
const PAUSE: Duration = Duration::from_millis(200);
/// Nobody is held up by a journald that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Passes entries on to the journal at `socket` from a thread of its own, if there is one.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(audit: &Arc<Audit>, socket: &Path) -> io::Result<()> {
    if !socket.exists() {
        return Ok(());
    }
    let (audit, socket) = (Arc::clone(audit), socket.to_path_buf());
    // From here on, and not from when the thread gets its turn.
    let mut follow = Follow::from_end(audit.folder()).ok();
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            let mut told = false;
            loop {
                match pass_on(&audit, &socket, &mut follow) {
                    Ok(()) => told = false,
                    Err(error) if !told => {
                        log::warn!("the journal does not take audit entries: {error}");
                        told = true;
                    }
                    Err(_) => {}
                }
                std::thread::sleep(PAUSE);
            }
        })?;
    Ok(())
}

fn pass_on(audit: &Audit, socket: &Path, follow: &mut Option<Follow>) -> io::Result<()> {
    let follow = match follow {
        Some(follow) => follow,
        None => follow.insert(Follow::from_end(audit.folder())?),
    };
    let mut journal = None;
    follow.read(|entry| {
        let journal = match &journal {
            Some(journal) => journal,
            None => journal.insert(connect(socket)?),
        };
        journal.send(&message(entry)?).map(drop)
    })
}

fn connect(socket: &Path) -> io::Result<UnixDatagram> {
    let journal = UnixDatagram::unbound()?;
    journal.set_write_timeout(Some(PATIENCE))?;
    journal.connect(socket)?;
    Ok(journal)
}

/// In journald's native form (systemd, JOURNAL_NATIVE_PROTOCOL): a field a line. No value has a line
/// end: an entry's JSON shows what others chose without any.
fn message(entry: &Entry<'_>) -> io::Result<Vec<u8>> {
    let priority = if is_refusal(entry) { 4 } else { 6 };
    let mut message = Vec::new();
    writeln!(message, "MESSAGE={}", entry.json())?;
    writeln!(message, "PRIORITY={priority}")?;
    writeln!(message, "SYSLOG_IDENTIFIER=secretsd-audit")?;
    writeln!(message, "DEPLOY_AUDIT_SEQ={}", entry.seq)?;
    writeln!(message, "DEPLOY_AUDIT_HASH={}", entry.hash)?;
    Ok(message)
}

fn is_refusal(entry: &Entry<'_>) -> bool {
    use audit::Event::{Open, Read};
    match &entry.record {
        Record::Event(Open(access) | Read(access)) => access.verdict != Verdict::Allowed,
        Record::Merged(merged) => merged.verdict != Verdict::Allowed,
        _ => false,
    }
}
