//! The store itself: its folder, whether it is sealed, and what is shared while it is not.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock, Weak};

use records::Records;
use sys::lock::{lock, read};
use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::error::{InitError, OpenError, WriteError};
use crate::hierarchy::{KEY, Keys};
use crate::keys_file::{KeysFile, SlotTable};
use crate::layout::Layout;
use crate::live::Live;
use crate::meta::{State, Status, StoreId};
use crate::slots::{Holder, NewSlot, Slot, SlotInfo};
use crate::unseal::Unlock;

/// A store. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) id: StoreId,
    pub(crate) cipher: Cipher,
    pub(crate) home: Home,
    /// `None`: sealed.
    pub(crate) live: RwLock<Option<Arc<Live>>>,
    /// Held by whoever changes which key is in use: unseal, seal, close, rotations, slots.
    pub(crate) keys_change: Mutex<()>,
    /// Opens of versions by instances; they outlast a seal.
    pub(crate) holds: crate::holds::Holds,
}

/// Where a store's records and keys are.
pub(crate) enum Home {
    Disk(Layout),
    Memory(Mutex<Twin>),
}

/// A store in memory, as it is while sealed.
pub(crate) struct Twin {
    pub(crate) generation: u32,
    pub(crate) root: Zeroizing<[u8; KEY]>,
    pub(crate) records: Records,
}

/// How a store is made.
#[derive(Debug)]
pub struct InitOptions {
    /// What records are sealed with.
    pub cipher: Cipher,
    /// The first key slot.
    pub slot: NewSlot,
}

/// What [`Store::init`] has made.
#[derive(Debug)]
pub struct InitReport {
    /// The new store's id.
    pub id: StoreId,
    /// Its only key slot.
    pub slot: SlotInfo,
}

impl Store {
    /// Makes a store in an empty folder, or in one that does not exist yet (its parent must). The
    /// store is sealed, and open nowhere, when this returns.
    ///
    /// # Errors
    /// The folder is not empty, the slot cannot be made, or a file cannot be written. What was made
    /// until then is removed again.
    pub fn init(dir: &Path, options: InitOptions) -> Result<InitReport, InitError> {
        let mut id = StoreId([0; 16]);
        getrandom::fill(&mut id.0).map_err(|error| InitError::System(error.into()))?;
        let layout = Layout::begin(dir, id, options.cipher)?;
        let mut key_file = None;
        let made = fill(&layout, options.slot, &mut key_file);
        if made.is_err() {
            layout.undo(key_file.as_deref());
        }
        made
    }

