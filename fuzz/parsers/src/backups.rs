//! Backups, and the sealed records in them.
//!
//! A backup is encrypted to public halves, so that anybody can make one of any text: [`backup`] does.
//! The vectors of core/store, made from docs/format.md by another program, are the store that it is
//! of; a record in it is opened as it would be out of the store itself.

use std::fs;
use std::io::Write as _;
use std::str::FromStr as _;
use std::sync::OnceLock;

use age::x25519::Recipient;
use store::{BackupKey, Contents, Moment, Restored};
use zeroize::Zeroizing;

use crate::check_refusal;
use crate::folder::Folder;

/// Bytes before the header.
const TITLE: usize = 22;

/// A backup of the vectors, in its parts.
pub(crate) struct Vectors {
    pub(crate) text: Vec<u8>,
    pub(crate) file: Vec<u8>,
    pub(crate) keys: Vec<u8>,
    /// What is before the keys' length, what is between keys and records.
    before_keys: Vec<u8>,
    /// Name on disk and record.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
    to: Recipient,
    key: BackupKey,
}

pub(crate) fn vectors() -> &'static Vectors {
    static VECTORS: OnceLock<Vectors> = OnceLock::new();
    VECTORS.get_or_init(|| {
        let text = include_str!("../../../core/store/tests/vectors/backup.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let said = |name: &str| vectors[name].as_str().unwrap();
        let text = bytes(said("text"));
        let line_end = text[TITLE..].iter().position(|byte| *byte == b'\n');
        let (before_keys, mut rest) = text.split_at(TITLE + line_end.unwrap() + 1 + 32);
        let keys = counted(&mut rest);
        let mut records = Vec::new();
        while let Some((name, after)) = rest.split_at_checked(32) {
            rest = after;
            records.push((name.to_vec(), counted(&mut rest)));
        }
        Vectors {
            before_keys: before_keys.to_vec(),
            file: bytes(said("backup")),
            keys,
            records,
            to: Recipient::from_str(said("recipient")).unwrap(),
            key: BackupKey::Identities(Zeroizing::new(said("identity").to_owned())),
            text,
        }
    })
}

/// Bytes in hexadecimal.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn counted(rest: &mut &[u8]) -> Vec<u8> {
    let (length, after) = rest.split_first_chunk().unwrap();
    let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
    *rest = after;
    bytes.to_vec()
}

impl Vectors {
    /// Its text with other keys, or another record in place of one.
    pub(crate) fn with(&self, keys: &[u8], other: Option<(usize, &[u8])>) -> Vec<u8> {
        let mut text = self.before_keys.clone();
        let mut put = |bytes: &[u8]| {
            text.extend((bytes.len() as u32).to_le_bytes());
            text.extend(bytes);
            std::mem::take(&mut text)
        };
        let mut all = put(keys);
        for (number, (name, record)) in self.records.iter().enumerate() {
            let record = match other {
                Some((at, other)) if at == number => other,
                _ => record,
            };
            all.extend(name);
            all.extend(put(record));
        }
        all
    }
}

/// As anybody can who knows the recipient.
fn encrypted(text: &[u8]) -> Vec<u8> {
    let to = std::iter::once(&vectors().to as &dyn age::Recipient);
    let mut file = Vec::new();
    let mut out = age::Encryptor::with_recipients(to)
        .unwrap()
        .wrap_output(&mut file)
        .unwrap();
    out.write_all(text).unwrap();
    out.finish().unwrap();
    file
}

/// What is in a backup of this text, if it is one.
pub(crate) fn contents_of(text: &[u8]) -> Option<Contents> {
    verified(&encrypted(text))
}

fn verified(file: &[u8]) -> Option<Contents> {
    match Contents::verify(file, &vectors().key) {
        Ok(contents) => Some(contents),
        Err(error) => {
            check_refusal(&error);
            None
        }
    }
}

/// The text of a backup: what it holds is in it.
pub fn backup(bytes: &[u8]) -> bool {
    let file = encrypted(bytes);
    let Some(contents) = verified(&file) else {
        return false;
    };
    let moment = Moment::read(&*file, &vectors().key).unwrap();
    assert_eq!(moment, contents.moment);
    // A record has a name, a length, and what sealing adds.
    assert!(contents.records * (32 + 4 + 100) <= bytes.len() as u64);
    true
}

/// The same, restored: what is whole is the same store again, of anything else nothing is left.
pub fn restore(bytes: &[u8]) -> bool {
    let file = encrypted(bytes);
    let key = &vectors().key;
    let folder = Folder::new();
    let (into, none) = (folder.path().join("into"), folder.path().join("none"));
    let whole = verified(&file);
    match Restored::make(&*file, key, &into, &none) {
        Ok(restored) => {
            assert_eq!(Some(restored.contents), whole);
            true
        }
        Err(error) => {
            check_refusal(&error);
            assert_eq!(whole, None);
            assert!(
                fs::read_dir(&into).is_ok_and(|mut left| left.next().is_none()) || !into.exists()
            );
            false
        }
    }
}

/// A backup as it lies on the disk: age's own authentication refuses every other byte of the text.
pub fn backup_file(bytes: &[u8]) -> bool {
    let Some(contents) = verified(bytes) else {
        return false;
    };
    let whole = verified(&vectors().file).unwrap();
    assert_eq!(contents, whole, "a backup that nobody has made");
    true
}

/// A sealed record in the place of one of its kind: the very same, or refused.
pub fn record(bytes: &[u8]) -> bool {
    let vectors = vectors();
    let kind = |record: &[u8]| record.get(1).copied();
    let all = vectors.records.iter().map(|(_, record)| record.as_slice());
    // That of its length, if there are several of its kind.
    let likeness = |record: &[u8]| (kind(record) == kind(bytes), record.len() == bytes.len());
    let at = all.enumerate().max_by_key(|(_, record)| {
        let (kind, length) = likeness(record);
        (record == &bytes, kind, length)
    });
    let at = at.map_or(0, |(at, _)| at);
    let text = vectors.with(&vectors.keys, Some((at, bytes)));
    let taken = contents_of(&text).is_some();
    assert!(
        !taken || bytes == vectors.records[at].1,
        "a record with a wrong byte"
    );
    taken
}
