//! The views of all instances, as a tree that knows no kernel.
//!
//! [`ask`], [`open`] and [`list`] answer handlers; [`life`] and [`change`] are what the beginning and end of
//! instances and operators' acts do to it; [`forget`] tells the kernel; [`instance`] and [`config`] are
//! what an instance is made of; [`witness`] has each access written down.

mod ask;
mod change;
mod config;
mod forget;
mod going;
mod instance;
mod life;
mod list;
mod lost;
mod open;
mod pins;
mod retell;
mod retries;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use model::{SecretName, Timestamp, Tree};
use store::{State as StoreState, Store, VersionMeta};
use sys::lock::{read, write};

pub(crate) use self::ask::{Attr, Caller, NAME_MAX, OpenAs, Part, Ttl};
pub(crate) use self::forget::Stale;
use self::going::Going;
use self::instance::Instance;
use self::pins::Pins;
use self::retries::Retries;
use crate::kernel::Kernel;
use crate::live::Live;
use crate::pool::Pool;
use crate::spec::{Membership, Units, ViewsStatus, Witness};

/// The views of all instances.
pub struct Views {
    store: Store,
    membership: Arc<dyn Membership>,
    witness: Arc<dyn Witness>,
    /// Set by whoever makes them; without, units have no instances.
    units: OnceLock<Arc<dyn Units>>,
    /// Of the connection for secrets.
    connection: AtomicU32,
    state: RwLock<State>,
    /// While set, nothing is answered but the master's own folders.
    sealed: AtomicBool,
    pins: Pins,
    retries: Retries,
    going: Going,
    /// Held for reading by each handler until it has answered. Whoever has changed what is shown
    /// takes it once for writing: then no answer with the old state is on its way any more.
    turn: RwLock<()>,
    /// Held by whoever changes what is shown, from the look at the store until the last invalidation is
    /// done or queued.
    /// No handler takes it.
    changing: Mutex<()>,
    secret_inodes: Live,
    config_inodes: Live,
    secret_kernel: RwLock<Option<Kernel>>,
    config_kernel: RwLock<Option<Kernel>>,
    pool: Pool,
}

#[derive(Default)]
struct State {
    instances: HashMap<u32, Instance>,
    /// The newest version of each secret that an instance asks for.
    newest: HashMap<SecretName, Arc<Newest>>,
    /// The version before it, while that has its grace.
    previous: HashMap<SecretName, Arc<Newest>>,
}

/// What a secret's name leads to, or its name among the previous ones.
struct Newest {
    version: VersionMeta,
}

/// A handler's turn, from its look at the state to its answer.
pub(crate) struct Turn<'a>(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>);

impl Views {
    /// No instance yet.
    pub fn new(
        store: Store,
        membership: Arc<dyn Membership>,
        witness: Arc<dyn Witness>,
    ) -> Arc<Views> {
        let sealed = store.state() == StoreState::Sealed;
        Arc::new(Views {
            store,
            membership,
            witness,
            units: OnceLock::new(),
            connection: AtomicU32::new(0),
            state: RwLock::default(),
            sealed: AtomicBool::new(sealed),
            pins: Pins::default(),
            retries: Retries::default(),
            going: Going::default(),
            turn: RwLock::default(),
            changing: Mutex::default(),
            secret_inodes: Live::default(),
            config_inodes: Live::default(),
            secret_kernel: RwLock::default(),
            config_kernel: RwLock::default(),
            pool: Pool::default(),
        })
    }

    /// Units get their instances from `units` from now on.
    pub fn make_units_by(&self, units: Arc<dyn Units>) {
        let _ = self.units.set(units);
    }

    pub(crate) fn units(&self) -> Option<Arc<dyn Units>> {
        self.units.get().cloned()
    }

    /// Counts for `deploy status`.
    pub fn status(&self) -> ViewsStatus {
        ViewsStatus {
            instances: read(&self.state).instances.len(),
            inodes: self.secret_inodes.len() + self.config_inodes.len(),
        }
    }

    /// Nobody is answered from here on, for the process ends: what a handler has taken meanwhile is
    /// left to the next secretsd, as after a kill. A store that closes would have it answered ENOKEY.
    /// Returns when every handler that was answering has answered.
    pub fn answer_no_more(&self) {
        std::mem::forget(write(&self.turn));
    }

    /// Begins to answer. Held until the answer has been sent.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn(read(&self.turn))
    }

    /// A connection is served from now on. What another connection of the tree had is void: it was
    /// lost, and answers nobody, but descriptors and mappings that a service has of it would read on
    /// from the kernel's cache, where no revocation reaches them once the device is closed.
    pub(crate) fn serves(&self, tree: Tree, kernel: Kernel, connection: u32, fresh: bool) {
        if tree == Tree::Secret {
            self.connection.store(connection, Ordering::Release);
        }
        if fresh {
            let inodes = self.all_live(&read(&self.state), tree);
            self.forget_inodes(tree, &inodes);
            self.inodes(tree).clear(&self.store);
        }
        *write(self.kernel(tree)) = Some(kernel);
    }

    fn kernel(&self, tree: Tree) -> &RwLock<Option<Kernel>> {
        match tree {
            Tree::Secret => &self.secret_kernel,
            Tree::Config => &self.config_kernel,
        }
    }

    fn inodes(&self, tree: Tree) -> &Live {
        match tree {
            Tree::Secret => &self.secret_inodes,
            Tree::Config => &self.config_inodes,
        }
    }

    fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Returns when every handler that was answering has answered.
    fn wait_for_handlers(&self) {
        drop(write(&self.turn));
    }
}

/// The time, in whole seconds.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_secs()))
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
