//! Records that were moved, taken away or made up.
use records::{Change, NameHash};
use sys::lock::lock;

use super::*;
use crate::error::{EnvelopeError, RecordError};
use crate::hierarchy::Keys;
use crate::place::Place;
use crate::store::Home;

/// Changes the sealed records under a store, as whoever writes the disk and knows the journal's key
/// could; they know no other.
fn tamper(store: &Store, change: impl FnOnce(&Keys, &dyn Fn(&Place) -> Vec<u8>) -> Vec<Change>) {
    let Home::Memory(twin) = &store.inner.home else {
        panic!("not in memory")
    };
    let twin = lock(twin);
    let keys = Keys::from_root(store.id(), &*twin.root).unwrap();
    let get = |place: &Place| twin.records.get(&place.hash(&keys)).unwrap().unwrap();
    let changes = change(&keys, &get);
    twin.records.commit(changes).unwrap();
}

fn head(name: &str) -> Place {
    Place::Head(name.parse().unwrap())
}

fn version(name: &str, number: u32) -> Place {
    Place::Version(name.parse().unwrap(), number, None)
}

#[test]
fn a_value_that_was_moved_is_never_given() {
    for (from, to) in [
        (version("a", 1), version("a", 2)),
        (version("b", 2), version("a", 2)),
        (head("a"), version("a", 2)),
    ] {
        let store = filled();
        tamper(&store, |keys, get| {
            vec![Change::Put {
                name: to.hash(keys),
                record: get(&from),
            }]
        });
        let permit = store
            .permit(Reader::Operator(&operator()), &"a".parse().unwrap())
            .unwrap();
        let opened = store.open_value(&permit, 2, None).map(|_| ());
        assert!(matches!(opened, Err(ReadError::Record(_))), "{from:?}");
        assert_eq!(&*store.open_value(&permit, 1, None).unwrap(), b"a");
    }
}

#[test]
fn a_record_in_a_place_that_is_not_its_own_keeps_the_store_sealed() {
    let grants = |name: &str| Place::Grants(name.parse().unwrap());
    let config = |name: &str| Place::Config(name.parse().unwrap());
    for (from, to) in [
        (head("b"), head("a")),
        (grants("web"), grants("api")),
        (config("one"), config("two")),
        (config("one"), grants("web")),
        (head("a"), head("c")),
    ] {
        let store = filled();
        tamper(&store, |keys, get| {
            vec![Change::Put {
                name: to.hash(keys),
                record: get(&from),
            }]
        });
        let unsealed = unsealed_again(&store);
        assert!(matches!(unsealed, Err(UnsealError::Record(_))), "{from:?}");
        assert_eq!(store.state(), State::Sealed);
    }
}

