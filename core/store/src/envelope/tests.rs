//! The sealed record: as `make.py` makes it, and refused however it is changed or moved.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::vectors::{self, array, bytes, number};

const STORE: StoreId = StoreId([3; 16]);
const ROOT: [u8; 32] = [5; 32];

fn bound(place: &[u8]) -> Bound<'_> {
    Bound {
        store: STORE,
        kind: Kind::Version,
        generation: 2,
        place,
    }
}

#[test]
fn records_are_those_of_the_vectors() {
    let vectors = vectors::records();
    let keys = vectors::keys_of(&vectors);
    let records = vectors["records"].as_array().unwrap();
    assert_eq!(records.len(), 16);
    for case in records {
        let place = vectors::place(case);
        let hash = place.hash(&keys);
        assert_eq!(hash.0, array(&case["hash"]));
        let binding = place.binding(&hash);
        let bound = Bound {
            store: keys.store(),
            kind: place.kind(),
            generation: number(&vectors["generation"]),
            place: &binding,
        };
        let (text, record) = (bytes(&case["text"]), bytes(&case["record"]));
        let random = Randomness {
            salt: array(&case["salt"]),
            nonce: array(&case["nonce"]),
        };
        let cipher = case["cipher"].as_str().unwrap().parse().unwrap();
        let sealed = seal_with(cipher, keys.root(), bound, &text, &random).unwrap();
        assert_eq!(sealed, record, "{}", place.describe());
        assert_eq!(open(keys.root(), bound, &record).unwrap().as_slice(), text);
        assert_eq!(kind_of(&record), Ok(place.kind()));
    }
}

#[test]
fn what_the_documents_of_the_vectors_hold_is_read_and_written_alike() {
    use crate::documents::{self, ConfigDocument, Grants, Head};
    for case in vectors::records()["records"].as_array().unwrap() {
        let (place, text) = (vectors::place(case), bytes(&case["text"]));
        let again = match place.kind() {
            Kind::Head => documents::write(&place, &Head::parse(&text).unwrap()),
            Kind::Grants => documents::write(&place, &documents::parse::<Grants>(&text).unwrap()),
            Kind::Config => {
                documents::write(&place, &documents::parse::<ConfigDocument>(&text).unwrap())
            }
            _ => continue,
        };
        assert_eq!(again.unwrap().as_slice(), text);
    }
}

#[test]
fn every_changed_bit_is_refused() {
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        let record = seal(cipher, &ROOT, bound(b"here"), b"the value").unwrap();
        assert_eq!(record.len(), b"the value".len() + OVERHEAD);
        assert_eq!(
            open(&ROOT, bound(b"here"), &record).unwrap().as_slice(),
            b"the value"
        );
        for bit in 0..record.len() * 8 {
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = open(&ROOT, bound(b"here"), &changed).unwrap_err();
            let expected = match bit / 8 {
                0 => matches!(error, EnvelopeError::Format(_)),
                1 => matches!(error, EnvelopeError::Kind(_)),
                // The other cipher is known, and its tag does not fit.
                2 => matches!(error, EnvelopeError::Cipher(_) | EnvelopeError::Tag),
                3 => error == EnvelopeError::Reserved,
                4..8 => matches!(error, EnvelopeError::Generation(_)),
                8..72 => error == EnvelopeError::Key,
                _ => error == EnvelopeError::Tag,
            };
            assert!(expected, "bit {bit}: {error}");
        }
    }
}

#[test]
fn every_length_but_its_own_is_refused() {
    let record = seal(Cipher::Aes256Gcm, &ROOT, bound(b"here"), b"the value").unwrap();
    for length in 0..record.len() {
        assert!(
            open(&ROOT, bound(b"here"), &record[..length]).is_err(),
            "{length}"
        );
    }
    let longer = [record.as_slice(), b"\0"].concat();
    assert_eq!(
        open(&ROOT, bound(b"here"), &longer),
        Err(EnvelopeError::Tag)
    );
}

#[test]
fn a_record_opens_in_its_place_alone() {
    let record = seal(Cipher::Aes256Gcm, &ROOT, bound(b"here"), b"the value").unwrap();
    let here = bound(b"here");
    for (elsewhere, error) in [
        (bound(b"there"), EnvelopeError::Tag),
        (
            Bound {
                store: StoreId([4; 16]),
                ..here
            },
            EnvelopeError::Tag,
        ),
        (
            Bound {
                kind: Kind::Head,
                ..here
            },
            EnvelopeError::Kind(2),
        ),
        (
            Bound {
                generation: 3,
                ..here
            },
            EnvelopeError::Generation(2),
        ),
    ] {
        assert_eq!(open(&ROOT, elsewhere, &record), Err(error));
    }
    assert_eq!(open(&[6; 32], here, &record), Err(EnvelopeError::Key));
}

#[test]
fn names_that_run_into_each_other_are_different_places() {
    let place = |name: &str, version, field: &str| {
        let mut bytes = Vec::new();
        crate::place::append(&mut bytes, name.as_bytes(), version, field.as_bytes());
        bytes
    };
    assert_ne!(place("ab", 1, "c"), place("a", 1, "bc"));
    assert_ne!(place("ab", 1, ""), place("a", 1, "b"));
    assert_ne!(place("a", 1, ""), place("a", 2, ""));
}

#[test]
fn a_wrong_tag_leaves_no_plaintext_in_the_callers_memory() {
    for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
        let mut record = seal(cipher, &ROOT, bound(b"here"), b"the value").unwrap();
        *record.last_mut().unwrap() ^= 1;
        let checked = Checked::parse(&ROOT, bound(b"here"), &record).unwrap();
        let mut text = vec![7; checked.len()];
        assert_eq!(checked.open_into(&mut text), Err(EnvelopeError::Tag));
        assert_eq!(text, [0; 9]);
    }
}

#[test]
fn no_two_records_share_a_salt_or_a_nonce() {
    let record = || seal(Cipher::Aes256Gcm, &ROOT, bound(b"here"), b"the value").unwrap();
    let (one, other) = (record(), record());
    assert_ne!(one[SALT_AT..COMMITMENT_AT], other[SALT_AT..COMMITMENT_AT]);
    assert_ne!(one[NONCE_AT..HEADER], other[NONCE_AT..HEADER]);
}

#[test]
fn an_unknown_kind_is_named_and_kinds_of_the_keys_file_are_no_records() {
    assert_eq!(kind_of(&[1, 9, 1, 0]), Err(EnvelopeError::Kind(9)));
    assert_eq!(kind_of(&[1, 5, 1, 0]), Err(EnvelopeError::Kind(5)));
    assert_eq!(kind_of(&[1, 6, 1, 0]), Err(EnvelopeError::Kind(6)));
    assert_eq!(kind_of(&[2, 1, 1, 0]), Err(EnvelopeError::Format(2)));
    assert_eq!(kind_of(&[1]), Err(EnvelopeError::Short));
}
