//! SIGNATURES ONLY, bodies follow.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{ConfigKey, ConfigName, FieldName, Pins, SecretName, ServiceName, Timestamp};
use zeroize::Zeroizing;

use crate::*;

/// A store; a cheap clone of one thing.
#[derive(Clone)]
pub struct Store(Arc<()>);
/// How a store is made.
#[derive(Debug)]
pub struct InitOptions { /// What records are sealed with.
 pub cipher: Cipher, /// First slot.
 pub slot: NewSlot }
/// What init made.
#[derive(Debug)]
pub struct InitReport { /// id
 pub id: StoreId, /// slot
 pub slot: SlotInfo }
/// How a store is unsealed.
pub enum Unlock { /// Each file slot in turn.
 FileSlots, /// A passphrase.
 Passphrase(Zeroizing<String>), /// The keyring of our own uid.
 Keyring }
/// Which way the root key came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnlockedBy { /// A slot.
 Slot(SlotInfo), /// The keyring.
 Keyring }
/// What unseal found.
#[derive(Debug)]
pub struct UnsealReport { /// generation
 pub generation: u32, /// how
 pub by: UnlockedBy, /// of the records; `None` for a store in memory
 pub opened: Option<records::Opened>, /// Folders of other generations removed
 pub leftovers: Vec<String>, /// File slots that could not be used, and why
 pub warnings: Vec<String> }
/// A value in clear; derefs to `[u8]`.
pub struct Opened(Vec<u8>);
impl std::ops::Deref for Opened { type Target=[u8]; fn deref(&self)->&[u8]{&self.0} }
/// of `set`
#[derive(Debug, Clone, Copy, Default)]
pub struct SetOptions { /// `None`: as before (default 10)
 pub keep: Option<u32>, /// allow single <-> fields
 pub reshape: bool }
/// Denied in memory already; `commit` makes it durable.
#[must_use]
pub struct Revocation(());
impl Revocation { /// Makes it durable.
 pub fn commit(self) -> Result<(), WriteError> { Err(WriteError::Sealed) }
 /// Names that were denied.
 pub fn secrets(&self) -> &[SecretName] { &[] }
 /// Names that were not granted.
 pub fn not_granted(&self) -> &[SecretName] { &[] } }
/// Gone in memory already; `commit` makes it durable.
#[must_use]
pub struct Deletion(());
impl Deletion { /// Makes it durable.
 pub fn commit(self) -> Result<(), WriteError> { Err(WriteError::Sealed) }
 /// Services that had it granted.
 pub fn services(&self) -> &[ServiceName] { &[] } }
/// A config with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config { /// All but the data.
 pub meta: ConfigMeta, /// The data.
 pub data: BTreeMap<ConfigKey, String> }

