//! The text of a backup: as `make.py` makes it, and refused however it is changed. What age sees
//! by itself is not of interest here, so texts are encrypted anew.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use age::x25519::{Identity, Recipient};
use serde_json::Value;
use zeroize::Zeroizing;

use super::read::Reader;
use super::*;
use crate::vectors;

fn key(vectors: &Value) -> BackupKey {
    let text = vectors["identity"].as_str().unwrap().to_owned();
    BackupKey::Identities(Zeroizing::new(text))
}

/// A text, encrypted for the vectors' identity.
fn encrypted(vectors: &Value, text: &[u8]) -> Vec<u8> {
    let recipient: Recipient = vectors["recipient"].as_str().unwrap().parse().unwrap();
    let each = std::iter::once(&recipient as &dyn age::Recipient);
    let mut made = Vec::new();
    let mut writer = age::Encryptor::with_recipients(each)
        .unwrap()
        .wrap_output(&mut made)
        .unwrap();
    writer.write_all(text).unwrap();
    writer.finish().unwrap();
    made
}

fn verify(vectors: &Value, text: &[u8]) -> Result<Contents, BackupError> {
    Contents::verify(encrypted(vectors, text).as_slice(), &key(vectors))
}

/// Where the first record begins.
fn records_at(text: &[u8]) -> usize {
    let header = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let root = header.map(|(at, _)| at).nth(1).unwrap() + 1;
    let keys = u32::from_le_bytes(text[root + 32..root + 36].try_into().unwrap());
    root + 36 + keys as usize
}

/// Each record with its name and length, in order.
fn records(text: &[u8]) -> Vec<Vec<u8>> {
    let mut at = records_at(text);
    let mut found = Vec::new();
    while at < text.len() {
        let length = u32::from_le_bytes(text[at + 32..at + 36].try_into().unwrap()) as usize;
        found.push(text[at..at + 36 + length].to_vec());
        at += 36 + length;
    }
    found
}

#[test]
fn a_backup_that_another_program_wrote_is_read_whole() {
    let vectors = vectors::backup();
    let file = vectors::bytes(&vectors["backup"]);
    let contents = Contents::verify(file.as_slice(), &key(&vectors)).unwrap();
    assert_eq!(contents.moment.store, vectors::store(&vectors));
    let moment = &contents.moment;
    assert_eq!(
        (moment.generation, moment.transaction, moment.made.0),
        (7, 41, 1_764_000_100)
    );
    assert!(moment.anchor.as_ref().unwrap().starts_with("12:abab"));
    assert_eq!(
        (contents.records, contents.secrets, contents.versions),
        (7, 1, 2)
    );
    assert_eq!((contents.grants, contents.configs), (1, 1));
    assert_eq!(contents.slots.len(), 2);
    assert_eq!(
        Moment::read(file.as_slice(), &key(&vectors)).unwrap(),
        *moment
    );

    // Its records are those of the vectors' text, byte for byte.
    let text = vectors::bytes(&vectors["text"]);
    let given: Vec<Vec<u8>> = Reader::open(file.as_slice(), &key(&vectors))
        .unwrap()
        .map(|record| {
            let (name, record) = record.unwrap();
            let length = (record.len() as u32).to_le_bytes();
            [&name.0[..], &length, &record].concat()
        })
        .collect();
    assert_eq!(given, records(&text));
}

#[test]
fn every_changed_byte_of_the_file_is_refused_and_so_is_every_length() {
    let vectors = vectors::backup();
    let (file, key) = (vectors::bytes(&vectors["backup"]), key(&vectors));
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(
            Contents::verify(changed.as_slice(), &key).is_err(),
            "byte {at}"
        );
        assert!(
            Contents::verify(&file[..at], &key).is_err(),
            "{at} bytes of it"
        );
    }
    let longer = [&file[..], b"\0"].concat();
    assert!(Contents::verify(longer.as_slice(), &key).is_err());
}

