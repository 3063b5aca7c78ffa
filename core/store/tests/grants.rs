//! Grants: who may read, from when, until when.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use model::{Identity, Pins, Timestamp};
use store::{Denied, ReadError, Reader, Standing, Store, WriteError};

fn with(names: &[&str]) -> Store {
    let store = memory();
    for name in names {
        store
            .create(&operator(), &secret(name), single(name), None, &[])
            .unwrap();
    }
    store
}

fn grant(store: &Store, of: &str, names: &[&str]) -> Result<(), WriteError> {
    let names: Vec<_> = names.iter().map(|name| secret(name)).collect();
    store.grant(&operator(), &service(of), &names, None, Pins::default())
}

fn later() -> Timestamp {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp(now.as_secs() + 3600)
}

#[test]
fn without_a_grant_nobody_reads() {
    let store = with(&["db", "tls"]);
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::NotGranted);
    grant(&store, "web", &["db"]).unwrap();
    assert_eq!(
        read(&store, &ask(&store, "web", "db").unwrap(), 1, None).unwrap(),
        "db"
    );
    assert_eq!(ask(&store, "web", "tls").unwrap_err(), Denied::NotGranted);
    assert_eq!(ask(&store, "api", "db").unwrap_err(), Denied::NotGranted);
    assert_eq!(
        ask(&store, "web", "nothing").unwrap_err(),
        Denied::UnknownSecret
    );
}

#[test]
fn a_grant_of_a_name_that_does_not_exist_grants_nothing() {
    let store = with(&["db"]);
    let granted = grant(&store, "web", &["db", "tsl", "x"]);
    assert!(matches!(granted, Err(WriteError::NotFound(text)) if text.contains("tsl, x")));
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::NotGranted);
    grant(&store, "web", &[]).unwrap();
    assert_eq!(store.status().services, 0);
}

#[test]
fn a_revoke_denies_before_it_is_committed() {
    let store = with(&["db", "tls"]);
    grant(&store, "web", &["db", "tls"]).unwrap();
    let (db, tls) = (
        ask(&store, "web", "db").unwrap(),
        ask(&store, "web", "tls").unwrap(),
    );
    let names = [secret("db"), secret("other")];
    let revocation = store.revoke(&operator(), &service("web"), &names).unwrap();
    assert_eq!(revocation.secrets(), [secret("db")]);
    assert_eq!(revocation.not_granted(), [secret("other")]);
    assert_eq!(
        (db.standing(), tls.standing()),
        (Standing::Revoked, Standing::Valid)
    );
    assert!(matches!(
        read(&store, &db, 1, None),
        Err(ReadError::Revoked)
    ));
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::NotGranted);
    revocation.commit().unwrap();
    assert_eq!(read(&store, &tls, 1, None).unwrap(), "tls");
    grant(&store, "web", &["db"]).unwrap();
    assert_eq!(
        db.standing(),
        Standing::Revoked,
        "an old permit of a new grant"
    );
    assert!(ask(&store, "web", "db").unwrap().is_valid());
}

#[test]
fn a_revocation_whose_commit_failed_or_was_forgotten_is_made_durable_by_the_next_one() {
    let store = with(&["db", "tls"]);
    grant(&store, "web", &["db", "tls"]).unwrap();
    let revoke = || {
        store
            .revoke(&operator(), &service("web"), &[secret("db")])
            .unwrap()
    };
    drop(revoke());
    let again = revoke();
    assert_eq!(again.not_granted(), [secret("db")]);
    again.commit().unwrap();
    store.seal();
    store.unseal(store::Unlock::FileSlots).unwrap();
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::NotGranted);
    assert!(ask(&store, "web", "tls").is_ok());
}

#[test]
fn a_revocation_ends_with_the_seal_it_was_overtaken_by_and_says_so() {
    let store = with(&["db"]);
    grant(&store, "web", &["db"]).unwrap();
    let revocation = store
        .revoke(&operator(), &service("web"), &[secret("db")])
        .unwrap();
    store.seal();
    store.unseal(store::Unlock::FileSlots).unwrap();
    assert!(matches!(revocation.commit(), Err(WriteError::Sealed)));
    assert!(
        ask(&store, "web", "db").is_ok(),
        "and the operator was told that it failed"
    );
}

#[test]
fn a_grant_ends_at_its_time_and_can_be_extended() {
    let store = with(&["db"]);
    let (op, web, db) = (operator(), service("web"), [secret("db")]);
    store
        .grant(&op, &web, &db, Some(later()), Pins::default())
        .unwrap();
    let permit = ask(&store, "web", "db").unwrap();
    store
        .grant(&op, &web, &db, Some(Timestamp(1)), Pins::default())
        .unwrap();
    assert_eq!(permit.standing(), Standing::Expired);
    assert!(matches!(
        read(&store, &permit, 1, None),
        Err(ReadError::Expired)
    ));
    assert_eq!(ask(&store, "web", "db").unwrap_err(), Denied::Expired);
    store.grant(&op, &web, &db, None, Pins::default()).unwrap();
    assert!(permit.is_valid(), "the same grant, with more time");
    assert_eq!(store.grants(&op, Some(&web)).unwrap()[0].grant.until, None);
}