#[test]
fn a_name_inside_that_is_not_the_name_outside_keeps_the_store_sealed() {
    let store = filled();
    let generation = store.live().unwrap().generation();
    let text = br#"{"name":"b","keep":10,"next":1,"oldest":1,"versions":[]}"#;
    let (name, record) = generation.sealer.seal(&head("c"), text).unwrap();
    generation
        .records
        .commit(vec![Change::Put { name, record }])
        .unwrap();
    match unsealed_again(&store) {
        Err(UnsealError::Record(error)) => assert_eq!(error.why, EnvelopeError::Tag),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_kind_or_format_is_refused_and_not_skipped() {
    for (at, byte, why) in [
        (0, 2, EnvelopeError::Format(2)),
        (1, 8, EnvelopeError::Kind(8)),
        (1, 5, EnvelopeError::Kind(5)),
        (2, 3, EnvelopeError::Cipher(3)),
        (3, 1, EnvelopeError::Reserved),
    ] {
        let store = filled();
        tamper(&store, |_, get| {
            let mut record = get(&head("a"));
            record[at] = byte;
            vec![Change::Put {
                name: NameHash([9; 32]),
                record,
            }]
        });
        match unsealed_again(&store) {
            Err(UnsealError::Record(error)) => assert_eq!(error.why, why),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_version_that_is_missing_is_named() {
    let store = filled();
    tamper(&store, |keys, _| {
        vec![Change::Remove {
            name: version("b", 1).hash(keys),
        }]
    });
    let permit = store
        .permit(Reader::Operator(&operator()), &"b".parse().unwrap())
        .unwrap();
    let missing = RecordError {
        what: "version 1 of secret b".into(),
        why: EnvelopeError::Missing,
    };
    match store.open_value(&permit, 1, None) {
        Err(ReadError::Record(error)) => assert_eq!(error, missing),
        other => panic!("{other:?}"),
    }
    match store.rotate_root(&operator(), &|_, _| {}) {
        Err(WriteError::Record(error)) => assert_eq!(error, missing),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.state(), State::Unsealed { generation: 1 });
    match unsealed_again(&store) {
        Err(UnsealError::Record(error)) => assert_eq!(error, missing),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_grant_that_is_not_understood_is_denied_kept_and_can_be_revoked() {
    let store = filled();
    let text = br#"{"service":"web","grants":[{"secret":"a","hours":"9-17"},{"secret":"b"}]}"#;
    let place = Place::Grants("web".parse().unwrap());
    let record = |store: &Store| {
        let generation = store.live().unwrap().generation();
        let record = generation.get(&place).unwrap()?;
        Some(generation.sealer.open(&place, &record).unwrap().to_vec())
    };
    let generation = store.live().unwrap().generation();
    let (name, sealed) = generation.sealer.seal(&place, text).unwrap();
    generation
        .records
        .commit(vec![Change::Put {
            name,
            record: sealed,
        }])
        .unwrap();
    let report = unsealed_again(&store).unwrap();
    assert!(
        report.warnings[0].contains("service web"),
        "{:?}",
        report.warnings
    );
    let (op, web) = (operator(), "web".parse().unwrap());
    let ask = |name: &str| {
        let reader = Reader::Instance {
            service: &web,
            number: 1,
            identity: &Default::default(),
        };
        store.permit(reader, &name.parse().unwrap()).map(drop)
    };
    assert_eq!((ask("a"), ask("b")), (Err(Denied::NotGranted), Ok(())));
    // Other changes of the same service, and a rotation, keep it byte for byte.
    store
        .revoke(&op, &web, &["b".parse().unwrap()])
        .unwrap()
        .commit()
        .unwrap();
    store.rotate_root(&op, &|_, _| {}).unwrap();
    let kept = record(&store).unwrap();
    assert_eq!(
        kept,
        br#"{"service":"web","grants":[{"secret":"a","hours":"9-17"}]}"#
    );
    let revoked = store.revoke(&op, &web, &["a".parse().unwrap()]).unwrap();
    assert_eq!(revoked.secrets().len(), 1);
    revoked.commit().unwrap();
    assert_eq!(record(&store), None);
}

#[test]
fn the_last_number_is_given_and_then_none() {
    let store = filled();
    let name = "a".parse().unwrap();
    let generation = store.live().unwrap().generation();
    let text = br#"{"name":"a","keep":10,"next":268435455,"oldest":1,"versions":[{"number":1,"created":7,"sizes":[[null,1]]},{"number":2,"created":7,"sizes":[[null,4]]}]}"#;
    let (hash, record) = generation.sealer.seal(&head("a"), text).unwrap();
    generation
        .records
        .commit(vec![Change::Put { name: hash, record }])
        .unwrap();
    unsealed_again(&store).unwrap();
    let last = store.rotate(&operator(), &name, single("last")).unwrap();
    assert_eq!(last.newest().number, MAX_VERSION);
    unsealed_again(&store).unwrap();
    let more = store.rotate(&operator(), &name, single("more"));
    assert!(matches!(more, Err(WriteError::Conflict(_))));
    assert_eq!(store.history(&operator(), &name).unwrap().len(), 3);
}

#[test]
fn a_change_under_keep_0_that_was_killed_between_its_commits_gives_no_old_version() {
    let store = filled();
    let generation = store.live().unwrap().generation();
    let text = br#"{"name":"a","keep":0,"next":3,"oldest":2,"versions":[{"number":1,"created":7,"sizes":[[null,1]]},{"number":2,"created":7,"sizes":[[null,4]]}]}"#;
    let (hash, record) = generation.sealer.seal(&head("a"), text).unwrap();
    generation
        .records
        .commit(vec![Change::Put { name: hash, record }])
        .unwrap();
    unsealed_again(&store).unwrap();
    let permit = store
        .permit(Reader::Operator(&operator()), &"a".parse().unwrap())
        .unwrap();
    assert!(matches!(
        store.open_value(&permit, 1, None),
        Err(ReadError::NoVersion(..))
    ));
    store.rotate_root(&operator(), &|_, _| {}).unwrap();
    assert_eq!(store.sweep().unwrap(), 1);
    let generation = store.live().unwrap().generation();
    assert_eq!(generation.get(&version("a", 1)).unwrap(), None);
    unsealed_again(&store).unwrap();
}
