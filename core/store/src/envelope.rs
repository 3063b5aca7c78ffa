//! The sealed record: header, key commitment, ciphertext, tag. Layout in `docs/format.md`.
//!
//! Checks go from the cheap and public to the secret: layout, kind, cipher, generation, then the key
//! commitment, and only then the cipher's own tag. Whatever differs is refused; nothing is skipped.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::cipher::{Cipher, NONCE, TAG};
use crate::error::EnvelopeError;
use crate::hierarchy::RecordKey;
use crate::meta::StoreId;
use crate::place::Kind;

const FORMAT: u8 = 1;
const SALT_AT: usize = 8;
const COMMITMENT_AT: usize = 40;
const NONCE_AT: usize = 72;
/// Bytes before the ciphertext.
pub(crate) const HEADER: usize = 84;
/// Bytes that sealing adds.
pub(crate) const OVERHEAD: usize = HEADER + TAG;

/// What a record is bound to besides its key: all of it goes into the associated data.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'a> {
    pub(crate) store: StoreId,
    pub(crate) kind: Kind,
    pub(crate) generation: u32,
    /// Of [`Place::binding`](crate::place::Place::binding).
    pub(crate) place: &'a [u8],
}

/// What is random in a record; given from outside by the known-answer tests alone.
pub(crate) struct Randomness {
    pub(crate) salt: [u8; 32],
    pub(crate) nonce: [u8; NONCE],
}

impl Randomness {
    fn from_os() -> Result<Self, EnvelopeError> {
        let mut bytes = [0; 32 + NONCE];
        getrandom::fill(&mut bytes).map_err(|_| EnvelopeError::Key)?;
        let mut it = Self {
            salt: [0; 32],
            nonce: [0; NONCE],
        };
        it.salt.copy_from_slice(&bytes[..32]);
        it.nonce.copy_from_slice(&bytes[32..]);
        Ok(it)
    }
}

/// Seals `text` under `material` (32 bytes).
pub(crate) fn seal(
    cipher: Cipher,
    material: &[u8],
    bound: Bound<'_>,
    text: &[u8],
) -> Result<Vec<u8>, EnvelopeError> {
    seal_with(cipher, material, bound, text, &Randomness::from_os()?)
}

pub(crate) fn seal_with(
    cipher: Cipher,
    material: &[u8],
    bound: Bound<'_>,
    text: &[u8],
    random: &Randomness,
) -> Result<Vec<u8>, EnvelopeError> {
    let key = RecordKey::derive(material, &random.salt)?;
    // The full size at once: a reallocation would leave a copy of the text behind.
    let mut record = Vec::with_capacity(text.len() + OVERHEAD);
    record.extend_from_slice(&[FORMAT, bound.kind.code(), cipher.code(), 0]);
    record.extend_from_slice(&bound.generation.to_le_bytes());
    record.extend_from_slice(&random.salt);
    record.extend_from_slice(key.commitment());
    record.extend_from_slice(&random.nonce);
    let aad = associated_data(&record, bound);
    record.extend_from_slice(text);
    let tag = cipher.seal(key.key(), &random.nonce, &aad, &mut record[HEADER..])?;
    record.extend_from_slice(&tag);
    Ok(record)
}

/// A record whose layout is right and whose key fits; its tag is not checked yet.
pub(crate) struct Checked<'a> {
    cipher: Cipher,
    key: RecordKey,
    nonce: [u8; NONCE],
    aad: Vec<u8>,
    ciphertext: &'a [u8],
    tag: [u8; TAG],
}

impl<'a> Checked<'a> {
    /// Reads the layout of `record` and compares the key commitment.
    pub(crate) fn parse(
        material: &[u8],
        bound: Bound<'_>,
        record: &'a [u8],
    ) -> Result<Self, EnvelopeError> {
        let (header, rest) = record
            .split_at_checked(HEADER)
            .ok_or(EnvelopeError::Short)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>().ok_or(EnvelopeError::Short)?;
        if header[0] != FORMAT {
            return Err(EnvelopeError::Format(header[0]));
        }
        if header[1] != bound.kind.code() {
            return Err(EnvelopeError::Kind(header[1]));
        }
        let cipher = Cipher::from_code(header[2]).ok_or(EnvelopeError::Cipher(header[2]))?;
        if header[3] != 0 {
            return Err(EnvelopeError::Reserved);
        }
        let generation = u32::from_le_bytes(array(&header[4..SALT_AT]));
        if generation != bound.generation {
            return Err(EnvelopeError::Generation(generation));
        }
        let key = RecordKey::derive(material, &array(&header[SALT_AT..COMMITMENT_AT]))?;
        let commitment = &header[COMMITMENT_AT..NONCE_AT];
        if !bool::from(key.commitment().ct_eq(commitment)) {
            return Err(EnvelopeError::Key);
        }
        Ok(Self {
            cipher,
            key,
            nonce: array(&header[NONCE_AT..]),
            aad: associated_data(header, bound),
            ciphertext,
            tag: *tag,
        })
    }

    /// Bytes of the text.
    pub(crate) fn len(&self) -> usize {
        self.ciphertext.len()
    }

    /// Decrypts into `text`, which must have [`Checked::len`] bytes and is wiped if the tag is
    /// wrong: nothing unauthenticated is ever left in it.
    pub(crate) fn open_into(self, text: &mut [u8]) -> Result<(), EnvelopeError> {
        if text.len() != self.ciphertext.len() {
            return Err(EnvelopeError::Short);
        }
        text.copy_from_slice(self.ciphertext);
        self.cipher
            .open(self.key.key(), &self.nonce, &self.aad, text, &self.tag)
            .inspect_err(|_| text.fill(0))
    }

    /// Decrypts into memory that is wiped when dropped.
    pub(crate) fn open(self) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let mut text = Zeroizing::new(vec![0; self.len()]);
        self.open_into(&mut text)?;
        Ok(text)
    }
}

/// Opens `record` into memory that is wiped when dropped.
pub(crate) fn open(
    material: &[u8],
    bound: Bound<'_>,
    record: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    Checked::parse(material, bound, record)?.open()
}

/// The kind that a record says it is; to be believed once it has opened.
pub(crate) fn kind_of(record: &[u8]) -> Result<Kind, EnvelopeError> {
    let [format, kind, ..] = record else {
        return Err(EnvelopeError::Short);
    };
    if *format != FORMAT {
        return Err(EnvelopeError::Format(*format));
    }
    Kind::of_record(*kind).ok_or(EnvelopeError::Kind(*kind))
}

fn associated_data(header: &[u8], bound: Bound<'_>) -> Vec<u8> {
    [header, &bound.store.0, bound.place].concat()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

#[cfg(test)]
mod tests;
