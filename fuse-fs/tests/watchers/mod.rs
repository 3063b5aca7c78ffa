//! What inotify says of the files of a view.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::inotify;

use crate::harness::{Host, pairs, text};

#[test]
fn a_watch_set_once_fires_on_every_rotation() {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[]);
    let watcher =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE;
    let on_file = inotify::add_watch(&watcher, host.secret("a"), what).unwrap();
    let on_folder = inotify::add_watch(&watcher, host.secret(""), what).unwrap();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    for round in 0..20 {
        let touched = host.set("a", &format!("value {round}"));
        host.ring(&touched.rings);
        let mut heard = Vec::new();
        let mut events = inotify::Reader::new(&watcher, &mut buffer);
        while let Ok(event) = events.next() {
            heard.push((event.wd(), event.events()));
        }
        for watch in [on_file, on_folder] {
            for event in [inotify::ReadFlags::MODIFY, inotify::ReadFlags::CLOSE_WRITE] {
                let fired = heard
                    .iter()
                    .any(|(wd, events)| *wd == watch && events.contains(event));
                assert!(
                    fired,
                    "round {round}: {event:?} of watch {watch}: {heard:?}"
                );
            }
        }
        assert_eq!(
            host.read("a"),
            Ok(format!("value {round}")),
            "a ring changes nothing"
        );
    }
}

/// What a watcher heard: watch, event, name.
fn heard(watcher: &impl std::os::fd::AsFd) -> Vec<(i32, inotify::ReadFlags, String)> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watcher, &mut buffer);
    let mut all = Vec::new();
    while let Ok(event) = events.next() {
        let name = event
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        all.push((event.wd(), event.events(), name.unwrap_or_default()));
    }
    all
}

#[test]
fn watchers_hear_of_a_revoke_and_of_a_new_grant() {
    let host = Host::start();
    host.set("a", "one");
    host.set_fields("tls", &[("cert.pem", "C"), ("key.pem", "K")]);
    host.grant(&["a", "tls"]);
    host.make(&["a", "tls"], &[("level", "debug"), ("more", "1")]);
    let held = File::open(host.secret("a")).unwrap();
    let folder = File::open(host.secret("tls")).unwrap();
    for path in ["tls/cert.pem", "tls/key.pem"] {
        host.read(path).unwrap();
    }
    text(&host.config("more")).unwrap();
    let watcher =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    let watch = |path| inotify::add_watch(&watcher, path, inotify::WatchFlags::ALL_EVENTS).unwrap();
    let (top, fields) = (watch(host.secret("")), watch(host.secret("tls")));
    let configs = watch(host.config(""));

    host.revoke("a");
    host.revoke("tls");
    let touched = host
        .views
        .reload(7, pairs(&[("level", "debug")]), Vec::new(), 1)
        .unwrap();
    host.unlink(touched);
    let deleted: Vec<_> = heard(&watcher)
        .into_iter()
        .filter(|(_, event, _)| event.contains(inotify::ReadFlags::DELETE))
        .map(|(watch, _, name)| (watch, name))
        .collect();
    for expected in [
        (top, "a"),
        (fields, "cert.pem"),
        (fields, "key.pem"),
        (configs, "more"),
    ] {
        assert!(
            deleted.contains(&(expected.0, expected.1.to_owned())),
            "{expected:?} is not among {deleted:?}"
        );
    }
    assert!(host.list("").is_empty());

    let touched = host.grant(&["a", "tls"]);
    host.ring(&touched.rings);
    let names: Vec<_> = heard(&watcher)
        .into_iter()
        .map(|(_, _, name)| name)
        .collect();
    assert!(names.contains(&"a".to_owned()), "{names:?}");
    // Whoever had the file or the folder open all the while is no hindrance to others.
    assert_eq!(host.read("a"), Ok("one".into()));
    assert_eq!(host.read("tls/key.pem"), Ok("K".into()));
    assert_eq!(host.secret("a").symlink_metadata().unwrap().nlink(), 1);
    drop((held, folder));
}

#[test]
fn a_revoked_name_is_unlinked_for_its_watchers_also_if_it_was_opened_first() {
    let host = Host::start();
    host.set("a", "one");
    host.set_fields("tls", &[("cert", "C"), ("key", "K")]);
    host.grant(&["a", "tls"]);
    host.make(&["a", "tls"], &[]);
    let watcher =
        inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    for folder in ["", "tls"] {
        inotify::add_watch(&watcher, host.secret(folder), inotify::WatchFlags::DELETE).unwrap();
    }
    for round in 0..5 {
        host.set("a", "two");
        host.grant(&["a", "tls"]);
        for name in ["a", "tls/cert", "tls/key"] {
            host.read(name).unwrap();
        }
        for (name, paths) in [("a", &["a"][..]), ("tls", &["tls/cert", "tls/key"])] {
            let forgets = || {
                for path in paths {
                    assert_eq!(host.read(path), Err(libc::ENOENT), "looked up again");
                }
            };
            let finds = || {
                forgets();
                // Who is not of the instance, as the injector.
                host.belongs(false);
                for path in paths {
                    let refused = host.read(path).unwrap_err();
                    assert!(
                        [libc::ENOENT, libc::EKEYREVOKED].contains(&refused),
                        "{refused}"
                    );
                }
            };
            host.revoke_beside(name, forgets, finds);
            host.belongs(true);
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&watcher, &mut buffer);
        let mut heard = Vec::new();
        while let Ok(event) = events.next() {
            heard.push(event.file_name().unwrap().to_str().unwrap().to_owned());
        }
        heard.sort();
        assert_eq!(heard, ["a", "cert", "key"], "round {round}");
    }
}
