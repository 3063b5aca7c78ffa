//! State folders that the programs of earlier commits have made open with the code of today, hold what
//! was put into them, take changes, and go through backup and restore.
//!
//! `fixtures/state-folders/COMMIT` has the files without the zeros at their ends, which are most of a
//! journal and of an audit log; `files.txt` says how long each file is. They are kept for ever.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use audit::{Event, Filter, Log, Options, Record, Verdict};
use model::{Pins, SecretName, ServiceName};
use store::{
    BackupKey, BackupTo, Contents, Denied, Operator, Permit, Reader, Restored, SecretBytes,
    SetOptions, Shape, SlotKind, State, Store, Unlock, Value,
};
use sys::peer::PeerCredentials;
use tests::programs::workspace;

/// A key pair that is good for nothing else.
const RECIPIENT: &str = "age1q5zu542e2qvhq5t4jj9mhh8xeyj8khg3j5ss8tyfajlj8jmh2v4qnza82y";
const IDENTITY: &str = "AGE-SECRET-KEY-1D305V54MAY47A3V8MZ5D2S0CCF0DKXD3SJDKX8HK9MAFNYPKFRDQT4MH78";

fn fixtures() -> PathBuf {
    workspace().join("tests/fixtures/state-folders")
}

/// Puts a folder together again; modes are what git does not keep.
fn unpack(fixture: &Path, to: &Path) {
    let list = fs::read_to_string(fixture.join("files.txt")).unwrap();
    for line in list.lines() {
        let (length, name) = line.split_once(' ').unwrap();
        let path = to.join(name);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        fs::copy(fixture.join("files").join(name), &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(length.parse().unwrap()).unwrap();
    }
}

fn pack(from: &Path, below: &Path, fixture: &Path, list: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for path in entries.iter().map(fs::DirEntry::path) {
        if path.is_dir() {
            pack(&path, below, fixture, list);
            continue;
        }
        let name = path.strip_prefix(below).unwrap();
        let bytes = fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0);
        let target = fixture.join("files").join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, &bytes[..end.map_or(0, |at| at + 1)]).unwrap();
        list.push(format!("{} {}\n", bytes.len(), name.display()));
    }
}

#[test]
#[ignore = "packs the state folder STATE as fixture COMMIT; those that are there stay as they are"]
fn pack_one() {
    let state = PathBuf::from(std::env::var_os("STATE").unwrap());
    let fixture = fixtures().join(std::env::var_os("COMMIT").unwrap());
    assert!(!fixture.exists(), "{} is kept", fixture.display());
    let mut list = Vec::new();
    pack(&state, &state, &fixture, &mut list);
    fs::write(fixture.join("files.txt"), list.concat()).unwrap();
}

fn operator() -> Operator {
    let root = PeerCredentials {
        pid: 1,
        uid: 0,
        gid: 0,
    };
    Operator::authenticate(&root, &[], None).unwrap()
}

fn secret(name: &str) -> SecretName {
    name.parse().unwrap()
}

fn single(text: &str) -> Value {
    Value::Single(SecretBytes::from(text.as_bytes()))
}

/// An open store; whatever happens, the keyring forgets its root key.
struct Opened(Store);

impl Opened {
    fn of(dir: &Path) -> Opened {
        let opened = Opened(Store::open(dir).unwrap());
        let report = opened.0.unseal(Unlock::FileSlots).unwrap();
        assert!(
            report.warnings.is_empty() && report.leftovers.is_empty(),
            "{report:?}"
        );
        opened
    }

    fn permit(&self, name: &str) -> Permit {
        let all = operator();
        self.0
            .permit(Reader::Operator(&all), &secret(name))
            .unwrap()
    }

    fn value(&self, name: &str, version: u32, field: Option<&str>) -> Vec<u8> {
        let field = field.map(|field| field.parse().unwrap());
        let opened = self
            .0
            .open_value(&self.permit(name), version, field.as_ref());
        opened.unwrap().to_vec()
    }

    fn ask(&self, service: &str, name: &str) -> Result<Permit, Denied> {
        let service: ServiceName = service.parse().unwrap();
        let reader = Reader::Instance {
            service: &service,
            number: 1,
            identity: &Default::default(),
        };
        self.0.permit(reader, &secret(name))
    }

    /// What `make.sh` has put in, and `later` of what these tests put in.
    fn check(&self, generation: u32, later: bool) {
        let (store, all) = (&self.0, operator());
        assert_eq!(store.state(), State::Unsealed { generation });
        let listed = store.list(&all, "").unwrap();
        let names: Vec<_> = listed.iter().map(|one| one.name.as_str()).collect();
        let expected = ["bytes", "db_password", "gone", "tls"];
        let expected = expected.into_iter().filter(|name| later || *name != "gone");
        assert_eq!(names, expected.collect::<Vec<_>>());
        let history = store.history(&all, &secret("db_password")).unwrap();
        let numbers: Vec<_> = history.iter().map(|one| one.number).collect();
        if later {
            assert_eq!(numbers, [4, 5]);
            assert_eq!(self.value("db_password", 5, None), b"five");
            assert_eq!(self.value("gone", 2, None), b"again");
        } else {
            assert_eq!(numbers, [3, 4]);
            assert_eq!(self.value("db_password", 3, None), b"three");
        }
        assert!(history.is_sorted_by_key(|one| one.created));
        assert_eq!(self.value("db_password", 4, None), b"four");
        assert_eq!(
            store.secret(&self.permit("tls")).unwrap().shape,
            Shape::Fields
        );
        assert_eq!(self.value("tls", 1, Some("cert.pem")), b"a certificate");
        assert_eq!(self.value("tls", 1, Some("key.pem")), b"");
        assert_eq!(self.value("bytes", 1, None), b"\x00\x01\xfe\xff");
        for (service, name) in [
            ("web", "db_password"),
            ("api", "db_password"),
            ("api", "bytes"),
        ] {
            assert!(self.ask(service, name).is_ok(), "{service} {name}");
        }
        for (service, name) in [
            ("web", "tls"),
            ("web", "bytes"),
            ("api", "tls"),
            ("other", "db_password"),
        ] {
            let denied = self.ask(service, name).unwrap_err();
            assert_eq!(denied, Denied::NotGranted, "{service} {name}");
        }
        // What was deleted was taken back, also from whoever had it before it came again.
        let gone = self.ask("web", "gone").unwrap_err();
        let expected = if later {
            Denied::NotGranted
        } else {
            Denied::UnknownSecret
        };
        assert_eq!(gone, expected);
        let config = |name: &str| store.config_get(&all, &name.parse().unwrap()).unwrap();
        let app = config("app.settings");
        let pairs: BTreeMap<_, _> = app.data.iter().map(|(k, v)| (k.as_str(), &**v)).collect();
        let level = if later { "warn" } else { "debug" };
        assert_eq!(pairs, BTreeMap::from([("log_level", level), ("n", "")]));
        assert_eq!(app.meta.version, 2 + u32::from(later));
        assert!(!app.meta.immutable && config("fixed").meta.immutable);
        let slots = store.slot_list(&all).unwrap();
        assert!(matches!(slots[0].kind, SlotKind::File { .. }));
    }

