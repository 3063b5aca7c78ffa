//! Both trees on a real kernel, served by threads of this process.
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuse_fs::{
    Access, Handover, InstanceKey, InstanceSpec, Membership, RingPath, SecretSpec, Touched,
    Unwritten, Views, Witness,
};
use model::{Modes, SecretName, Tree};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags};
use store::{Cipher, Operator, SecretBytes, SetOptions, Store, Value};
use sys::apart::Apart;
use sys::process::Spawn;

/// Says of everybody what the test wants.
pub struct Everybody(AtomicBool);

impl Membership for Everybody {
    fn belongs(&self, _: u32, _: &InstanceKey) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn thread_group(&self, _: u32) -> Option<u32> {
        Some(std::process::id())
    }
}

/// Keeps what was witnessed, in words; and fails when told to.
#[derive(Default)]
pub struct Notes {
    pub lines: Mutex<Vec<String>>,
    pub fails: AtomicBool,
}

impl Witness for Notes {
    fn access(&self, access: &Access<'_>) -> Result<(), Unwritten> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Unwritten);
        }
        let Access {
            kind,
            instance,
            service,
            secret,
            version,
            verdict,
            why,
            ..
        } = access;
        assert_ne!((access.tid, access.unique), (0, 0));
        let field = access.field.map(|field| format!("/{field}"));
        let field = field.unwrap_or_default();
        let line =
            format!("{kind:?} {service} {instance} {secret}{field}@{version} {verdict:?} {why}");
        self.lines.lock().unwrap().push(line.trim_end().to_owned());
        Ok(())
    }
}

/// A store, its views, and where they are mounted. Takes the mounts away when dropped.
pub struct Host {
    pub store: Store,
    pub views: Arc<Views>,
    pub operator: Operator,
    everybody: Arc<Everybody>,
    pub notes: Arc<Notes>,
    folder: PathBuf,
    secret: Connection,
    config: Connection,
}

impl Host {
    pub fn start() -> Host {
        let store = Store::in_memory(Cipher::default());
        let everybody = Arc::new(Everybody(AtomicBool::new(true)));
        let notes = Arc::new(Notes::default());
        let views = Views::new(store.clone(), everybody.clone(), notes.clone());
        let folder = tempfile::Builder::new()
            .prefix("dv-")
            .tempdir()
            .unwrap()
            .keep();
        let root = sys::peer::PeerCredentials {
            pid: 1,
            uid: 0,
            gid: 0,
        };
        let connect = |name: &str, tree| {
            let at = folder.join(name);
            std::fs::create_dir(&at).unwrap();
            connect(&at, tree, &views)
        };
        let secret = connect("secret", Tree::Secret);
        let config = connect("config", Tree::Config);
        Host {
            operator: Operator::authenticate(&root, &[], None).unwrap(),
            store,
            everybody,
            notes,
            folder,
            secret,
            config,
            views,
        }
    }

    /// What `umount -f` by a service does to its connection, and what the injector does then.
    pub fn lose_secrets(&mut self) {
        let at = self.folder.join("secret");
        // Says EBUSY, and aborts all the same.
        let _ = rustix::mount::unmount(&at, UnmountFlags::FORCE);
        self.secret = connect(&at, Tree::Secret, &self.views);
    }

    /// Ends the connection of a tree, and gives what the injector holds of it still.
    pub fn abort(&self, tree: Tree) -> &Connection {
        let (name, connection) = match tree {
            Tree::Secret => ("secret", &self.secret),
            Tree::Config => ("config", &self.config),
        };
        let _ = rustix::mount::unmount(self.folder.join(name), UnmountFlags::FORCE);
        connection
    }

    /// The views of another secretsd, with what the registry knows of instance 7.
    pub fn successor(&self, spec: InstanceSpec) -> Arc<Views> {
        let (everybody, notes) = (self.everybody.clone(), self.notes.clone());
        let views = Views::new(self.store.clone(), everybody, notes);
        views.restore(spec).unwrap();
        views
    }

