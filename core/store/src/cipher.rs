//! The two ciphers that a record may be sealed with, behind one pair of functions.

use std::fmt;
use std::str::FromStr;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;

use crate::error::EnvelopeError;

/// Bytes of a key.
pub(crate) const KEY: usize = 32;
/// Bytes of a nonce.
pub(crate) const NONCE: usize = 12;
/// Bytes of a tag.
pub(crate) const TAG: usize = 16;

/// What records are sealed with; chosen at init, named in each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cipher {
    /// AES-256-GCM (NIST SP 800-38D): fast where the CPU has AES instructions.
    #[default]
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439): for CPUs without them.
    ChaCha20Poly1305,
}

impl Cipher {
    /// Its byte in a record.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Encrypts `text` in place and gives the tag.
    pub(crate) fn seal(
        self,
        key: &[u8; KEY],
        nonce: &[u8; NONCE],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG], EnvelopeError> {
        let text = InOutBuf::from(text);
        let tag = match self {
            Self::Aes256Gcm => {
                Aes256Gcm::new(key.into()).encrypt_inout_detached(nonce.into(), aad, text)
            }
            Self::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new(key.into()).encrypt_inout_detached(nonce.into(), aad, text)
            }
        };
        // Fails for texts of 64 GiB and more alone.
        tag.map(Into::into).map_err(|_| EnvelopeError::Content)
    }

    /// Decrypts `text` in place after the tag has been checked; with a wrong tag `text` is left
    /// unusable and no plaintext is in it.
    pub(crate) fn open(
        self,
        key: &[u8; KEY],
        nonce: &[u8; NONCE],
        aad: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), EnvelopeError> {
        let text = InOutBuf::from(text);
        match self {
            Self::Aes256Gcm => Aes256Gcm::new(key.into()).decrypt_inout_detached(
                nonce.into(),
                aad,
                text,
                tag.into(),
            ),
            Self::ChaCha20Poly1305 => ChaCha20Poly1305::new(key.into()).decrypt_inout_detached(
                nonce.into(),
                aad,
                text,
                tag.into(),
            ),
        }
        .map_err(|_| EnvelopeError::Tag)
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        })
    }
}

impl FromStr for Cipher {
    type Err = UnknownCipher;

    fn from_str(text: &str) -> Result<Self, UnknownCipher> {
        match text {
            "aes-256-gcm" => Ok(Self::Aes256Gcm),
            "chacha20-poly1305" => Ok(Self::ChaCha20Poly1305),
            _ => Err(UnknownCipher),
        }
    }
}

/// A cipher's name that is not known.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("unknown cipher; known are aes-256-gcm and chacha20-poly1305")]
pub struct UnknownCipher;

#[cfg(test)]
mod tests;
