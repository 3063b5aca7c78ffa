//! A disk that loses power: a FUSE file system in memory that keeps what was not synced apart, drops
//! it on command in the forms that disks show, and lets the Nth call of a kind fail. As LazyFS, with
//! the order of what was done kept, so that each form can be made of it.
//!
//! Its mount is attached nowhere, unless [`Disk::attach`] does: programs reach it by a descriptor of
//! this process, so that it goes with this process, however that ends.

mod cut;
mod fault;
mod fuse;
mod held;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use fuser::{Config, Errno, Session, SessionACL};
use sys::lock::lock;

pub use cut::{Cut, SECTOR};
pub use fault::{Counts, Failed, Fault, Part};
pub use held::HeldSyncs;

use fault::Faults;
use fuse::Adapter;
use held::Held;
use tree::Tree;

use crate::soak::Random;

/// A disk, mounted as long as this value lives. No program may use it any more when that ends.
pub struct Disk {
    state: Arc<Mutex<State>>,
    mount: OwnedFd,
}

/// What a disk holds at one moment; [`Disk::load`] brings it back.
#[derive(Clone)]
pub struct Image(Tree);

/// Whether the power goes at a change: what it is, and of which path.
type Moment = Box<dyn FnMut(&str, &str) -> bool + Send>;

/// What the kernel's requests and the test share.
struct State {
    tree: Tree,
    faults: Faults,
    /// The power is off: nothing changes, and every call fails.
    off: bool,
    /// When the power goes, and whom to tell.
    fuse: Option<(Moment, Box<dyn FnOnce() + Send>)>,
    /// Whether the last change comes about, and nobody hears of it.
    last_counts: bool,
    /// Every sync says that all is well and does nothing.
    lies: bool,
    /// Syncs that are not answered yet.
    held: Held,
}

impl State {
    /// Counts a call on a node, and lets it fail where it is to.
    fn admit(&mut self, call: &str, changes: bool, number: u64) -> Result<(), Errno> {
        let index = self.tree.node(number).is_ok_and(|node| node.index);
        let part = if index { Part::Index } else { Part::Own };
        let tree = &self.tree;
        let named = || format!("{call} {}", tree.path(number));
        self.faults.admit(part, changes, named)
    }

    /// A call on a node that changes nothing on the disk.
    fn look<T>(&mut self, look: impl FnOnce(&mut Tree) -> Result<T, Errno>) -> Result<T, Errno> {
        if self.off {
            return Err(Errno::EIO);
        }
        look(&mut self.tree)
    }

    /// As [`State::look`], of a call that may fail.
    fn try_to<T>(
        &mut self,
        call: &str,
        number: u64,
        look: impl FnOnce(&mut Tree) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if !self.off {
            self.admit(call, false, number)?;
        }
        self.look(look)
    }

    /// A call on a node that changes something; the power may go before it, or before its answer.
    fn change<T>(
        &mut self,
        call: &str,
        number: u64,
        change: impl FnOnce(&mut Tree) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if self.off {
            return Err(Errno::EIO);
        }
        self.admit(call, true, number)?;
        let path = self.tree.path(number);
        if let Some((moment, _)) = &mut self.fuse
            && moment(call, &path)
        {
            if self.last_counts {
                let _ = change(&mut self.tree);
            }
            self.power_off();
            return Err(Errno::EIO);
        }
        change(&mut self.tree)
    }

    fn power_off(&mut self) {
        self.off = true;
        if let Some((_, tell)) = self.fuse.take() {
            tell();
        }
    }
}

impl Disk {
    /// An empty disk.
    ///
    /// # Panics
    /// There is no /dev/fuse, or we may not mount.
    #[must_use]
    pub fn new() -> Self {
        let state = Arc::new(Mutex::new(State {
            tree: Tree::new(),
            faults: Faults::default(),
            off: false,
            fuse: None,
            last_counts: false,
            lies: false,
            held: Held::default(),
        }));
        let (device, mount) = sys::fuse::connect("powercut").unwrap();
        let adapter = Adapter::new(state.clone());
        let session =
            Session::from_fd(adapter, device, SessionACL::All, Config::default()).unwrap();
        // Ends with the connection, which ends with the mount.
        let serve = move || drop(session.run());
        std::thread::Builder::new()
            .name("powercut".into())
            .spawn(serve)
            .unwrap();
        Self { state, mount }
    }

