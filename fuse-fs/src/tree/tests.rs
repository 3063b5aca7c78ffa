//! What the kernel asks, in an order that it takes only now and then.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::sync::Arc;

use model::{Modes, SecretName, Tree};
use store::{Cipher, Operator, SecretBytes, SetOptions, Store, Value};

use super::{Caller, OpenAs, Views};
use crate::errno::Refusal;
use crate::inode::Ino;
use crate::spec::{Access, InstanceKey, InstanceSpec, Membership, SecretSpec, Unwritten, Witness};

struct Everybody;

impl Membership for Everybody {
    fn belongs(&self, _: u32, _: &InstanceKey) -> bool {
        true
    }

    fn thread_group(&self, tid: u32) -> Option<u32> {
        Some(tid)
    }
}

impl Witness for Everybody {
    fn access(&self, _: &Access<'_>) -> Result<(), Unwritten> {
        Ok(())
    }
}

const NUMBER: u32 = 7;

/// One instance that sees the secret `a`.
struct One {
    store: Store,
    operator: Operator,
    views: Arc<Views>,
    name: SecretName,
}

impl One {
    fn start(keep: u32) -> One {
        let root = sys::peer::PeerCredentials {
            pid: 1,
            uid: 0,
            gid: 0,
        };
        let store = Store::in_memory(Cipher::default());
        let one = One {
            operator: Operator::authenticate(&root, &[], None).unwrap(),
            views: Views::new(store.clone(), Arc::new(Everybody), Arc::new(Everybody)),
            store,
            name: "a".parse().unwrap(),
        };
        one.set(Some(keep));
        let (web, names) = ("web".parse().unwrap(), [one.name.clone()]);
        let granted = one
            .store
            .grant(&one.operator, &web, &names, None, Default::default());
        granted.unwrap();
        let secret = SecretSpec::plain(one.name.clone());
        let spec = InstanceSpec {
            number: NUMBER,
            service: web,
            uid: 1234,
            gid: 1234,
            cgroup: None,
            unit: None,
            image: None,
            secrets: vec![secret],
            config: Default::default(),
            config_from: Vec::new(),
            reloads: 0,
            modes: Modes::default(),
            entries: Vec::new(),
        };
        one.views.make(spec).unwrap();
        one
    }

    fn set(&self, keep: Option<u32>) {
        let value = Value::Single(SecretBytes::from(&b"value"[..]));
        let options = SetOptions {
            keep,
            ..SetOptions::default()
        };
        self.store
            .set(&self.operator, &self.name, value, options)
            .unwrap();
        self.views.secret_changed(&self.name);
    }

    fn revoke(&self) {
        let (web, names) = ("web".parse().unwrap(), [self.name.clone()]);
        let revocation = self.store.revoke(&self.operator, &web, &names).unwrap();
        self.views.denied(Some(&web), &names);
        revocation.commit().unwrap();
    }

    fn look_up(&self, tid: u32) -> Result<Ino, Refusal> {
        let folder = Ino::instance_folder(NUMBER);
        let name = OsStr::new(self.name.as_str());
        let found = self.views.lookup(Tree::Secret, caller(tid), folder, name)?;
        Ok(found.attr.ino)
    }

    fn open(&self, tid: u32, ino: Ino) -> Result<OpenAs, Refusal> {
        self.views.open(caller(tid), ino)
    }
}

fn caller(tid: u32) -> Caller {
    Caller {
        uid: 1234,
        tid,
        unique: 2,
    }
}

#[test]
fn an_open_that_meets_two_rotations_gets_what_its_second_look_up_found() {
    let one = One::start(1);
    let first = one.look_up(1).unwrap();
    one.set(None);
    assert_eq!(one.open(1, first), Err(Refusal::Superseded));
    let second = one.look_up(1).unwrap();
    one.set(None);
    assert_eq!(one.open(2, second), Err(Refusal::Superseded), "another's");
    assert_eq!(one.open(1, second), Ok(OpenAs::Cached));
    assert_eq!(one.open(1, second), Err(Refusal::Superseded), "a new open");
    // Reopened by a descriptor, it is looked up by nobody.
    assert_eq!(one.open(1, second), Ok(OpenAs::Cached));
}

#[test]
fn a_revoke_wins_over_a_second_try_and_so_does_keep_0() {
    for keep in [0, 1] {
        let one = One::start(keep);
        let first = one.look_up(1).unwrap();
        one.set(None);
        assert_eq!(one.open(1, first), Err(Refusal::Superseded));
        let second = one.look_up(1).unwrap();
        let refused = if keep == 0 {
            one.set(None);
            Refusal::Superseded
        } else {
            one.revoke();
            Refusal::NoEntry
        };
        assert_eq!(one.open(1, second), Err(refused));
    }
}
