//! Opens of secrets, on their way into the audit log: with the name of whoever asks.

use std::sync::Arc;

use audit::Event;
use fuse_fs::{Access, AccessKind, AccessVerdict, Unwritten, Witness};
use sys::reader::ReaderCache;

use crate::audit::Audit;

/// Writes accesses into the log.
#[derive(Debug)]
pub(crate) struct AuditWitness {
    pub audit: Arc<Audit>,
    pub readers: Arc<ReaderCache>,
}

impl Witness for AuditWitness {
    fn access(&self, access: &Access<'_>) -> Result<(), Unwritten> {
        // The thread waits for our answer, so it is there; nobody is refused because /proc is not.
        let identity = self.readers.identity_of(access.tid).ok();
        let identity = identity.as_ref();
        let entry = audit::Access {
            pid: identity.map_or(0, |one| one.pid),
            tid: access.tid,
            uid: access.uid,
            comm: identity.map_or(&[], |one| one.comm()),
            cgroup: identity.map_or(&[], |one| one.cgroup.as_bytes()),
            service: access.service.as_str(),
            instance: access.instance,
            secret: access.secret.as_str(),
            field: access.field.map(model::FieldName::as_str),
            version: access.version,
            verdict: match access.verdict {
                AccessVerdict::Allowed => audit::Verdict::Allowed,
                AccessVerdict::Denied => audit::Verdict::Denied,
                AccessVerdict::Failed => audit::Verdict::Failed,
            },
            why: access.why,
            connection: access.connection,
            unique: access.unique,
        };
        let event = match access.kind {
            AccessKind::Open => Event::Open(entry),
            AccessKind::Read => Event::Read(entry),
        };
        match self.audit.append(&event, access.resent) {
            Err(_) if !self.audit.fails_open => Err(Unwritten),
            _ => Ok(()),
        }
    }
}
