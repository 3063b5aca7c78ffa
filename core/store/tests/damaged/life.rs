//! A store at some moments of its life, and all that it gives.

use model::{FieldName, Grant, Pins};
use store::{ConfigMeta, Denied, InitOptions, NewSlot, SecretMeta, SlotInfo, Store, Unlock};

use super::{Image, Work, put, watch_panics};
use crate::common::*;

/// Secret, version, field, and the value or why there is none.
type OneValue = (String, u32, Option<FieldName>, Result<Vec<u8>, String>);

/// Everything that a store gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub id: String,
    /// Generation and transaction: what a backup calls its version.
    pub at: (u32, u64),
    secrets: Vec<SecretMeta>,
    values: Vec<OneValue>,
    grants: Vec<(String, Grant)>,
    permits: Vec<(&'static str, &'static str, Option<Denied>)>,
    pub configs: Vec<(ConfigMeta, String)>,
    pub slots: Vec<SlotInfo>,
}

const SERVICES: [&str; 3] = ["web", "api", "nobody"];
const SECRETS: [&str; 4] = ["db", "tls", "once", "gone"];

impl Picture {
    pub fn of(store: &Store, generation: u32) -> Self {
        let op = operator();
        let secrets = store.list(&op, "").unwrap();
        let mut values = Vec::new();
        for meta in &secrets {
            let permit = all_of(store, meta.name.as_str());
            assert_eq!(&store.secret(&permit).unwrap(), meta);
            for version in &meta.versions {
                for (field, _) in &version.sizes {
                    let value = store
                        .open_value(&permit, version.number, field.as_ref())
                        .map(|value| value.to_vec())
                        .map_err(|error| error.to_string());
                    values.push((meta.name.to_string(), version.number, field.clone(), value));
                }
            }
        }
        let permits = SERVICES.iter().flat_map(|of| {
            let asked = SECRETS.iter().map(|name| (*of, *name));
            asked.map(|(of, name)| (of, name, ask(store, of, name).err()))
        });
        let config = |meta: ConfigMeta| {
            let data = store.config_get(&op, &meta.name).map(|config| config.data);
            (meta, format!("{data:?}"))
        };
        let listed = store.config_list(&op, "").unwrap();
        let grants = store.grants(&op, None).unwrap().into_iter();
        Self {
            id: store.id().to_string(),
            at: (generation, store.status().last_seq),
            values,
            grants: grants
                .map(|one| (one.service.to_string(), one.grant))
                .collect(),
            permits: permits.collect(),
            configs: listed.into_iter().map(config).collect(),
            slots: store.slot_list(&op).unwrap(),
            secrets,
        }
    }
}

/// A store at some moments of its life, each closed cleanly. In all of them but the first the root
/// key is of generation 2; in the last two there is a second snapshot.
pub struct Life {
    pub moments: Vec<(Image, Picture)>,
}

impl Life {
    pub fn last(&self) -> (&Image, &Picture) {
        let (image, truth) = self.moments.last().unwrap();
        (image, truth)
    }
}

pub fn life(first: NewSlot, unlock: &dyn Fn() -> Unlock) -> Life {
    watch_panics();
    let folder = Work::new();
    let dir = folder.0.path().join("state");
    let cipher = store::Cipher::default();
    Store::init(
        &dir,
        InitOptions {
            cipher,
            slot: first,
        },
    )
    .unwrap();
    let op = operator();
    let mut moments = Vec::new();
    let mut moment = |act: &dyn Fn(&Store)| {
        let store = Store::open(&dir).unwrap();
        store.unseal(unlock()).unwrap();
        act(&store);
        while store.status().records.unwrap().index_behind > 0 {
            std::thread::yield_now();
        }
        let store::State::Unsealed { generation } = store.state() else {
            panic!("sealed");
        };
        let picture = Picture::of(&store, generation);
        store.close();
        drop(store);
        moments.push((Image::of(&dir), picture));
    };
    moment(&|store| {
        store
            .create(
                &op,
                &secret("db"),
                single("one"),
                Some(2),
                &[service("web")],
            )
            .unwrap();
        store.rotate(&op, &secret("db"), single("two")).unwrap();
        let both = fields(&[("cert", "a certificate"), ("key", "a key")]);
        store
            .create(
                &op,
                &secret("tls"),
                both,
                None,
                &[service("web"), service("api")],
            )
            .unwrap();
        store
            .create(&op, &secret("gone"), single("x"), None, &[service("web")])
            .unwrap();
        store
            .delete(&op, &secret("gone"))
            .unwrap()
            .commit()
            .unwrap();
        store
            .config_create(&op, &"app".parse().unwrap(), pairs(&[("a", "1")]), false)
            .unwrap();
        store.slot_add(&op, file(Some("second.key"))).unwrap();
    });
    moment(&|store| {
        store.rotate_root(&op, &|_, _| {}).unwrap();
        store
            .create(&op, &secret("once"), single("o"), Some(0), &[])
            .unwrap();
    });
    moment(&|store| {
        store.rotate(&op, &secret("db"), single("six")).unwrap();
        store
            .grant(&op, &service("api"), &[secret("db")], None, Pins::default())
            .unwrap();
    });
    // A damaged snapshot is written anew: the one way to a second snapshot that needs no waiting.
    let snapshot = Image::of(&dir).name("/snapshot-");
    put(&dir.join(snapshot), b"");
    moment(&|store| {
        let app = "app".parse().unwrap();
        store
            .config_update(&op, &app, pairs(&[("a", "2")]))
            .unwrap();
        let both = fields(&[("cert", "another cert."), ("key", "b key")]);
        store.rotate(&op, &secret("tls"), both).unwrap();
        store.slot_add(&op, file(Some("third.key"))).unwrap();
    });
    moment(&|store| {
        store.rotate(&op, &secret("db"), single("ten")).unwrap();
        let revoked = store.revoke(&op, &service("web"), &[secret("tls")]);
        revoked.unwrap().commit().unwrap();
    });
    let store = Store::open(&dir).unwrap();
    store.unseal(unlock()).unwrap();
    store.seal();
    Life { moments }
}

pub fn by_file() -> Life {
    life(file(None), &|| Unlock::FileSlots)
}
