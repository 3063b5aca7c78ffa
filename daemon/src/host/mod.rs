//! What secretsd is while it runs: the store, the views that instances have of it, and the way to
//! the injector.
//!
//! An operator's act goes one way ([`acts`]): the store first, then the views, then rings. Views ask
//! the store again for whatever they show, so two acts at once end in what the store says last.

pub(crate) mod acts;
pub(crate) mod backup;
mod configs;
mod keys;
mod lost;
mod operator_tree;
pub(crate) mod take_over;
mod units;
mod untold;
mod versions;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fuse_fs::{Views, ViewsStatus};
use store::{Operator, Store};
use sys::apart::Apart;
use sys::lock::lock;
use sys::peer::PeerCredentials;

use self::lost::Lost;
use self::take_over::Served;
use self::untold::Untold;
use crate::apart::Guard;
use crate::audit::Audit;
use crate::housekeeping::Housekeeping;
use crate::injector::Injector;
use crate::membership::ProcMembership;
use crate::witness::AuditWitness;

/// The state that all threads share.
pub(crate) struct Host {
    /// The group whose members are operators, beside root.
    pub deploy_group: Option<u32>,
    pub store: Store,
    pub injector: Injector,
    pub housekeeping: Housekeeping,
    pub audit: Arc<Audit>,
    views: Arc<Views>,
    /// Tells the kernel what the views have it forget.
    apart: Arc<Apart>,
    membership: Arc<ProcMembership>,
    /// Where the master mount for secrets is, to know its device.
    secret_mount: std::path::PathBuf,
    served: Mutex<Served>,
    untold: Untold,
    /// Connections that were lost, for when the store is unsealed.
    lost: Mutex<Vec<Lost>>,
    /// Held by whoever seals or unseals: store and views must end in the same state.
    sealing: Mutex<Sealing>,
    /// Held by whoever makes a backup.
    backing_up: Mutex<()>,
    /// What `deploy status` warns of.
    remarks: Mutex<Vec<String>>,
}

/// What whoever seals or unseals has to know.
#[derive(Debug, Default)]
struct Sealing {
    /// All is being stopped: nothing is served any more.
    for_good: bool,
}

impl Host {
    /// Serves nothing yet.
    pub fn new(store: Store, audit: Audit, apart: Arc<Apart>, run_dir: &Path) -> Arc<Host> {
        let audit = Arc::new(audit);
        let membership = Arc::new(ProcMembership::default());
        let witness = AuditWitness {
            audit: Arc::clone(&audit),
            readers: membership.readers(),
        };
        let host = Arc::new(Host {
            deploy_group: sys::users::group_id("deploy"),
            injector: Injector::new(run_dir.join("inject.sock")),
            housekeeping: Housekeeping::default(),
            audit,
            views: Views::new(store.clone(), membership.clone(), Arc::new(witness)),
            apart,
            membership,
            store,
            secret_mount: run_dir.join("views/secret"),
            served: Mutex::default(),
            untold: Untold::default(),
            lost: Mutex::default(),
            sealing: Mutex::default(),
            backing_up: Mutex::default(),
            remarks: Mutex::default(),
        });
        host.serve_units();
        host
    }

    /// How the views are.
    pub fn views_status(&self) -> ViewsStatus {
        self.views.status()
    }

    /// The process ends: no service is answered any more, and the audit log is closed after the last
    /// entry.
    pub fn close(&self) {
        self.views.answer_no_more();
        self.audit.close();
    }

    /// Keeps a connection of the credentials socket, should we be killed.
    pub fn guard(&self, stream: &UnixStream) -> Result<Guard, rustix::io::Errno> {
        Guard::of(&self.apart, stream)
    }

    /// Who a thread is that waits for an answer.
    pub fn identity_of(&self, tid: u32) -> std::io::Result<sys::reader::Identity> {
        self.membership.readers().identity_of(tid)
    }

    /// Replaces what `deploy status` warns of.
    pub fn remark(&self, remarks: Vec<String>) {
        *lock(&self.remarks) = remarks;
    }

    /// What `deploy status` warns of.
    pub fn remarks(&self) -> Vec<String> {
        lock(&self.remarks).clone()
    }
}

/// As whom secretsd itself looks at grants: as root would.
pub(crate) fn ourselves() -> Option<Operator> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    Operator::authenticate(
        &PeerCredentials {
            pid,
            uid: 0,
            gid: 0,
        },
        &[],
        None,
    )
    .map(|operator| operator.named(Some("secretsd".to_owned())))
}