#[test]
fn a_text_that_was_changed_before_it_was_encrypted_is_refused_too() {
    let vectors = vectors::backup();
    let text = vectors::bytes(&vectors["text"]);
    assert!(verify(&vectors, &text).is_ok());
    let header = text.iter().position(|byte| *byte == b'{').unwrap();
    let header_end = header
        + text[header..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap();
    for at in 0..text.len() {
        // Cut anywhere, however small a part is missing.
        assert!(verify(&vectors, &text[..at]).is_err(), "{at} bytes of it");
        // Moment and anchor are what whoever made it says: nothing else could know.
        if (header..header_end).contains(&at) {
            continue;
        }
        let mut changed = text.clone();
        changed[at] ^= 1;
        assert!(verify(&vectors, &changed).is_err(), "byte {at}");
    }
    for (from, to) in [
        (r#""format":1"#, r#""format":2"#),
        (r#""generation":7"#, r#""generation":8"#),
        (r#""records":7"#, r#""records":6"#),
        (r#""records":7"#, r#""records":8"#),
        (r#""store":"65"#, r#""store":"66"#),
        (r#""cipher":"aes-256-gcm""#, r#""cipher":"aes-128-gcm""#),
        (r#""made":1764000100"#, r#""made":1764000100,"more":1"#),
    ] {
        let (before, rest) = text.split_at(header_end);
        let changed = String::from_utf8_lossy(before).replacen(from, to, 1);
        assert_ne!(changed.as_bytes(), before, "{from}");
        let changed = [changed.as_bytes(), rest].concat();
        assert!(verify(&vectors, &changed).is_err(), "{to}");
    }
    assert!(verify(&vectors, &[&text[..], b"x"].concat()).is_err());
}

#[test]
fn records_that_are_missing_twice_or_behind_another_head_are_refused() {
    let vectors = vectors::backup();
    let text = vectors::bytes(&vectors["text"]);
    let all = records(&text);
    let made = |order: &[usize]| {
        let front = String::from_utf8_lossy(&text[..records_at(&text)]).into_owned();
        // The root key is no text: the header alone is changed.
        let end = front.find("}\n").unwrap() + 2;
        let header = front[..end].replacen(
            r#""records":7"#,
            &format!(r#""records":{}"#, order.len()),
            1,
        );
        let mut made = header.into_bytes();
        made.extend(&text[end..records_at(&text)]);
        order.iter().for_each(|at| made.extend(&all[*at]));
        made
    };
    // 0 the store's own time, 1 a head, 2 to 4 its versions, 5 grants, 6 a config.
    assert!(verify(&vectors, &made(&[0, 1, 2, 3, 4, 5, 6])).is_ok());
    assert!(verify(&vectors, &made(&[0, 1, 4, 3, 2, 6, 5])).is_ok());
    assert!(verify(&vectors, &made(&[1, 2, 3, 4])).is_ok());
    for order in [
        &[0, 1, 2, 3, 5, 6][..],
        &[0, 1, 2, 3, 4, 4, 5, 6],
        &[0, 1, 2, 5, 3, 4, 6],
        &[0, 2, 1, 3, 4, 5, 6],
        &[0, 2, 3, 4, 5, 6],
        &[0, 1, 2, 3, 4, 5, 5, 6],
        &[1, 2, 3, 4, 0],
        &[0, 0, 5],
        &[1, 2, 3, 4, 1, 2, 3, 4],
    ] {
        let refused = verify(&vectors, &made(order));
        assert!(refused.is_err(), "{order:?}: {refused:?}");
    }
}

#[test]
fn what_is_no_key_or_no_recipient_is_refused_and_not_shown() {
    let vectors = vectors::backup();
    let file = vectors::bytes(&vectors["backup"]);
    let open = |key: &BackupKey| Contents::verify(file.as_slice(), key).unwrap_err();
    let identities = |text: &str| BackupKey::Identities(Zeroizing::new(text.to_owned()));
    let another = Identity::generate();
    let text = age::secrecy::ExposeSecret::expose_secret(&another.to_string()).to_owned();
    assert!(matches!(
        open(&identities(&text)),
        BackupError::WrongIdentity
    ));
    assert!(matches!(open(&identities("")), BackupError::NoIdentity));
    assert!(matches!(
        open(&identities("# only\n")),
        BackupError::NoIdentity
    ));
    let error = open(&identities(&format!("# c\n{}", &text[..60])));
    assert!(matches!(error, BackupError::Identity(2)), "{error}");
    assert!(!error.to_string().contains(&text[..40]));
    let passphrase = BackupKey::Passphrase(Zeroizing::new("x".into()));
    assert!(matches!(open(&passphrase), BackupError::OtherKey(_)));
    // Comments, an end of a line of another system, and several of them.
    let many = format!(
        "# a\r\n{text}\r\n\n{}\n",
        vectors["identity"].as_str().unwrap()
    );
    assert!(Contents::verify(file.as_slice(), &identities(&many)).is_ok());

    // Many a user gives the private half where the public one is asked for.
    let to = BackupTo::Recipients(vec![another.to_public().to_string(), text.clone()]);
    let error = to.encryptor().map(|_| ()).unwrap_err();
    assert!(matches!(error, BackupError::Recipient(2)), "{error}");
    assert!(!error.to_string().contains(&text[..40]) && !format!("{to:?}").contains(&text));
    let none = BackupTo::Recipients(Vec::new());
    assert!(matches!(
        none.encryptor().map(|_| ()),
        Err(BackupError::NoRecipient)
    ));
    let empty = BackupTo::Passphrase(Zeroizing::new(String::new()));
    assert!(matches!(
        empty.encryptor().map(|_| ()),
        Err(BackupError::EmptyPassphrase)
    ));
    for no_backup in [&b""[..], b"text\n", b"age-encryption.org/v1\n"] {
        let error = Contents::verify(no_backup, &key(&vectors)).unwrap_err();
        assert!(matches!(error, BackupError::NotOne(_)), "{error}");
    }
    let error = verify(&vectors, b"this is another file that age has encrypted").unwrap_err();
    assert!(matches!(error, BackupError::NotOne(_)), "{error}");
}