    /// Opens a store, sealed, and locks its folder against other processes.
    ///
    /// # Errors
    /// There is no store, another process has it, or STORE or CURRENT is damaged.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let layout = Layout::open(dir)?;
        let (id, cipher) = (layout.id, layout.cipher);
        Ok(Self::new(id, cipher, Home::Disk(layout)))
    }

    /// A store without a folder, unsealed: for tests. It is sealed and unsealed (by
    /// [`Unlock::FileSlots`]) like another, and has no key slots to list or change.
    #[must_use]
    pub fn in_memory(cipher: Cipher) -> Self {
        let mut id = StoreId([0; 16]);
        let mut root = Zeroizing::new([0; KEY]);
        let random = getrandom::fill(&mut id.0).and_then(|()| getrandom::fill(&mut *root));
        let twin = Twin {
            generation: 1,
            root,
            records: Records::in_memory(),
        };
        let store = Self::new(id, cipher, Home::Memory(Mutex::new(twin)));
        if let Err(error) = random {
            log::error!("a store in memory stays sealed: {error}");
        } else if let Err(error) = store.unseal(Unlock::FileSlots) {
            log::error!("a store in memory stays sealed: {error}");
        }
        store
    }

    fn new(id: StoreId, cipher: Cipher, home: Home) -> Self {
        Self {
            inner: Arc::new(Inner {
                id,
                cipher,
                home,
                live: RwLock::new(None),
                keys_change: Mutex::new(()),
                holds: crate::holds::Holds::default(),
            }),
        }
    }

    /// The store's id.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.inner.id
    }

    /// Sealed, or unsealed with the root key of which generation.
    #[must_use]
    pub fn state(&self) -> State {
        self.live().map_or(State::Sealed, |live| State::Unsealed {
            generation: live.generation().number(),
        })
    }

    /// What `deploy status` shows. Never waits for a writer.
    #[must_use]
    pub fn status(&self) -> Status {
        let live = self.live();
        let mut status = Status {
            id: self.inner.id,
            state: self.state(),
            cipher: self.inner.cipher,
            secrets: 0,
            retained_versions: 0,
            services: 0,
            configs: 0,
            last_seq: 0,
            records: None,
            slots: self.slots_as_written(live.as_deref()),
            rotation: None,
        };
        if let Some(live) = live {
            let generation = live.generation();
            status.last_seq = generation.records.last_seq();
            let mut health = generation.records.health();
            health.stopped = health.stopped.or(live.stopped());
            status.records = Some(health);
            status.rotation = *lock(&live.rotation);
            let catalog = read(&live.catalog);
            status.secrets = catalog.secrets.values().filter(|one| one.exists()).count() as u64;
            status.services = catalog.services.values().filter(|one| one.any()).count() as u64;
            status.configs = catalog.configs.values().filter(|one| one.there).count() as u64;
            status.retained_versions = self.inner.holds.retained(&catalog);
        }
        status
    }

    /// The slots of the `keys` file; none if it cannot be read, or is not what the root key says.
    fn slots_as_written(&self, live: Option<&Live>) -> Vec<SlotInfo> {
        let Home::Disk(layout) = &self.inner.home else {
            return Vec::new();
        };
        let generation = match live {
            Some(live) => Some(live.generation().number()),
            None => layout.current().ok(),
        };
        let file = generation.and_then(|number| {
            KeysFile::read(&layout.keys_path(number), self.inner.id, number).ok()
        });
        let trusted = |file: &KeysFile| {
            live.is_none_or(|live| file.verify(&live.generation().sealer.keys).is_ok())
        };
        file.filter(trusted)
            .map(|file| file.slots().iter().map(Slot::info).collect())
            .unwrap_or_default()
    }

    /// What is shared while unsealed; `None` while sealed, and from the first moment of a seal on.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        read(&self.inner.live)
            .clone()
            .filter(|live| !live.is_closing())
    }

    pub(crate) fn writable(&self) -> Result<Arc<Live>, WriteError> {
        self.live().ok_or(WriteError::Sealed)
    }

    /// The unsealed span that something began in, if it has not ended.
    pub(crate) fn still(&self, begun: &Weak<Live>) -> Result<Arc<Live>, WriteError> {
        let live = self.writable()?;
        let same = begun
            .upgrade()
            .is_some_and(|begun| Arc::ptr_eq(&begun, &live));
        if same {
            Ok(live)
        } else {
            Err(WriteError::Sealed)
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("id", &self.inner.id)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// All that a new store consists of. STORE is written last: before it there is no store.
fn fill(
    layout: &Layout,
    slot: NewSlot,
    key_file: &mut Option<std::path::PathBuf>,
) -> Result<InitReport, InitError> {
    let generation = 1;
    let keys = Keys::generate(layout.id).map_err(InitError::System)?;
    let mut table = SlotTable::empty();
    let (slot, private) = Slot::make(layout.dir(), layout.id, table.next_id()?, slot)?;
    if let Holder::File { path } = &slot.holder {
        *key_file = Some(layout.dir().join(path));
    }
    let info = slot.info();
    table.add(layout.id, slot, &private)?;
    layout.make_folder(generation)?;
    table.write(
        &layout.keys_path(generation),
        &keys,
        generation,
        layout.cipher,
    )?;
    let journal_key = keys
        .journal_key()
        .map_err(|error| InitError::System(std::io::Error::other(error)))?;
    let records = Records::create(&layout.folder(generation), layout.id.0, &journal_key)?;
    records.close();
    layout.set_current(generation)?;
    layout.finish()?;
    Ok(InitReport {
        id: layout.id,
        slot: info,
    })
}
