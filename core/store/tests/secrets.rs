//! Secrets and their versions, as operators and readers see them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;

use common::*;
use store::{
    Denied, MAX_FIELDS, MAX_KEEP, MAX_VERSION_BYTES, ReadError, SecretBytes, SetOptions, Shape,
    Standing, Value, WriteError,
};

#[test]
fn a_value_comes_back_byte_for_byte() {
    let store = memory();
    let all: Vec<u8> = (0..=255).collect();
    for (name, bytes) in [
        ("all", all),
        ("empty", Vec::new()),
        ("line", b"x\r\n\0".to_vec()),
    ] {
        let value = Value::Single(SecretBytes::new(bytes.clone()));
        let meta = store
            .create(&operator(), &secret(name), value, None, &[])
            .unwrap();
        assert_eq!(
            (meta.newest().number, meta.newest().total_bytes()),
            (1, bytes.len() as u64)
        );
        let opened = store.open_value(&all_of(&store, name), 1, None).unwrap();
        assert_eq!(opened[..], bytes[..]);
        assert_eq!(format!("{opened:?}"), "Opened([redacted])");
    }
}

#[test]
fn create_makes_a_new_name_alone_and_rotate_an_old_one() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    let rotated = store.rotate(&op, &name, single("x"));
    assert!(matches!(rotated, Err(WriteError::NotFound(text)) if text.contains("db")));
    store.create(&op, &name, single("one"), None, &[]).unwrap();
    let created = store.create(&op, &name, single("x"), None, &[]);
    assert!(matches!(created, Err(WriteError::Conflict(text)) if text.contains("db")));
    assert_eq!(
        store
            .rotate(&op, &name, single("two"))
            .unwrap()
            .newest()
            .number,
        2
    );
    let set = store
        .set(&op, &name, single("three"), SetOptions::default())
        .unwrap();
    assert_eq!((set.newest().number, set.keep), (3, 10));
    assert_eq!(newest(&store, "db"), "three");
    assert_eq!(read(&store, &all_of(&store, "db"), 1, None).unwrap(), "one");
}

#[test]
fn fields_are_opened_one_by_one_and_have_their_own_sizes() {
    let store = memory();
    let value = fields(&[("username", "admin"), ("password", "s3cret")]);
    let meta = store
        .create(&operator(), &secret("db"), value, None, &[])
        .unwrap();
    assert_eq!(meta.shape, Shape::Fields);
    let version = meta.newest();
    assert_eq!(version.size_of(Some(&field("username"))), Some(5));
    assert_eq!(version.size_of(None), None);
    let permit = all_of(&store, "db");
    assert_eq!(
        read(&store, &permit, 1, Some("password")).unwrap(),
        "s3cret"
    );
    for absent in [Some("token"), None] {
        assert!(matches!(
            read(&store, &permit, 1, absent),
            Err(ReadError::NoField(..))
        ));
    }
}

#[test]
fn the_shape_changes_only_on_demand() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store.create(&op, &name, single("one"), None, &[]).unwrap();
    let value = || fields(&[("a", "1")]);
    assert!(matches!(
        store.rotate(&op, &name, value()),
        Err(WriteError::Shape(_))
    ));
    let set = store.set(&op, &name, value(), SetOptions::default());
    assert!(matches!(set, Err(WriteError::Shape(_))));
    assert_eq!(reach(&store, "db"), [1]);
    let reshape = SetOptions {
        reshape: true,
        ..SetOptions::default()
    };
    assert_eq!(
        store.set(&op, &name, value(), reshape).unwrap().shape,
        Shape::Fields
    );
    assert!(matches!(
        store.rollback(&op, &name, 1),
        Err(WriteError::Shape(_))
    ));
    assert_eq!(read(&store, &all_of(&store, "db"), 1, None).unwrap(), "one");
}

#[test]
fn a_deleted_secret_is_gone_at_once_and_its_numbers_are_never_given_again() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store
        .create(
            &op,
            &name,
            single("1"),
            None,
            &[service("web"), service("api")],
        )
        .unwrap();
    store.rotate(&op, &name, single("2")).unwrap();
    let permits = [all_of(&store, "db"), ask(&store, "web", "db").unwrap()];
    let deletion = store.delete(&op, &name).unwrap();
    assert_eq!(deletion.services(), [service("api"), service("web")]);
    for permit in &permits {
        assert_eq!(permit.standing(), Standing::Revoked);
        assert!(matches!(
            read(&store, permit, 2, None),
            Err(ReadError::Revoked)
        ));
        assert!(matches!(store.secret(permit), Err(ReadError::Revoked)));
    }
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::UnknownSecret);
    assert!(!store.hold(&name, 2));
    assert!(store.list(&op, "").unwrap().is_empty());
    assert!(matches!(
        store.history(&op, &name),
        Err(WriteError::NotFound(_))
    ));
    assert!(matches!(
        store.raw_record(&op, &name),
        Err(WriteError::NotFound(_))
    ));
    let early = store.set(&op, &name, single("x"), SetOptions::default());
    assert!(
        matches!(early, Err(WriteError::Busy(_))),
        "before the commit"
    );
    deletion.commit().unwrap();
    assert!(matches!(
        store.delete(&op, &name),
        Err(WriteError::NotFound(_))
    ));
    assert!(store.grants(&op, None).unwrap().is_empty());
    assert_eq!((store.status().secrets, store.status().services), (0, 0));
    let meta = store.create(&op, &name, single("3"), None, &[]).unwrap();
    assert_eq!((meta.newest().number, meta.versions.len()), (3, 1));
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::NotGranted);
    for permit in &permits {
        assert_eq!(
            permit.standing(),
            Standing::Revoked,
            "of the one that was deleted"
        );
    }
    assert_eq!(newest(&store, "db"), "3");
}

