//! The views on the real kernel, by way of its caches: what docs/semantics.md promises.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod watchers;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use harness::{Host, head, is_revoked, pairs, text};

#[test]
fn files_are_as_promised() {
    let host = Host::start();
    host.set("db_password", "s3cret");
    host.set("empty", "");
    host.set_fields("tls", &[("cert.pem", "CERT"), ("key.pem", "KEY")]);
    host.grant(&["db_password", "empty", "tls"]);
    host.make(&["db_password", "empty", "tls"], &[("log_level", "debug")]);

    assert_eq!(host.list(""), ["db_password", "empty", "tls"]);
    assert_eq!(host.list("tls"), ["cert.pem", "key.pem"]);
    assert_eq!(host.read("db_password"), Ok("s3cret".into()));
    assert_eq!(host.read("empty"), Ok(String::new()));
    assert_eq!(host.read("tls/key.pem"), Ok("KEY".into()));
    assert_eq!(host.read("nothing"), Err(libc::ENOENT));
    assert_eq!(host.read("tls/nothing"), Err(libc::ENOENT));
    assert_eq!(host.read("db_password/x"), Err(libc::ENOTDIR));
    assert_eq!(text(&host.config("log_level")), Ok("debug".into()));
    assert_eq!(text(&host.config("nothing")), Err(libc::ENOENT));

    let meta = host.secret("db_password").symlink_metadata().unwrap();
    assert_eq!((meta.size(), meta.uid(), meta.gid()), (6, 1234, 1234));
    assert_eq!(meta.mode(), libc::S_IFREG | 0o400);
    assert!(meta.mtime() > 1_500_000_000);
    let meta = host.secret("tls").symlink_metadata().unwrap();
    assert_eq!(meta.mode(), libc::S_IFDIR | 0o500);
}

#[test]
fn all_or_nothing_is_made_and_every_missing_grant_is_named() {
    let host = Host::start();
    for name in ["a", "b", "c"] {
        host.set(name, "x");
    }
    host.grant(&["b"]);
    match host.views.make(host.spec(&["a", "b", "c"], &[])) {
        Err(fuse_fs::MakeError::Missing(missing)) => {
            let names: Vec<_> = missing.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["a", "c"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(host.views.status().instances, 0);
    assert_eq!(host.read("b"), Err(libc::ENOENT));
}

#[test]
fn a_rotation_is_like_a_rename() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[]);
    let old = File::open(host.secret("a")).unwrap();
    for round in 0..50 {
        let value = format!("value {round}");
        host.set("a", &value);
        assert_eq!(host.read("a"), Ok(value.clone()));
        assert_eq!(
            host.secret("a").metadata().unwrap().size(),
            value.len() as u64
        );
    }
    assert_eq!(head(&old), Ok("one".into()), "what is open stays whole");
    let again = format!("/proc/self/fd/{}", old.as_raw_fd());
    assert_eq!(text(again.as_ref()), Ok("one".into()), "opened again");
    assert_eq!(old.metadata().unwrap().size(), 3);
}

#[test]
fn a_revoke_reaches_names_and_descriptors_of_all_versions() {
    let host = Host::start();
    host.set("a", "one");
    host.set("other", "stays");
    host.grant(&["a", "other"]);
    host.make(&["a", "other"], &[]);
    let first = File::open(host.secret("a")).unwrap();
    assert_eq!(head(&first), Ok("one".into()));
    host.set("a", "two");
    let second = File::open(host.secret("a")).unwrap();
    let unread = File::open(host.secret("a")).unwrap();
    assert_eq!(head(&second), Ok("two".into()));

    host.revoke("a");
    assert_eq!(host.read("a"), Err(libc::ENOENT));
    assert_eq!(host.list(""), ["other"]);
    for file in [&first, &second, &unread] {
        assert!(is_revoked(&head(file)), "{:?}", head(file));
    }
    assert_eq!(host.read("other"), Ok("stays".into()));

    host.grant(&["a"]);
    assert_eq!(
        host.read("a"),
        Ok("two".into()),
        "granted again, it shows again"
    );
    assert_eq!(host.list(""), ["a", "other"]);
}

#[test]
fn a_revoke_reaches_what_an_earlier_secretsd_gave_out() {
    let host = Host::start();
    host.set("a", "one");
    host.set("a", "two");
    host.grant(&["a"]);
    let entries = host.views.make(host.spec(&["a"], &[])).unwrap();
    let held = File::open(host.secret("a")).unwrap();
    assert_eq!(head(&held), Ok("two".into()));
    let before = held.metadata().unwrap().ino();
    // As after a restart: what the kernel holds is not known.
    host.views.end(7);
    let mut spec = host.spec(&["a"], &[]);
    spec.entries = entries.clone();
    assert_eq!(host.views.restore(spec).unwrap(), entries);
    assert_eq!(
        host.secret("a").metadata().unwrap().ino(),
        before,
        "the same inode"
    );
    assert_eq!(head(&held), Ok("two".into()));
    host.revoke("a");
    assert!(is_revoked(&head(&held)), "{:?}", head(&held));
}

#[test]
fn nothing_is_read_on_from_the_cache_of_a_lost_connection() {
    let mut host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[]);
    let held = File::open(host.secret("a")).unwrap();
    assert_eq!(head(&held), Ok("one".into()));
    host.lose_secrets();
    assert!(head(&held).is_err(), "{:?}", head(&held));
    assert_eq!(
        host.read("a"),
        Ok("one".into()),
        "by the name, over the new connection"
    );
    host.revoke("a");
    assert!(head(&held).is_err(), "{:?}", head(&held));
    assert_eq!(host.read("a"), Err(libc::ENOENT));
}

