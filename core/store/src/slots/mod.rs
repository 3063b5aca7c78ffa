//! Key slots: ways to unlock the root key.
//!
//! A slot is an X25519 key pair in age's form. Each generation of the root key is sealed to all
//! public halves, so that a rotation needs no private one; the private half is held by a file or
//! under a passphrase.

pub(crate) mod file;
mod passphrase;

use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{EnvelopeError, SlotError};
use crate::hex;
use crate::meta::StoreId;

#[cfg(test)]
pub(crate) use passphrase::stretch;

/// The most slots that a store has.
pub(crate) const MAX_SLOTS: usize = 32;
const MAX_LABEL: usize = 64;

/// A slot's number, given once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotId(pub u32);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What holds a slot's private half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotKind {
    /// A file of mode 0600 with an age identity.
    File {
        /// Where it is; secretsd reads it by itself.
        path: PathBuf,
    },
    /// A passphrase, stretched by Argon2id.
    Passphrase {
        /// With these parameters.
        params: Argon2Params,
    },
}

/// What is told of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its number.
    pub id: SlotId,
    /// What holds its private half.
    pub kind: SlotKind,
    /// The operator's words for it; may be empty.
    pub label: String,
    /// Its public half, as age writes it (`age1…`).
    pub recipient: String,
}

/// Parameters of Argon2id (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Argon2Params {
    /// 64 MiB, 3 passes, 4 lanes: the second choice of RFC 9106.
    fn default() -> Self {
        Self {
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 4,
        }
    }
}

/// A slot to be made.
pub enum NewSlot {
    /// A key file; made with mode 0600, never overwritten.
    File {
        /// Where; `None`: `file-slot.key` in the store's folder. Relative paths start there too.
        path: Option<PathBuf>,
        /// The operator's words for it.
        label: String,
    },
    /// A passphrase.
    Passphrase {
        /// The passphrase, any non-empty text.
        passphrase: Zeroizing<String>,
        /// How it is stretched.
        params: Argon2Params,
        /// The operator's words for it.
        label: String,
    },
}

impl fmt::Debug for NewSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, label } => f
                .debug_struct("File")
                .field("path", path)
                .field("label", label)
                .finish(),
            Self::Passphrase { params, label, .. } => f
                .debug_struct("Passphrase")
                .field("params", params)
                .field("label", label)
                .finish_non_exhaustive(),
        }
    }
}

/// A slot as the `keys` file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) label: String,
    pub(crate) recipient: String,
    pub(crate) holder: Holder,
}

/// What holds a slot's private half, as the `keys` file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Holder {
    File {
        path: PathBuf,
    },
    Passphrase {
        argon2: Argon2Params,
        salt: String,
        wrapped: String,
    },
}

impl Slot {
    /// Makes a slot and its private half; a file slot's file is written.
    pub(crate) fn make(
        dir: &Path,
        store: StoreId,
        id: SlotId,
        new: NewSlot,
    ) -> Result<(Self, PrivateHalf), SlotError> {
        let private = PrivateHalf::generate();
        let (label, holder) = match new {
            NewSlot::File { path, label } => {
                check_label(&label)?;
                let path = path.unwrap_or_else(|| PathBuf::from("file-slot.key"));
                let full = dir.join(&path);
                if path.to_str().is_none() {
                    let what = "its path is not UTF-8".into();
                    return Err(SlotError::KeyFile { path, what });
                }
                file::create(&full, &private)?;
                (label, Holder::File { path })
            }
            NewSlot::Passphrase {
                passphrase,
                params,
                label,
            } => {
                check_label(&label)?;
                let argon2 = params.check()?;
                let (salt, wrapped) = passphrase::wrap(store, &private, &passphrase, argon2)?;
                let (salt, wrapped) = (hex::encode(&salt), STANDARD.encode(wrapped));
                (
                    label,
                    Holder::Passphrase {
                        argon2,
                        salt,
                        wrapped,
                    },
                )
            }
        };
        Ok((
            Self {
                id,
                label,
                recipient: private.recipient(),
                holder,
            },
            private,
        ))
    }

    /// The private half out of the slot's file, if it is a file slot.
    pub(crate) fn read_file(&self, dir: &Path) -> Option<Result<PrivateHalf, SlotError>> {
        match &self.holder {
            Holder::File { path } => Some(file::read(&dir.join(path))),
            Holder::Passphrase { .. } => None,
        }
    }