#[allow(missing_docs, unused_variables)]
impl Store {
    pub fn init(dir: &Path, options: InitOptions) -> Result<InitReport, InitError> { Err(InitError::NotEmpty(dir.into())) }
    pub fn open(dir: &Path) -> Result<Store, OpenError> { Err(OpenError::NoStore(dir.into())) }
    /// For tests: unsealed, in memory; sealed and unsealed (Unlock::FileSlots) like another
    pub fn in_memory(cipher: Cipher) -> Store { Store(Arc::new(())) }
    pub fn id(&self) -> StoreId { StoreId([0;16]) }
    pub fn state(&self) -> State { State::Sealed }
    pub fn status(&self) -> Status { loop {} }
    pub fn unseal(&self, unlock: Unlock) -> Result<UnsealReport, UnsealError> { Err(UnsealError::NotInKeyring) }
    pub fn seal(&self) {}
    /// clean stop: journal's tail closed, keyring entry kept
    pub fn close(&self) {}
    pub fn permit(&self, reader: Reader<'_>, name: &SecretName) -> Result<Permit, Denied> { Err(Denied::Sealed) }
    pub fn secret(&self, permit: &Permit) -> Result<SecretMeta, ReadError> { Err(ReadError::Sealed) }
    /// also one that is only retained, because an instance holds it
    pub fn version(&self, permit: &Permit, number: u32) -> Result<VersionMeta, ReadError> { Err(ReadError::Sealed) }
    pub fn open_value(&self, permit: &Permit, version: u32, field: Option<&FieldName>) -> Result<Opened, ReadError> { Err(ReadError::Sealed) }
    pub fn create(&self, op: &Operator, name: &SecretName, value: Value, keep: Option<u32>, allowed: &[ServiceName]) -> Result<SecretMeta, WriteError> { Err(WriteError::Sealed) }
    pub fn set(&self, op: &Operator, name: &SecretName, value: Value, options: SetOptions) -> Result<SecretMeta, WriteError> { Err(WriteError::Sealed) }
    pub fn rotate(&self, op: &Operator, name: &SecretName, value: Value) -> Result<SecretMeta, WriteError> { Err(WriteError::Sealed) }
    pub fn rollback(&self, op: &Operator, name: &SecretName, to: u32) -> Result<SecretMeta, WriteError> { Err(WriteError::Sealed) }
    pub fn delete(&self, op: &Operator, name: &SecretName) -> Result<Deletion, WriteError> { Err(WriteError::Sealed) }
    pub fn list(&self, op: &Operator, prefix: &str) -> Result<Vec<SecretMeta>, WriteError> { Err(WriteError::Sealed) }
    pub fn history(&self, op: &Operator, name: &SecretName) -> Result<Vec<VersionMeta>, WriteError> { Err(WriteError::Sealed) }
    pub fn grants(&self, op: &Operator, service: Option<&ServiceName>) -> Result<Vec<GrantMeta>, WriteError> { Err(WriteError::Sealed) }
    pub fn grant(&self, op: &Operator, service: &ServiceName, secrets: &[SecretName], until: Option<Timestamp>, pins: Pins) -> Result<(), WriteError> { Err(WriteError::Sealed) }
    pub fn revoke(&self, op: &Operator, service: &ServiceName, secrets: &[SecretName]) -> Result<Revocation, WriteError> { Err(WriteError::Sealed) }
    pub fn config_create(&self, op: &Operator, name: &ConfigName, data: BTreeMap<ConfigKey, String>, immutable: bool) -> Result<ConfigMeta, WriteError> { Err(WriteError::Sealed) }
    /// several keys in one commit; the config must exist
    pub fn config_update(&self, op: &Operator, name: &ConfigName, data: BTreeMap<ConfigKey, String>) -> Result<ConfigMeta, WriteError> { Err(WriteError::Sealed) }
    pub fn config_get(&self, op: &Operator, name: &ConfigName) -> Result<Config, ConfigError> { Err(ConfigError::Sealed) }
    pub fn config_list(&self, op: &Operator, prefix: &str) -> Result<Vec<ConfigMeta>, WriteError> { Err(WriteError::Sealed) }
    pub fn config_delete(&self, op: &Operator, name: &ConfigName) -> Result<(), WriteError> { Err(WriteError::Sealed) }
    /// merged in order, a later one wins; asks nobody
    pub fn configs_for(&self, names: &[ConfigName]) -> Result<BTreeMap<ConfigKey, String>, ConfigError> { Err(ConfigError::Sealed) }
    pub fn rotate_root(&self, op: &Operator, progress: &dyn Fn(u64, u64)) -> Result<u32, WriteError> { Err(WriteError::Sealed) }
    pub fn slot_add(&self, op: &Operator, slot: NewSlot) -> Result<SlotInfo, WriteError> { Err(WriteError::Sealed) }
    pub fn slot_list(&self, op: &Operator) -> Result<Vec<SlotInfo>, WriteError> { Err(WriteError::Sealed) }
    pub fn slot_remove(&self, op: &Operator, id: SlotId) -> Result<(), WriteError> { Err(WriteError::Sealed) }
    pub fn raw_record(&self, op: &Operator, name: &SecretName) -> Result<Vec<u8>, WriteError> { Err(WriteError::Sealed) }
    /// false: there is no such version any more
    pub fn hold(&self, name: &SecretName, version: u32) -> bool { false }
    /// never commits: what is free now goes with the name's next change, or by sweep()
    pub fn release(&self, name: &SecretName, version: u32) {}
    /// removes versions out of reach that nobody holds; how many
    pub fn sweep(&self) -> Result<u64, WriteError> { Err(WriteError::Sealed) }
}
