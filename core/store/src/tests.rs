//! What only the inside can show: records that were moved or made up, and who waits for whom.
#![allow(clippy::unwrap_used)]
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sys::peer::PeerCredentials;

use crate::writers::Name;
use crate::*;

mod tampered;

fn operator() -> Operator {
    Operator::authenticate(
        &PeerCredentials {
            pid: 1,
            uid: 0,
            gid: 0,
        },
        &[],
        None,
    )
    .unwrap()
}

fn single(text: &str) -> Value {
    Value::Single(SecretBytes::from(text.as_bytes()))
}

/// Two secrets of two versions, two services, two configs; unsealed.
fn filled() -> Store {
    let store = Store::in_memory(Cipher::default());
    let op = operator();
    for (name, service, config) in [("a", "web", "one"), ("b", "api", "two")] {
        let allowed = [service.parse().unwrap()];
        store
            .create(&op, &name.parse().unwrap(), single(name), None, &allowed)
            .unwrap();
        store
            .rotate(&op, &name.parse().unwrap(), single("same"))
            .unwrap();
        let data = [("k".parse().unwrap(), "v".to_string())].into();
        store
            .config_create(&op, &config.parse().unwrap(), data, false)
            .unwrap();
    }
    store
}

fn unsealed_again(store: &Store) -> Result<UnsealReport, UnsealError> {
    store.seal();
    store.unseal(Unlock::FileSlots)
}

/// Runs `act` in a thread of its own; it must not wait for anything that this thread holds.
fn at_once<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let (done, wait) = mpsc::channel();
        threads.spawn(move || done.send(act()));
        wait.recv_timeout(Duration::from_secs(20))
            .expect("it waits for a writer")
    })
}

#[test]
fn reads_revokes_and_deletes_wait_for_no_writer_and_no_rotation() {
    let store = filled();
    let (a, b, web) = (
        "a".parse().unwrap(),
        "b".parse().unwrap(),
        "web".parse().unwrap(),
    );
    let live = store.live().unwrap();
    let names = [
        Name::Secret("a".parse().unwrap()),
        Name::Service("web".parse().unwrap()),
    ];
    std::thread::scope(|threads| {
        // A writer in the middle of its commit, and a rotation that waits for it with the gate shut
        // for others.
        let writing = live.write(names.to_vec()).unwrap();
        let rotation = threads.spawn(|| store.rotate_root(&operator(), &|_, _| {}));
        let deadline = Instant::now() + Duration::from_secs(20);
        while live.gate.try_read().is_ok() {
            assert!(Instant::now() < deadline, "no rotation shuts the gate");
            std::thread::yield_now();
        }
        at_once(|| {
            let reader = Reader::Instance {
                service: &web,
                number: 1,
                identity: &Default::default(),
            };
            let permit = store.permit(reader, &a).unwrap();
            assert_eq!(&*store.open_value(&permit, 2, None).unwrap(), b"same");
            assert_eq!(store.secret(&permit).unwrap().versions.len(), 2);
            assert!(store.hold(&a, 1));
            store.release(&a, 1);
            assert_eq!(
                store
                    .configs_for(&["one".parse().unwrap()])
                    .unwrap()
                    .data
                    .len(),
                1
            );
            assert_eq!(store.list(&operator(), "").unwrap().len(), 2);
            assert_eq!(store.status().secrets, 2);
            let revocation = store
                .revoke(&operator(), &web, std::slice::from_ref(&a))
                .unwrap();
            assert!(!permit.is_valid());
            let deletion = store.delete(&operator(), &b).unwrap();
            drop((revocation, deletion));
        });
        drop(writing);
        assert_eq!(rotation.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn a_revoke_in_the_middle_of_a_grant_of_the_same_service_is_durable_too() {
    let store = filled();
    let (op, web) = (operator(), "web".parse().unwrap());
    let live = store.live().unwrap();
    let grant = model::Grant {
        secret: "b".parse().unwrap(),
        until: None,
        deadline: None,
        pins: model::Pins::default(),
    };
    let mut writing = live
        .write(vec![Name::Service("web".parse().unwrap())])
        .unwrap();
    let given = grants::Change::Give(vec![grant]);
    let staged = grants::stage(&live, &mut writing, &web, given).unwrap();
    // What is committed now still has the grant of `a`.
    let revocation = store.revoke(&op, &web, &["a".parse().unwrap()]).unwrap();
    writing.commit().unwrap();
    staged.publish(&mut sys::lock::write(&live.catalog));
    drop(writing);
    revocation.commit().unwrap();
    unsealed_again(&store).unwrap();
    let grants = store.grants(&op, Some(&web)).unwrap();
    let names: Vec<_> = grants.iter().map(|one| one.grant.secret.as_str()).collect();
    assert_eq!(names, ["b"]);
}

#[test]
fn writers_of_one_name_go_one_after_the_other_and_no_number_is_given_twice() {
    let store = Store::in_memory(Cipher::ChaCha20Poly1305);
    let name = "a".parse().unwrap();
    let numbers: Vec<u32> = std::thread::scope(|threads| {
        let set = || {
            let options = SetOptions {
                keep: Some(1000),
                ..SetOptions::default()
            };
            let set = |text: String| store.set(&operator(), &name, single(&text), options);
            (0..100)
                .map(|_| set("x".into()).unwrap().newest().number)
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| threads.spawn(set)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let distinct: std::collections::BTreeSet<_> = numbers.iter().copied().collect();
    assert_eq!(distinct, (1..=400).collect());
    assert_eq!(store.history(&operator(), &name).unwrap().len(), 400);
}

#[test]
fn while_it_is_not_known_which_generation_is_in_use_neither_records_nor_keys_are_written() {
    let store = filled();
    let op = operator();
    assert_eq!(store.status().records.unwrap().stopped, None);
    store.live().unwrap().stop_writing();
    let slot = NewSlot::File {
        path: None,
        label: String::new(),
    };
    let refused = [
        store.rotate(&op, &"a".parse().unwrap(), single("x")).err(),
        store.rotate_root(&op, &|_, _| {}).err(),
        store.slot_add(&op, slot).err(),
    ];
    for error in refused {
        let error = error.unwrap().to_string();
        assert!(error.contains("restart secretsd"), "{error}");
    }
    let troubles = store.status().records.unwrap().troubles();
    assert!(troubles[0].contains("restart secretsd"), "{troubles:?}");
}
