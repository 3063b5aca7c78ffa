//! MACs over everything that lies on the disk. All keys are of one store: nothing of one verifies in
//! another.

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::name::NameHash;

/// Binds a record to its name and its transaction.
pub(crate) type Tag = [u8; 16];
/// Binds a frame to all frames before it.
pub(crate) type Chain = [u8; 32];

/// One key per purpose, ready to be used; wiped when dropped.
#[derive(Clone)]
pub(crate) struct Keys {
    store: [u8; 16],
    tag: Mac,
    frame: Mac,
    snapshot: Mac,
    mark: Mac,
}

impl Keys {
    pub(crate) fn derive(key: &[u8; 32], store: [u8; 16]) -> Self {
        let derive = |purpose: &[u8]| {
            let mut mac = Mac::keyed(key);
            mac.add(b"deploy-secrets records 1 ");
            mac.add(purpose);
            mac.add(&store);
            Mac::keyed(&Zeroizing::new(mac.finish()))
        };
        Self {
            store,
            tag: derive(b"record"),
            frame: derive(b"journal"),
            snapshot: derive(b"snapshot"),
            mark: derive(b"index"),
        }
    }

    pub(crate) fn store(&self) -> &[u8; 16] {
        &self.store
    }

    pub(crate) fn tag(&self, name: &NameHash, seq: u64, record: &[u8]) -> Tag {
        let mut mac = self.tag.clone();
        mac.add(&name.0);
        mac.add(&seq.to_le_bytes());
        mac.add(record);
        let mut tag = [0; 16];
        tag.copy_from_slice(&mac.finish()[..16]);
        tag
    }

    pub(crate) fn frame(&self) -> Mac {
        self.frame.clone()
    }

    pub(crate) fn snapshot(&self) -> Mac {
        self.snapshot.clone()
    }

    pub(crate) fn mark(&self) -> Mac {
        self.mark.clone()
    }
}

/// HMAC-SHA256 (RFC 2104), fed piece by piece.
#[derive(Clone)]
pub(crate) struct Mac(Hmac<Sha256>);

impl Mac {
    fn keyed(key: &[u8; 32]) -> Self {
        // A key shorter than a block is padded with zeros to one: RFC 2104, 2.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key);
        Self(Hmac::new((&*block).into()))
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Chain {
        self.0.finalize().into_bytes().into()
    }
}

/// Compares in a time that does not tell where the difference is.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Case 1 has a key of 20 bytes; padded to 32 with zeros it is the same key.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let mut mac = Mac::keyed(&key);
        mac.add(b"Hi ");
        mac.add(b"There");
        assert_eq!(
            mac.finish()[..8],
            [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]
        );
    }

    #[test]
    fn a_tag_is_of_one_store_one_name_one_transaction() {
        let keys = Keys::derive(&[1; 32], [2; 16]);
        let tag = keys.tag(&NameHash([3; 32]), 4, b"record");
        for other in [
            keys.tag(&NameHash([4; 32]), 4, b"record"),
            keys.tag(&NameHash([3; 32]), 5, b"record"),
            keys.tag(&NameHash([3; 32]), 4, b"recorD"),
            Keys::derive(&[1; 32], [3; 16]).tag(&NameHash([3; 32]), 4, b"record"),
            Keys::derive(&[2; 32], [2; 16]).tag(&NameHash([3; 32]), 4, b"record"),
        ] {
            assert_ne!(tag, other);
        }
    }
}
