//! Changes of a store, and how they are chosen.

use serde::{Deserialize, Serialize};

use super::world::World;
use crate::soak::Random;

/// Bytes that a number and a length bring back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// What they are made of.
    pub seed: u64,
    /// How many.
    pub len: u32,
}

impl Bytes {
    /// The bytes themselves.
    #[must_use]
    pub fn make(self) -> Vec<u8> {
        let mut random = Random::of(self.seed);
        let mut bytes: Vec<u8> = Vec::with_capacity(self.len as usize + 4);
        while bytes.len() < self.len as usize {
            bytes.extend((random.below(1 << 31) as u32).to_le_bytes());
        }
        bytes.truncate(self.len as usize);
        bytes
    }

    /// As [`describe`] of them.
    #[must_use]
    pub fn text(self) -> String {
        describe(&self.make())
    }

    fn throw(random: &mut Random) -> Self {
        let len = match random.below(40) {
            0 => 70_000,
            1..4 => 3_000,
            4 => 0,
            _ => random.below(600) as u32,
        };
        let seed = random.next_seed();
        Self { seed, len }
    }
}

/// Length and FNV-1a of bytes: enough to tell those of one change from those of another.
#[must_use]
pub fn describe(bytes: &[u8]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{}:{hash:016x}", bytes.len())
}

/// One change. Names begin with their group, `GROUP.`; no two groups share a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A first or next version; the fields, or one without a name.
    Set(String, Vec<(String, Bytes)>, Option<u32>),
    /// The next version of a secret that is there.
    Rotate(String, Vec<(String, Bytes)>),
    /// A new version with what an older one holds.
    Rollback(String, u32),
    /// A first version, granted to services in the same transaction.
    Create(String, Vec<(String, Bytes)>, Vec<String>),
    /// All of a secret goes.
    Delete(String),
    /// A service may read secrets, until then.
    Grant(String, Vec<String>, Option<u64>),
    /// It may not any more.
    Revoke(String, Vec<String>),
    /// A new config.
    ConfigCreate(String, Vec<(String, String)>),
    /// Keys of a config.
    ConfigUpdate(String, Vec<(String, String)>),
    /// A config goes.
    ConfigDelete(String),
    /// A new root key.
    RotateRoot,
    /// A key slot with a file of this name.
    SlotAdd(String),
    /// A key slot goes.
    SlotRemove(u32),
    /// Of records: one transaction.
    Commit(Vec<(String, Option<Bytes>)>),
    /// Of records: fresh files.
    Snapshot,
}

/// The group of what belongs to no other: keys, slots, snapshots.
pub const ADMIN: &str = "admin";

impl Op {
    /// Whose it is.
    #[must_use]
    pub fn group(&self) -> &str {
        let name = match self {
            Self::Set(name, ..)
            | Self::Rotate(name, _)
            | Self::Rollback(name, _)
            | Self::Create(name, ..)
            | Self::Delete(name)
            | Self::Grant(name, ..)
            | Self::Revoke(name, _)
            | Self::ConfigCreate(name, _)
            | Self::ConfigUpdate(name, _)
            | Self::ConfigDelete(name) => name,
            Self::Commit(changes) => &changes[0].0,
            Self::RotateRoot | Self::SlotAdd(_) | Self::SlotRemove(_) | Self::Snapshot => ADMIN,
        };
        group_of(name)
    }

    /// Whether it shows before it is durable: whoever takes something away denies it first.
    #[must_use]
    pub fn denies_first(&self) -> bool {
        matches!(self, Self::Delete(_) | Self::Revoke(..))
    }

    /// What kind of change it is.
    #[must_use]
    pub fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    }

    /// A change of a group of a store.
    #[must_use]
    pub fn throw(group: &str, world: &World, random: &mut Random) -> Self {
        let secret = format!("{group}.s{}", random.below(4));
        let service = format!("{group}.w{}", random.below(2));
        let config = format!("{group}.c{}", random.below(2));
        let there = world.secrets();
        let some = |random: &mut Random, all: &[String]| -> Vec<String> {
            let some = all.iter().filter(|_| random.percent(50));
            let mut some: Vec<_> = some.cloned().collect();
            if some.is_empty() {
                some.push(random.one_of(all).clone());
            }
            some
        };
        let exists = there.contains(&secret);
        match random.below(100) {
            _ if there.is_empty() => {
                let services = vec![service, format!("{group}.w9")];
                Self::Create(secret, value(random, false), services)
            }
            0..25 => {
                let keep = match random.below(3) {
                    0 => Some(random.below(4) as u32),
                    _ => None,
                };
                Self::Set(
                    secret.clone(),
                    value(random, world.has_fields(&secret)),
                    keep,
                )
            }
            25..40 if exists => {
                let value = value(random, world.has_fields(&secret));
                Self::Rotate(secret, value)
            }
            40..46 if world.older(&secret).is_some() => {
                let to = world.older(&secret).unwrap_or(1);
                Self::Rollback(secret, to)
            }
            46..52 if exists => Self::Delete(secret),
            46..52 => Self::Create(secret, value(random, false), vec![service]),
            52..68 => {
                let until = random
                    .percent(30)
                    .then(|| 4_000_000_000 + random.below(1000));
                Self::Grant(service, some(random, &there), until)
            }
            68..84 if !world.granted_to(&service).is_empty() => {
                let granted = world.granted_to(&service);
                Self::Revoke(service, some(random, &granted))
            }
            84..88 if world.has_config(&config) => Self::ConfigDelete(config),
            _ if world.has_config(&config) => Self::ConfigUpdate(config, pairs(random)),
            _ => Self::ConfigCreate(config, pairs(random)),
        }
    }

    /// A change of a store's keys. `fresh` is a number that was never used.
    #[must_use]
    pub fn throw_admin(world: &World, fresh: u64, random: &mut Random) -> Self {
        let slots = world.slots();
        match random.below(10) {
            0..3 if slots.len() < 5 => Self::SlotAdd(format!("slot-{fresh}.key")),
            3..6 if slots.len() > 1 => Self::SlotRemove(*random.one_of(&slots)),
            _ => Self::RotateRoot,
        }
    }

    /// A change of nearly a megabyte.
    #[must_use]
    pub fn large(group: &str, random: &mut Random) -> Self {
        let bytes = Bytes {
            seed: random.next_seed(),
            len: 900_000,
        };
        Self::Set(format!("{group}.s0"), vec![(String::new(), bytes)], Some(1))
    }

    /// A transaction of records.
    #[must_use]
    pub fn throw_records(group: &str, random: &mut Random) -> Self {
        let count = 1 + random.below(3);
        let first = random.below(6);
        let changes = (first..first + count).map(|number| {
            let bytes = random.percent(80).then(|| Bytes::throw(random));
            (format!("{group}.r{}", number % 6), bytes)
        });
        Self::Commit(changes.collect())
    }
}

/// The group that a name belongs to.
#[must_use]
pub fn group_of(name: &str) -> &str {
    name.split(['.', '/']).next().unwrap_or_default()
}

fn value(random: &mut Random, fields: bool) -> Vec<(String, Bytes)> {
    if !fields {
        return vec![(String::new(), Bytes::throw(random))];
    }
    let count = 1 + random.below(3);
    (0..count)
        .map(|number| (format!("f{number}"), Bytes::throw(random)))
        .collect()
}

fn pairs(random: &mut Random) -> Vec<(String, String)> {
    let count = 1 + random.below(3);
    (0..count)
        .map(|_| {
            (
                format!("k{}", random.below(5)),
                random.next_seed().to_string(),
            )
        })
        .collect()
}
