//! Slots held by a passphrase: Argon2id (RFC 9106) makes a key, which seals the private half.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{Argon2Params, PrivateHalf};
use crate::cipher::Cipher;
use crate::envelope::{self, Bound};
use crate::error::{EnvelopeError, SlotError};
use crate::meta::StoreId;
use crate::place::{self, Kind};

/// Bytes of a salt.
pub(super) const SALT: usize = 16;

impl Argon2Params {
    /// Refuses parameters below the floor (OWASP's least for Argon2id: 19 MiB, 2 passes), which
    /// make guessing cheap, and above the ceiling, which would let whoever writes the disk exhaust
    /// the machine before anything is authenticated.
    pub fn check(self) -> Result<Self, SlotError> {
        let Self {
            memory_kib,
            passes,
            lanes,
        } = self;
        let good = (19 * 1024..=1024 * 1024).contains(&memory_kib)
            && (2..=16).contains(&passes)
            && (1..=16).contains(&lanes);
        if good {
            Ok(self)
        } else {
            Err(SlotError::Parameters {
                memory_kib,
                passes,
                lanes,
            })
        }
    }
}

pub(crate) fn stretch(
    passphrase: &str,
    salt: &[u8],
    params: Argon2Params,
) -> Result<Zeroizing<[u8; 32]>, SlotError> {
    let failed = |_| SlotError::Crypto("Argon2id failed: is there memory enough?");
    let Argon2Params {
        memory_kib,
        passes,
        lanes,
    } = params.check()?;
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(failed)?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
        .map_err(failed)?;
    Ok(key)
}

/// Seals the private half under a passphrase: salt and sealed bytes.
pub(super) fn wrap(
    store: StoreId,
    private: &PrivateHalf,
    passphrase: &str,
    params: Argon2Params,
) -> Result<([u8; SALT], Vec<u8>), SlotError> {
    if passphrase.is_empty() {
        return Err(SlotError::EmptyPassphrase);
    }
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|_| SlotError::Crypto("the system gave no randomness"))?;
    let key = stretch(passphrase, &salt, params)?;
    let place = binding(&private.recipient());
    let wrapped = envelope::seal(
        Cipher::ChaCha20Poly1305,
        &*key,
        bound(store, &place),
        private.text().as_bytes(),
    )
    .map_err(|_| SlotError::Crypto("the private half of the slot could not be sealed"))?;
    Ok((salt, wrapped))
}

/// Opens it again. A wrong passphrase is [`EnvelopeError::Key`]: the commitment differs.
pub(super) fn unwrap(
    store: StoreId,
    recipient: &str,
    key: &[u8; 32],
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    envelope::open(key, bound(store, &binding(recipient)), wrapped)
}

fn bound(store: StoreId, place: &[u8]) -> Bound<'_> {
    // Generation 0: the wrapped half outlives all generations.
    Bound {
        store,
        kind: Kind::Passphrase,
        generation: 0,
        place,
    }
}

fn binding(recipient: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    place::append(&mut bytes, recipient.as_bytes(), 0, b"");
    bytes
}
