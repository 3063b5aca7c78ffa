//! What the tests share: an operator, values, a store on disk that cleans up behind itself.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{FieldName, SecretName, ServiceName};
use store::{
    Argon2Params, Cipher, InitOptions, NewSlot, OpenError, Operator, Permit, ReadError, Reader,
    SecretBytes, Store, Unlock, Value,
};
use sys::peer::PeerCredentials;
use zeroize::Zeroizing;

pub fn operator() -> Operator {
    Operator::authenticate(
        &PeerCredentials {
            pid: 1,
            uid: 0,
            gid: 0,
        },
        &[],
        None,
    )
    .unwrap()
}

pub fn secret(name: &str) -> SecretName {
    name.parse().unwrap()
}

pub fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

pub fn field(name: &str) -> FieldName {
    name.parse().unwrap()
}

pub fn single(text: &str) -> Value {
    Value::Single(SecretBytes::from(text.as_bytes()))
}

pub fn fields(pairs: &[(&str, &str)]) -> Value {
    let pair = |(name, text): &(&str, &str)| (field(name), SecretBytes::from(text.as_bytes()));
    Value::Fields(pairs.iter().map(pair).collect())
}

pub fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<model::ConfigKey, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.parse().unwrap(), (*value).to_string()))
        .collect()
}

/// The data of a config that is there, and its version.
pub fn merged(store: &Store, name: &str) -> (BTreeMap<model::ConfigKey, String>, u32) {
    let merged = store.configs_for(&[name.parse().unwrap()]).unwrap();
    assert_eq!(merged.missing, []);
    (merged.data, merged.version)
}

/// Versions that are out of reach, and still there: held, or waiting for a sweep.
pub fn retained(store: &Store) -> Vec<(SecretName, u32)> {
    let of_secret = |(name, versions): (SecretName, Vec<u32>)| {
        let reach = store.history(&operator(), &name).unwrap();
        let is_out = |number: &u32| reach.iter().all(|one| one.number != *number);
        let out: Vec<u32> = versions.into_iter().filter(is_out).collect();
        out.into_iter().map(move |number| (name.clone(), number))
    };
    store
        .versions()
        .into_iter()
        .flatten()
        .flat_map(of_secret)
        .collect()
}

pub fn memory() -> Store {
    Store::in_memory(Cipher::default())
}

/// A permit of the operator.
pub fn all_of(store: &Store, name: &str) -> Permit {
    store
        .permit(Reader::Operator(&operator()), &secret(name))
        .unwrap()
}

/// A permit of an instance.
pub fn ask(store: &Store, of: &str, name: &str) -> Result<Permit, store::Denied> {
    store.permit(
        Reader::Instance {
            service: &service(of),
            number: 1,
            identity: &Default::default(),
        },
        &secret(name),
    )
}