#[test]
fn a_pinned_grant_allows_only_who_is_what_it_says() {
    let store = with(&["db"]);
    grant(&store, "web", &["db"]).unwrap();
    let permit = ask(&store, "web", "db").unwrap();
    let pins = Pins {
        user: Some("33".into()),
        ..Pins::default()
    };
    store
        .grant(
            &operator(),
            &service("web"),
            &[secret("db")],
            None,
            pins.clone(),
        )
        .unwrap();
    assert_eq!(
        permit.standing(),
        Standing::Revoked,
        "it was given without the pin"
    );
    let denied = ask(&store, "web", "db").unwrap_err();
    let told = "the grant is pinned to user 33, and this one runs as uid 0";
    assert_eq!(denied.to_string(), told);
    let identity = Identity {
        uid: 33,
        ..Identity::default()
    };
    let (web, db) = (service("web"), secret("db"));
    let reader = Reader::Instance {
        service: &web,
        number: 1,
        identity: &identity,
    };
    let other = store.permit(reader, &db).unwrap();
    assert!(other.is_valid());
    assert_eq!(store.grants(&operator(), None).unwrap()[0].grant.pins, pins);
    grant(&store, "web", &["db"]).unwrap();
    assert!(ask(&store, "web", "db").unwrap().is_valid());
    assert_eq!(other.standing(), Standing::Revoked);
    let nobody = Pins {
        unit: Some("nginx".into()),
        ..Pins::default()
    };
    let refused = store.grant(&operator(), &web, &[db], None, nobody);
    assert!(refused.unwrap_err().to_string().contains("nginx.service"));
}

#[test]
fn grants_are_listed_by_service_and_name() {
    let store = with(&["b", "a"]);
    grant(&store, "web", &["b", "a"]).unwrap();
    grant(&store, "api", &["a"]).unwrap();
    let list = |of: Option<&str>| -> Vec<String> {
        let of = of.map(service);
        let grants = store.grants(&operator(), of.as_ref()).unwrap();
        grants
            .iter()
            .map(|one| format!("{}:{}", one.service, one.grant.secret))
            .collect()
    };
    assert_eq!(list(None), ["api:a", "web:a", "web:b"]);
    assert_eq!(list(Some("web")), ["web:a", "web:b"]);
    assert_eq!(list(Some("none")), [] as [&str; 0]);
    assert_eq!(store.status().services, 2);
}

#[test]
fn create_grants_to_those_it_names_and_leaves_their_other_grants() {
    let store = with(&["db"]);
    grant(&store, "web", &["db"]).unwrap();
    let allowed = [service("web"), service("api"), service("web")];
    store
        .create(&operator(), &secret("new"), single("new"), None, &allowed)
        .unwrap();
    for (of, name) in [("web", "new"), ("api", "new"), ("web", "db")] {
        assert!(ask(&store, of, name).unwrap().is_valid());
    }
    let failed = store.create(
        &operator(),
        &secret("new"),
        single("x"),
        None,
        &[service("x")],
    );
    assert!(failed.is_err());
    assert_eq!(ask(&store, "x", "new").unwrap_err(), Denied::NotGranted);
}

#[test]
fn a_service_may_have_4096_grants_and_no_more() {
    let store = with(&[]);
    let names: Vec<String> = (0..4097).map(|number| format!("s{number}")).collect();
    for name in &names {
        store
            .create(&operator(), &secret(name), single(""), None, &[])
            .unwrap();
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(matches!(
        grant(&store, "web", &all),
        Err(WriteError::TooLarge(_))
    ));
    grant(&store, "web", &all[..4096]).unwrap();
    assert!(matches!(
        grant(&store, "web", &all[4096..]),
        Err(WriteError::TooLarge(_))
    ));
    grant(&store, "web", &all[..1]).unwrap();
}

#[test]
fn grants_and_revokes_at_the_same_time_end_as_the_last_answer_said() {
    let store = with(&["a", "b", "c", "d"]);
    std::thread::scope(|threads| {
        for name in ["a", "b", "c", "d"] {
            let store = &store;
            threads.spawn(move || {
                for _ in 0..100 {
                    grant(store, "web", &[name]).unwrap();
                    assert!(ask(store, "web", name).is_ok());
                    let web = service("web");
                    let revoked = store.revoke(&operator(), &web, &[secret(name)]).unwrap();
                    assert_eq!(ask(store, "web", name).unwrap_err(), Denied::NotGranted);
                    revoked.commit().unwrap();
                    assert_eq!(ask(store, "web", name).unwrap_err(), Denied::NotGranted);
                }
                grant(store, "web", &[name]).unwrap();
            });
        }
    });
    // As it is on disk.
    store.seal();
    store.unseal(store::Unlock::FileSlots).unwrap();
    assert_eq!(store.grants(&operator(), None).unwrap().len(), 4);
}

#[test]
fn what_is_left_of_a_grant_is_told_and_its_clock_survives_a_restart_and_a_key_rotation() {
    let mut disk = OnDisk::make().unsealed();
    let store = disk.store();
    store
        .create(&operator(), &secret("db"), single("x"), None, &[])
        .unwrap();
    let (op, web, db) = (operator(), service("web"), [secret("db")]);
    let left = |store: &Store| store.grants(&op, Some(&web)).unwrap()[0].left;
    store.grant(&op, &web, &db, None, Pins::default()).unwrap();
    assert_eq!(left(store), None);
    store
        .grant(&op, &web, &db, Some(later()), Pins::default())
        .unwrap();
    let first = left(store).unwrap();
    assert!(first > 3000);
    store.rotate_root(&op, &|_, _| {}).unwrap();
    store.keep_time(false).unwrap();
    disk.reopen();
    let store = disk.store();
    let again = left(store).unwrap();
    assert!(first - again < 60, "{first} {again}");
    store
        .grant(&op, &web, &db, Some(Timestamp(1)), Pins::default())
        .unwrap();
    assert_eq!(left(store), Some(0));
}