#[test]
fn a_deletion_that_was_forgotten_is_done_by_another() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    store.create(&op, &name, single("1"), None, &[]).unwrap();
    drop(store.delete(&op, &name).unwrap());
    let (one, other) = (
        store.delete(&op, &name).unwrap(),
        store.delete(&op, &name).unwrap(),
    );
    one.commit().unwrap();
    store.create(&op, &name, single("2"), None, &[]).unwrap();
    other.commit().unwrap();
    assert_eq!(
        newest(&store, "db"),
        "2",
        "a later secret is not what was deleted"
    );
}

#[test]
fn limits_are_told_and_nothing_is_half_done() {
    let store = memory();
    let (op, name) = (operator(), secret("db"));
    let bytes = |length| Value::Single(SecretBytes::new(vec![b'x'; length]));
    let create = |value, keep| store.create(&op, &name, value, keep, &[]);
    let large = create(bytes(MAX_VERSION_BYTES + 1), None);
    assert!(matches!(large, Err(WriteError::TooLarge(_))));
    let many = |count: usize| {
        let name = |number: usize| field(&format!("f{number}"));
        let field = |number| (name(number), SecretBytes::new(vec![b'x']));
        Value::Fields((0..count).map(field).collect())
    };
    assert!(matches!(
        create(many(MAX_FIELDS + 1), None),
        Err(WriteError::TooLarge(_))
    ));
    let none = Value::Fields(BTreeMap::new());
    assert!(matches!(create(none, None), Err(WriteError::Invalid(_))));
    let keep = create(single("x"), Some(MAX_KEEP + 1));
    assert!(matches!(keep, Err(WriteError::Invalid(_))));
    assert!(store.list(&op, "").unwrap().is_empty());
    create(bytes(MAX_VERSION_BYTES), Some(MAX_KEEP)).unwrap();
    assert_eq!(newest(&store, "db").len(), MAX_VERSION_BYTES);
    store
        .set(
            &op,
            &name,
            many(MAX_FIELDS),
            SetOptions {
                reshape: true,
                ..SetOptions::default()
            },
        )
        .unwrap();
}

#[test]
fn lists_are_in_order_and_begin_with_the_prefix() {
    let store = memory();
    for name in ["db.b", "db.a", "dc", "a", "db"] {
        store
            .create(&operator(), &secret(name), single(name), None, &[])
            .unwrap();
    }
    let names = |prefix: &str| -> Vec<String> {
        let list = store.list(&operator(), prefix).unwrap();
        list.iter().map(|meta| meta.name.to_string()).collect()
    };
    assert_eq!(names(""), ["a", "db", "db.a", "db.b", "dc"]);
    assert_eq!(names("db."), ["db.a", "db.b"]);
    assert_eq!(names("x"), [] as [&str; 0]);
    assert_eq!(names("../"), [] as [&str; 0]);
}

#[test]
fn the_sealed_record_shows_neither_name_nor_value() {
    let store = memory();
    let value = fields(&[("user", "canary-user"), ("word", "canary-word")]);
    store
        .create(&operator(), &secret("canary-name"), value, None, &[])
        .unwrap();
    let raw = store
        .raw_record(&operator(), &secret("canary-name"))
        .unwrap();
    assert_eq!(raw.len(), 2 * (11 + 100));
    assert!(!raw.windows(6).any(|window| window == b"canary"));
}

#[test]
fn what_was_revoked_stays_revoked_through_a_seal() {
    let store = memory();
    let op = operator();
    store
        .create(&op, &secret("db"), single("1"), None, &[service("web")])
        .unwrap();
    let permit = ask(&store, "web", "db").unwrap();
    store
        .revoke(&op, &service("web"), &[secret("db")])
        .unwrap()
        .commit()
        .unwrap();
    store.seal();
    assert_eq!(permit.standing(), Standing::Revoked);
    store.unseal(store::Unlock::FileSlots).unwrap();
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::NotGranted);
}