    pub fn belongs(&self, whether: bool) {
        self.everybody.0.store(whether, Ordering::SeqCst);
    }

    pub fn set(&self, name: &str, value: &str) -> Touched {
        let value = Value::Single(SecretBytes::from(value.as_bytes()));
        self.store
            .set(
                &self.operator,
                &name.parse().unwrap(),
                value,
                SetOptions::default(),
            )
            .unwrap();
        self.views.secret_changed(&name.parse().unwrap())
    }

    pub fn set_fields(&self, name: &str, fields: &[(&str, &str)]) -> Touched {
        let fields: BTreeMap<_, _> = fields
            .iter()
            .map(|(field, value)| (field.parse().unwrap(), SecretBytes::from(value.as_bytes())))
            .collect();
        let value = Value::Fields(fields);
        self.store
            .set(
                &self.operator,
                &name.parse().unwrap(),
                value,
                SetOptions::default(),
            )
            .unwrap();
        self.views.secret_changed(&name.parse().unwrap())
    }

    /// What was witnessed since the last question.
    pub fn witnessed(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lines.lock().unwrap())
    }

    /// A rotation with a grace.
    pub fn rotate_with_grace(&self, name: &str, value: Value, lasts: Duration) {
        let name = name.parse().unwrap();
        self.store
            .rotate_with_grace(&self.operator, &name, value, lasts)
            .unwrap();
        self.views.secret_changed(&name);
        self.unlink(self.views.previous_changed(&name));
    }

    pub fn grant(&self, names: &[&str]) -> Touched {
        let names: Vec<SecretName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let web = "web".parse().unwrap();
        self.store
            .grant(&self.operator, &web, &names, None, Default::default())
            .unwrap();
        self.views.granted(&web, &names)
    }

    pub fn revoke(&self, name: &str) {
        self.revoke_beside(name, || {}, || {});
    }

    /// Revokes, with something before the barrier, and something between it and the unlink.
    pub fn revoke_beside(&self, name: &str, before: impl FnOnce(), between: impl FnOnce()) {
        let (web, names) = ("web".parse().unwrap(), [name.parse().unwrap()]);
        let revocation = self.store.revoke(&self.operator, &web, &names).unwrap();
        before();
        let touched = self.views.denied(Some(&web), &names);
        revocation.commit().unwrap();
        between();
        self.unlink(touched);
    }

    /// What the injector does about names that are no more, and what comes after it.
    pub fn unlink(&self, touched: Touched) {
        for one in &touched.unlinks {
            let tree = match one.tree {
                Tree::Secret => "secret",
                Tree::Config => "config",
            };
            match std::fs::remove_file(self.folder.join(tree).join(&one.path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    panic!("{one:?}: {error}")
                }
                _ => {}
            }
        }
        assert_eq!(self.views.forget_gone(touched.gone), []);
    }

    pub fn spec(&self, secrets: &[&str], config: &[(&str, &str)]) -> InstanceSpec {
        InstanceSpec {
            number: 7,
            service: "web".parse().unwrap(),
            uid: 1234,
            gid: 1234,
            cgroup: None,
            unit: None,
            image: None,
            secrets: secrets.iter().map(|name| asked(name)).collect(),
            config: pairs(config),
            config_from: Vec::new(),
            reloads: 0,
            modes: Modes::default(),
            entries: Vec::new(),
        }
    }

    pub fn make(&self, secrets: &[&str], config: &[(&str, &str)]) {
        self.views.make(self.spec(secrets, config)).unwrap();
    }

    /// A secret's path of any instance.
    pub fn secret_of(&self, instance: u32, name: &str) -> PathBuf {
        self.folder.join(format!("secret/{instance}")).join(name)
    }

    /// A path of instance 7.
    pub fn secret(&self, name: &str) -> PathBuf {
        self.folder.join("secret/7").join(name)
    }

    /// A path of instance 7.
    pub fn config(&self, key: &str) -> PathBuf {
        self.folder.join("config/7").join(key)
    }

    pub fn read(&self, name: &str) -> Result<String, i32> {
        text(&self.secret(name))
    }

    pub fn list(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.secret(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What the injector does.
    pub fn ring(&self, rings: &[RingPath]) {
        for ring in rings {
            let master = match ring.tree {
                Tree::Secret => self.secret.mount.as_fd(),
                Tree::Config => self.config.mount.as_fd(),
            };
            let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
            let file = rustix::fs::openat(master, &ring.path, flags, Mode::empty()).unwrap();
            rustix::io::pwrite(&file, &[0], 0).unwrap();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for name in ["secret", "config"] {
            let at = self.folder.join(name);
            while rustix::mount::unmount(&at, UnmountFlags::DETACH).is_ok() {}
            let _ = std::fs::remove_dir(&at);
        }
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// `NAME`, `NAME each` for every read, `NAME previous`.
pub fn asked(words: &str) -> SecretSpec {
    let (name, how) = words.split_once(' ').unwrap_or((words, ""));
    SecretSpec {
        every_read: how == "each",
        previous: how == "previous",
        ..SecretSpec::plain(name.parse().unwrap())
    }
}

/// What the injector holds of a connection.
pub struct Connection {
    mount: OwnedFd,
    pub device: OwnedFd,
    pub memfd: OwnedFd,
}

/// The process that tells the kernel what it must forget: this very program, as each suite has it.
pub fn apart() -> Arc<Apart> {
    let nowhere: OwnedFd = File::create("/dev/null").unwrap().into();
    let mut spawn = Spawn::new(std::env::current_exe().unwrap()).env("FUSE_FS_APART", "yes");
    for arg in [
        "harness::tell_the_kernel",
        "--exact",
        "--ignored",
        "--nocapture",
        "--quiet",
    ] {
        spawn = spawn.arg(arg);
    }
    let apart = Apart::start(spawn.stdout(nowhere.as_fd()), || std::process::exit(1));
    Arc::new(apart.unwrap())
}

#[test]
#[ignore = "a process of other tests, which start it"]
fn tell_the_kernel() {
    if std::env::var_os("FUSE_FS_APART").is_some() {
        sys::apart::serve(|messages, device| {
            fuse_fs::tell_the_kernel(messages, device).map(|()| None)
        })
        .unwrap();
    }
}

/// A new connection, served and mounted.
fn connect(at: &std::path::Path, tree: Tree, views: &Arc<Views>) -> Connection {
    let (device, mount) = sys::fuse::connect("deploy-secrets:test").unwrap();
    rustix::mount::move_mount(
        &mount,
        "",
        rustix::fs::CWD,
        at,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .unwrap();
    let memfd = rustix::fs::memfd_create("init", MemfdFlags::CLOEXEC).unwrap();
    let handover = Handover {
        fresh: true,
        memfd: memfd.try_clone().unwrap(),
        sweep: false,
    };
    let device_of_server = device.try_clone().unwrap();
    fuse_fs::serve(tree, device_of_server, views, &handover, &apart()).unwrap();
    Connection {
        mount,
        device,
        memfd,
    }
}

pub fn pairs<K: std::str::FromStr<Err: std::fmt::Debug> + Ord>(
    pairs: &[(&str, &str)],
) -> BTreeMap<K, String> {
    pairs
        .iter()
        .map(|(key, value)| (key.parse().unwrap(), (*value).to_owned()))
        .collect()
}

pub fn text(path: &std::path::Path) -> Result<String, i32> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).unwrap()),
        Err(error) => Err(error.raw_os_error().unwrap()),
    }
}

/// The first bytes of an open file.
pub fn head(file: &File) -> Result<String, i32> {
    let mut buffer = [0; 64];
    match rustix::io::pread(file, &mut buffer[..], 0) {
        Ok(count) => Ok(String::from_utf8(buffer[..count].to_vec()).unwrap()),
        Err(errno) => Err(errno.raw_os_error()),
    }
}

/// What a read of something revoked says; Linux 7.3 turns the one into the other.
pub fn is_revoked(answer: &Result<String, i32>) -> bool {
    matches!(answer, Err(libc::EKEYREVOKED | libc::EIO))
}