    /// The root folder, for every program that root runs while this process does.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        let mount = self.mount.as_raw_fd();
        format!("/proc/{}/fd/{mount}", std::process::id()).into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The power goes at the first change of which `moment` says so, by what it is and the path of
    /// what it changes; of a name, the folder's. `tell` hears of it. `last_counts` says whether that
    /// change came about.
    pub fn cut_at(
        &self,
        moment: impl FnMut(&str, &str) -> bool + Send + 'static,
        last_counts: bool,
        tell: impl FnOnce() + Send + 'static,
    ) {
        let mut state = self.state();
        state.fuse = Some((Box::new(moment), Box::new(tell)));
        state.last_counts = last_counts;
    }

    /// As [`Disk::cut_at`], after so many more changes; at the next one: 0.
    pub fn cut_after(&self, changes: u64, last_counts: bool, tell: impl FnOnce() + Send + 'static) {
        let mut all = 0..changes;
        self.cut_at(move |_, _| all.next().is_none(), last_counts, tell);
    }

    /// The power goes now, and whoever waits for it is told.
    pub fn cut_now(&self) {
        self.state().power_off();
    }

    /// Whether the power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.state().off
    }

    /// The power is back, and the disk has what was synced and what `cut` leaves of the rest. Nobody
    /// may use it any more who did before.
    pub fn power_back(&self, cut: Cut, random: &mut Random) {
        let mut state = self.state();
        let unsynced = state.tree.take_unsynced();
        let survived = cut.survivors(unsynced, random);
        state.tree.restart(survived);
        state.off = false;
        state.fuse = None;
    }

    /// Syncs all there is.
    pub fn sync_all(&self) {
        let mut state = self.state();
        let unsynced = state.tree.take_unsynced();
        state.tree.restart(unsynced);
    }

    /// Goes on after a kill of those who used it: what they wrote is there, and not synced. The
    /// kernel has dropped what it had cached, so that what a failed sync has lost shows.
    pub fn go_on(&self) {
        let mut state = self.state();
        state.tree.drop_cache();
        state.off = false;
        state.fuse = None;
    }

    /// From now on every sync is a lie, or none.
    pub fn lie(&self, lies: bool) {
        self.state().lies = lies;
    }

    /// Counts calls from 0, and lets one fail, or none. Gives how many there were before, and the
    /// first of them that failed.
    pub fn fail(&self, fault: Option<Fault>) -> (Counts, Option<Failed>) {
        let faults = Faults {
            fault,
            ..Faults::default()
        };
        let before = std::mem::replace(&mut self.state().faults, faults);
        (before.counts, before.first)
    }

    /// The first call that failed since [`Disk::fail`].
    #[must_use]
    pub fn failed(&self) -> Option<Failed> {
        self.state().faults.first.clone()
    }

    /// No call fails any more; what failed is remembered.
    pub fn mend(&self) {
        self.state().faults.fault = None;
    }

    /// Whether a file has such a name, in whatever folder.
    #[must_use]
    pub fn holds(&self, such: impl Fn(&str) -> bool) -> bool {
        self.state().tree.any_name(such)
    }

    /// All there is, synced or not; for [`Disk::load`].
    #[must_use]
    pub fn image(&self) -> Image {
        Image(self.state().tree.clone())
    }

    /// Puts an image in place of what is there; then as [`Disk::go_on`].
    pub fn load(&self, image: &Image) {
        self.state().tree.load(&image.0);
        self.go_on();
    }

    /// As [`Disk::load`], and as if the power had gone then.
    pub fn load_cut(&self, image: &Image, cut: Cut, random: &mut Random) {
        self.state().tree.load(&image.0);
        self.power_back(cut, random);
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Image")
    }
}