    /// The private half by a passphrase, if it is such a slot; `Ok(None)` if the passphrase is
    /// wrong. Takes Argon2's time either way.
    pub(crate) fn unwrap(
        &self,
        store: StoreId,
        passphrase: &str,
    ) -> Option<Result<Option<PrivateHalf>, SlotError>> {
        let Holder::Passphrase {
            argon2,
            salt,
            wrapped,
        } = &self.holder
        else {
            return None;
        };
        let open = || {
            let damaged = SlotError::Crypto("a passphrase slot is damaged");
            let (Some(salt), Ok(wrapped)) = (
                hex::decode::<{ passphrase::SALT }>(salt),
                STANDARD.decode(wrapped),
            ) else {
                return Err(damaged);
            };
            let key = passphrase::stretch(passphrase, &salt, *argon2)?;
            match passphrase::unwrap(store, &self.recipient, &key, &wrapped) {
                Ok(text) => {
                    let half = std::str::from_utf8(&text).ok().and_then(PrivateHalf::parse);
                    half.map(Some).ok_or(damaged)
                }
                Err(EnvelopeError::Key) => Ok(None),
                Err(_) => Err(damaged),
            }
        };
        Some(open())
    }

    pub(crate) fn info(&self) -> SlotInfo {
        let kind = match &self.holder {
            Holder::File { path } => SlotKind::File { path: path.clone() },
            Holder::Passphrase { argon2, .. } => SlotKind::Passphrase { params: *argon2 },
        };
        SlotInfo {
            id: self.id,
            kind,
            label: self.label.clone(),
            recipient: self.recipient.clone(),
        }
    }
}

fn check_label(label: &str) -> Result<(), SlotError> {
    if label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
        return Err(SlotError::Label);
    }
    Ok(())
}

/// The private half of a slot: an age identity.
pub(crate) struct PrivateHalf {
    identity: Identity,
    text: Zeroizing<String>,
}

impl PrivateHalf {
    fn generate() -> Self {
        Self::from(Identity::generate())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Identity::from_str(text).ok().map(Self::from)
    }

    /// As age writes it: `AGE-SECRET-KEY-1…`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn recipient(&self) -> String {
        self.identity.to_public().to_string()
    }

    /// Opens an age file that is sealed to this slot among others.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let decryptor = age::Decryptor::new(sealed).ok()?;
        let identity: &dyn age::Identity = &self.identity;
        let reader = decryptor.decrypt(std::iter::once(identity)).ok()?;
        // More than a root key is not ours: 33 bytes are enough to see that.
        let mut root = Zeroizing::new(Vec::with_capacity(64));
        reader.take(33).read_to_end(&mut root).ok()?;
        Some(root)
    }
}

impl From<Identity> for PrivateHalf {
    fn from(identity: Identity) -> Self {
        let text = Zeroizing::new(identity.to_string().expose_secret().to_owned());
        Self { identity, text }
    }
}

impl fmt::Debug for PrivateHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateHalf([redacted])")
    }
}

/// Seals a root key to the public halves of all slots: one age file.
pub(crate) fn seal_root(root: &[u8], slots: &[Slot]) -> Result<Vec<u8>, SlotError> {
    let failed = "the root key could not be sealed to the key slots";
    let recipients: Vec<Recipient> = slots
        .iter()
        .map(|slot| Recipient::from_str(&slot.recipient))
        .collect::<Result<_, _>>()
        .map_err(|_| SlotError::Crypto(failed))?;
    let each = recipients
        .iter()
        .map(|recipient| recipient as &dyn age::Recipient);
    let mut sealed = Vec::new();
    age::Encryptor::with_recipients(each)
        .map_err(|_| SlotError::Crypto(failed))
        .and_then(|encryptor| {
            let mut writer = encryptor
                .wrap_output(&mut sealed)
                .map_err(|_| SlotError::Crypto(failed))?;
            writer
                .write_all(root)
                .and_then(|()| writer.finish().map(drop))
                .map_err(|_| SlotError::Crypto(failed))
        })?;
    Ok(sealed)
}

#[cfg(test)]
mod tests;