    fn change(&self) {
        let (store, all) = (&self.0, operator());
        let changed = store.rotate(&all, &secret("db_password"), single("five"));
        assert_eq!(changed.unwrap().newest().number, 5);
        // A number is not given twice, whoever gave the first one.
        let again = store.set(
            &all,
            &secret("gone"),
            single("again"),
            SetOptions::default(),
        );
        assert_eq!(again.unwrap().newest().number, 2);
        let level = BTreeMap::from([("log_level".parse().unwrap(), "warn".to_owned())]);
        store
            .config_update(&all, &"app.settings".parse().unwrap(), level)
            .unwrap();
        let web = "web".parse().unwrap();
        store
            .grant(&all, &web, &[secret("tls")], None, Pins::default())
            .unwrap();
        let revoked = store.revoke(&all, &web, &[secret("tls")]).unwrap();
        revoked.commit().unwrap();
        store.rotate_root(&all, &|_, _| {}).unwrap();
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.seal();
    }
}

/// The backup of an earlier commit's store opens, and is the same store again.
fn back_up_and_restore(opened: &Opened, dir: &Path, folder: &Path, generation: u32, later: bool) {
    let to = BackupTo::Recipients(vec![RECIPIENT.to_owned()]);
    let key = BackupKey::Identities(IDENTITY.to_owned().into());
    let mut file = Vec::new();
    let made = opened
        .0
        .backup(&operator(), &to, None, &mut file, &mut |_, _| {})
        .unwrap();
    assert_eq!(Contents::verify(&*file, &key).unwrap(), made);
    let into = folder.join(format!("restored-{generation}"));
    let restored = Restored::make(&*file, &key, &into, dir).unwrap();
    assert_eq!(restored.contents, made);
    // Its key file was taken over.
    assert!(restored.added_slot.is_none());
    Opened::of(&into).check(generation, later);
}

/// The audit log of a commit that wrote one: whole, with the opens that were, and it goes on.
fn check_audit(folder: &Path) {
    let found = audit::verify(folder, None).unwrap();
    assert!(found.is_whole() && found.entries > 10, "{found:?}");
    let of_web = Filter {
        service: Some("web".into()),
        ..Filter::default()
    };
    let mut opens = Vec::new();
    audit::query(folder, &of_web, |entry| {
        serde_json::from_str::<serde_json::Value>(&entry.json()).unwrap();
        if let Record::Event(Event::Open(access)) = &entry.record {
            opens.push((access.secret.to_owned(), access.version, access.verdict));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(opens, [("db_password".to_owned(), 3, Verdict::Allowed)]);
    let (log, went_on) = Log::open(folder, Options::default(), "upgrade").unwrap();
    assert_eq!(went_on.damage, "");
    log.close();
    drop(log);
    let after = audit::verify(folder, Some(found.last)).unwrap();
    assert!(
        after.is_whole() && after.last.seq > found.last.seq,
        "{after:?}"
    );
}

fn check(commit: &str, has_audit: bool) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    unpack(&fixtures().join(commit), &dir);
    let opened = Opened::of(&dir);
    opened.check(2, false);
    back_up_and_restore(&opened, &dir, folder.path(), 2, false);
    drop(opened);
    let opened = Opened::of(&dir);
    opened.change();
    opened.check(3, true);
    drop(opened);
    let opened = Opened::of(&dir);
    opened.check(3, true);
    back_up_and_restore(&opened, &dir, folder.path(), 3, true);
    let audit = dir.join("audit");
    assert_eq!(audit.exists(), has_audit);
    if has_audit {
        check_audit(&audit);
    }
}

#[test]
fn a_folder_of_before_leases_and_audit_goes_on() {
    check("32475b7", false);
}

#[test]
fn a_folder_with_the_first_audit_log_goes_on() {
    check("7e68310", true);
}

#[test]
fn a_folder_of_before_backups_goes_on() {
    check("7ca9108", true);
}

#[test]
fn a_folder_of_after_backups_goes_on() {
    check("33dfd15", true);
}

#[test]
fn every_folder_that_is_kept_is_tried() {
    let there = fs::read_dir(fixtures()).unwrap();
    let names = there
        .map(|entry| entry.unwrap())
        .filter(|e| e.path().is_dir());
    let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["32475b7", "33dfd15", "7ca9108", "7e68310"]);
}