#[test]
fn who_is_not_of_the_instance_is_refused_at_open_and_not_from_the_cache() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[]);
    assert_eq!(host.read("a"), Ok("one".into()));
    host.belongs(false);
    assert_eq!(host.read("a"), Err(libc::EACCES));
    host.belongs(true);
    assert_eq!(host.read("a"), Ok("one".into()));
}

#[test]
fn sealed_nothing_is_served_and_nothing_is_cached_as_absent() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[("key", "value")]);
    let secret = File::open(host.secret("a")).unwrap();
    let config = File::open(host.config("key")).unwrap();
    assert_eq!(
        (head(&secret), head(&config)),
        (Ok("one".into()), Ok("value".into()))
    );

    host.store.seal();
    host.views.sealed();
    for path in [host.secret("a"), host.secret("nothing"), host.config("key")] {
        assert_eq!(text(&path), Err(libc::ENOKEY), "{}", path.display());
    }
    assert_eq!(head(&secret), Err(libc::ENOKEY));
    assert_eq!(head(&config), Err(libc::ENOKEY));

    host.store.unseal(store::Unlock::FileSlots).unwrap();
    host.views.unsealed();
    assert_eq!(host.read("a"), Ok("one".into()));
    assert_eq!(head(&secret), Ok("one".into()));
    assert_eq!(text(&host.config("key")), Ok("value".into()));
}

#[test]
fn a_process_gets_fields_of_one_version() {
    let host = Host::start();
    host.set_fields("tls", &[("cert", "cert 1"), ("key", "key 1")]);
    host.grant(&["tls"]);
    host.make(&["tls"], &[]);
    assert_eq!(host.read("tls/cert"), Ok("cert 1".into()));
    host.set_fields("tls", &[("cert", "cert 2"), ("key", "key 2")]);
    assert_eq!(
        host.read("tls/key"),
        Ok("key 1".into()),
        "its certificate is of version 1"
    );
    assert_eq!(
        host.read("tls/cert"),
        Ok("cert 2".into()),
        "opened again, it is the newest"
    );
    assert_eq!(host.read("tls/key"), Ok("key 2".into()));
}

#[test]
fn a_new_field_shows_in_a_running_instance() {
    let host = Host::start();
    host.set_fields("db", &[("password", "x")]);
    host.grant(&["db"]);
    host.make(&["db"], &[]);
    assert_eq!(host.list("db"), ["password"]);
    let touched = host.set_fields("db", &[("password", "y"), ("username", "admin")]);
    assert_eq!(host.list("db"), ["password", "username"]);
    assert_eq!(host.read("db/username"), Ok("admin".into()));
    let (number, entries) = &touched.new_entries[0];
    assert_eq!(
        (*number, entries.len()),
        (7, 3),
        "the registry learns of it"
    );
}

#[test]
fn a_config_changes_in_place_and_what_is_open_stays_whole() {
    let host = Host::start();
    host.make(&[], &[("level", "debug"), ("gone", "x")]);
    let held = File::open(host.config("level")).unwrap();
    assert_eq!(head(&held), Ok("debug".into()));
    let changed = pairs(&[("level", "warning"), ("new", "y")]);
    let touched = host.views.reload(7, changed, Vec::new(), 1).unwrap();
    assert!(touched.stuck.is_empty());
    assert_eq!(text(&host.config("level")), Ok("warning".into()));
    assert_eq!(text(&host.config("new")), Ok("y".into()));
    assert_eq!(text(&host.config("gone")), Err(libc::ENOENT));
    assert_eq!(head(&held), Ok("debug".into()));
}

#[test]
fn a_stored_config_is_under_the_manifests_own_keys() {
    let host = Host::start();
    let name = "app.settings".parse().unwrap();
    let data = pairs(&[("level", "info"), ("own", "stored")]);
    host.store
        .config_create(&host.operator, &name, data, false)
        .unwrap();
    let mut spec = host.spec(&[], &[("own", "inline")]);
    spec.config_from = vec![name.clone()];
    host.views.make(spec).unwrap();
    assert_eq!(text(&host.config("level")), Ok("info".into()));
    assert_eq!(text(&host.config("own")), Ok("inline".into()));
    let data = pairs(&[("level", "error")]);
    host.store
        .config_update(&host.operator, &name, data)
        .unwrap();
    host.views.configs_changed(&[name]);
    assert_eq!(text(&host.config("level")), Ok("error".into()));
}

#[test]
fn what_is_shown_cannot_be_unlinked() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[("level", "debug")]);
    for path in [host.secret("a"), host.config("level")] {
        let error = std::fs::remove_file(&path).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(libc::EROFS),
            "{}",
            path.display()
        );
        assert!(path.exists());
    }
}

#[test]
fn what_an_instance_had_open_is_read_by_nobody_after_its_end() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[("level", "debug")]);
    // Passed on, or kept by whoever else has it: it has read what the kernel has cached.
    let held = [host.secret("a"), host.config("level")].map(|path| File::open(path).unwrap());
    held.iter().for_each(|file| drop(head(file).unwrap()));
    host.views.end(7);
    let read: Vec<_> = held.iter().map(head).filter(Result::is_ok).collect();
    assert_eq!(read, []);
}

#[test]
fn an_ended_instance_is_gone() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[]);
    assert_eq!(host.read("a"), Ok("one".into()));
    host.views.end(7);
    assert_eq!(
        host.secret("")
            .symlink_metadata()
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOENT)
    );
    assert_eq!(host.views.status().inodes, 0);
}