pub fn read(
    store: &Store,
    permit: &Permit,
    version: u32,
    of: Option<&str>,
) -> Result<String, ReadError> {
    let of = of.map(field);
    store
        .open_value(permit, version, of.as_ref())
        .map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// The newest value of a secret without fields.
pub fn newest(store: &Store, name: &str) -> String {
    let permit = all_of(store, name);
    let number = store.secret(&permit).unwrap().newest().number;
    read(store, &permit, number, None).unwrap()
}

pub fn reach(store: &Store, name: &str) -> Vec<u32> {
    store
        .history(&operator(), &secret(name))
        .unwrap()
        .iter()
        .map(|version| version.number)
        .collect()
}

/// As little as is accepted.
const LEAST: Argon2Params = Argon2Params {
    memory_kib: 19 * 1024,
    passes: 2,
    lanes: 1,
};

pub fn typed(passphrase: &str) -> NewSlot {
    let passphrase = Zeroizing::new(passphrase.to_string());
    NewSlot::Passphrase {
        passphrase,
        params: LEAST,
        label: "typed".into(),
    }
}

pub fn file(path: Option<&str>) -> NewSlot {
    NewSlot::File {
        path: path.map(Into::into),
        label: "file".into(),
    }
}

pub fn by(passphrase: &str) -> Unlock {
    Unlock::Passphrase(Zeroizing::new(passphrase.to_string()))
}

pub fn fill(store: &Store) {
    let op = operator();
    store
        .create(&op, &secret("db"), single("one"), None, &[service("web")])
        .unwrap();
    store.rotate(&op, &secret("db"), single("two")).unwrap();
    store
        .create(
            &op,
            &secret("tls"),
            fields(&[("cert", "c"), ("key", "k")]),
            None,
            &[],
        )
        .unwrap();
    store
        .create(&op, &secret("gone"), single("x"), None, &[])
        .unwrap();
    store
        .delete(&op, &secret("gone"))
        .unwrap()
        .commit()
        .unwrap();
    store
        .config_create(&op, &"app".parse().unwrap(), pairs(&[("a", "1")]), false)
        .unwrap();
}

pub fn check(store: &Store) {
    let op = operator();
    assert_eq!(
        (newest(store, "db"), reach(store, "db")),
        ("two".into(), vec![1, 2])
    );
    assert_eq!(read(store, &all_of(store, "db"), 1, None).unwrap(), "one");
    assert_eq!(
        read(store, &all_of(store, "tls"), 1, Some("key")).unwrap(),
        "k"
    );
    assert!(ask(store, "web", "db").unwrap().is_valid());
    assert!(ask(store, "web", "tls").is_err());
    assert_eq!(store.list(&op, "").unwrap().len(), 2);
    assert_eq!(merged(store, "app"), (pairs(&[("a", "1")]), 1));
    let status = store.status();
    assert_eq!((status.secrets, status.services, status.configs), (2, 1, 1));
}

/// A store in a folder of its own, unsealed. Removes folder and key when dropped.
pub struct OnDisk {
    folder: tempfile::TempDir,
    open: Option<Store>,
}

impl OnDisk {
    pub fn make() -> Self {
        Self::make_with(
            Cipher::default(),
            NewSlot::File {
                path: None,
                label: String::new(),
            },
        )
    }

    pub fn make_with(cipher: Cipher, slot: NewSlot) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Store::init(&folder.path().join("state"), InitOptions { cipher, slot }).unwrap();
        let mut made = Self { folder, open: None };
        made.open_sealed();
        made
    }

    /// A copy of a folder.
    pub fn copy_of(from: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(from, &folder.path().join("state"));
        let mut made = Self { folder, open: None };
        made.open_sealed();
        made
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn store(&self) -> &Store {
        self.open.as_ref().unwrap()
    }

    pub fn unsealed(self) -> Self {
        self.store().unseal(Unlock::FileSlots).unwrap();
        self
    }

    pub fn unsealed_by(self, passphrase: &str) -> Self {
        let passphrase = Zeroizing::new(passphrase.to_string());
        self.store().unseal(Unlock::Passphrase(passphrase)).unwrap();
        self
    }

    /// Lets the store go, and its lock with it.
    pub fn forget(&mut self) {
        self.open = None;
    }

    fn open_sealed(&mut self) {
        // Another test may be starting a process, which has our lock from its fork to its exec.
        let deadline = Instant::now() + Duration::from_secs(20);
        self.open = Some(loop {
            match Store::open(&self.dir()) {
                Err(OpenError::AlreadyRunning(_)) if Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                opened => break opened.unwrap(),
            }
        });
    }

    /// Lets the store go without a word to it, as a crash does for everything but the kernel.
    pub fn drop_and_open(&mut self) {
        self.open = None;
        self.open_sealed();
    }

    pub fn reopen(&mut self) {
        self.drop_and_open();
        self.store().unseal(Unlock::FileSlots).unwrap();
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        // Takes the root key out of the keyring, too.
        if let Some(store) = self.open.take().or_else(|| Store::open(&self.dir()).ok()) {
            store.seal();
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
