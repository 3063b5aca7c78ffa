//! Servers that are processes of their own, one after the other on one connection, and what holds
//! the connection meanwhile.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuse_fs::{Access, AccessKind, Handover, InstanceKey, Membership, Unwritten, Views, Witness};
use model::{Modes, Tree};
use rustix::fs::MemfdFlags;
use rustix::mount::{MoveMountFlags, UnmountFlags};
use store::{Cipher, Operator, SecretBytes, SetOptions, Store, Value};
use sys::process::{Child, ExitStatus, Spawn};

/// What each server shows. A read of `stalls` is not answered while the keeper says so; the last three
/// end their server.
const SECRETS: [&str; 6] = ["a", "b", "stalls each", "aborts", "panics", "kills"];

/// What the injector and the keeper do: holds a connection, and starts its servers.
pub struct Keeper {
    folder: PathBuf,
    device: OwnedFd,
    memfd: OwnedFd,
    /// How a server settles what the one before it left.
    pub how: &'static str,
    /// Its servers keep readers of `stalls` waiting.
    pub stalls: bool,
    pub server: Option<Server>,
}

/// A process that serves.
pub struct Server {
    pub child: Child,
    /// It ends when this does.
    link: UnixStream,
}

impl Keeper {
    /// With a first server.
    pub fn start(how: &'static str) -> Keeper {
        let folder = tempfile::Builder::new()
            .prefix("dv-")
            .tempdir()
            .unwrap()
            .keep();
        let (device, mount) = sys::fuse::connect("deploy-secrets:test").unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", rustix::fs::CWD, &folder, flags).unwrap();
        let memfd = rustix::fs::memfd_create("init", MemfdFlags::CLOEXEC).unwrap();
        let mut keeper = Keeper {
            folder,
            device,
            memfd,
            how,
            stalls: true,
            server: None,
        };
        assert!(keeper.next());
        keeper
    }

    /// Starts the next server; false: it ended before it served, or soon after.
    pub fn next(&mut self) -> bool {
        let fresh = rustix::fs::fstat(&self.memfd).unwrap().st_size == 0;
        let (mut link, theirs) = UnixStream::pair().unwrap();
        let mut spawn = Spawn::new(std::env::current_exe().unwrap())
            .env("FUSE_FS_SERVER", if fresh { "fresh" } else { self.how })
            .env("FUSE_FS_STALLS", if self.stalls { "yes" } else { "no" })
            .parent_death_signal(libc::SIGKILL)
            .listen_fd("device", self.device.as_fd())
            .listen_fd("memfd", self.memfd.as_fd())
            .listen_fd("link", theirs.as_fd());
        for arg in [
            "processes::server",
            "--exact",
            "--ignored",
            "--nocapture",
            "--quiet",
        ] {
            spawn = spawn.arg(arg);
        }
        let nowhere: OwnedFd = std::fs::File::create("/dev/null").unwrap().into();
        let child = spawn
            .stdout(nowhere.as_fd())
            .stderr(nowhere.as_fd())
            .start();
        drop(theirs);
        let is_there = link.read_exact(&mut [0]).is_ok();
        let child = child.unwrap();
        self.server = Some(Server { child, link });
        is_there
    }

    /// Kills the server, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(server) = &self.server {
            server.child.signal(libc::SIGKILL).unwrap();
        }
        self.wait();
    }

    /// Waits until the server has ended by itself.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let mut server = self.server.take()?;
        Some(server.child.wait().unwrap())
    }

    /// Waits until the server keeps a reader waiting.
    pub fn until_stalled(&mut self) {
        let server = self.server.as_mut().unwrap();
        server.link.read_exact(&mut [0]).unwrap();
    }

    pub fn master(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join("7").join(name)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // First, so that nobody who waits for an answer keeps the rest waiting.
        let _ = rustix::mount::unmount(&self.folder, UnmountFlags::FORCE);
        if self.server.is_some() {
            self.kill();
        }
        while rustix::mount::unmount(&self.folder, UnmountFlags::DETACH).is_ok() {}
        let _ = std::fs::remove_dir(&self.folder);
    }
}

struct Anybody;

impl Membership for Anybody {
    fn belongs(&self, _: u32, _: &InstanceKey) -> bool {
        true
    }

    fn thread_group(&self, tid: u32) -> Option<u32> {
        Some(tid)
    }
}

/// Ends the process at the names that say so.
struct Bomb {
    /// Where to say that a reader is being kept waiting.
    stalls: Option<UnixStream>,
}

impl Witness for Bomb {
    fn access(&self, access: &Access<'_>) -> Result<(), Unwritten> {
        match access.secret.as_str() {
            "stalls" if access.kind == AccessKind::Read => {
                if let Some(mut link) = self.stalls.as_ref() {
                    link.write_all(b"!").unwrap();
                    loop {
                        std::thread::park();
                    }
                }
                Ok(())
            }
            "aborts" => std::process::abort(),
            "panics" => panic!("as asked"),
            "kills" => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Shows [`SECRETS`] to instance 7, each with its own name as its value.
fn views(stalls: Option<UnixStream>) -> (Store, Operator, Arc<Views>) {
    let store = Store::in_memory(Cipher::default());
    let root = sys::peer::PeerCredentials {
        pid: 1,
        uid: 0,
        gid: 0,
    };
    let operator = Operator::authenticate(&root, &[], None).unwrap();
    let names = SECRETS.map(|words| crate::harness::asked(words).name);
    for name in &names {
        let value = Value::Single(SecretBytes::from(name.as_str().as_bytes()));
        store
            .set(&operator, name, value, SetOptions::default())
            .unwrap();
    }
    let web = "web".parse().unwrap();
    store
        .grant(&operator, &web, &names, None, Default::default())
        .unwrap();
    let views = Views::new(store.clone(), Arc::new(Anybody), Arc::new(Bomb { stalls }));
    let spec = fuse_fs::InstanceSpec {
        number: 7,
        service: web,
        uid: 0,
        gid: 0,
        cgroup: None,
        unit: None,
        image: None,
        secrets: SECRETS.map(crate::harness::asked).to_vec(),
        config: Default::default(),
        config_from: Vec::new(),
        reloads: 0,
        modes: Modes::default(),
        entries: Vec::new(),
    };
    views.restore(spec).unwrap();
    (store, operator, views)
}

#[test]
#[ignore = "a process of other tests, which start it"]
fn server() {
    let Ok(how) = std::env::var("FUSE_FS_SERVER") else {
        return;
    };
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
    let mut fds = sys::process::listen_fds().unwrap();
    let mut take = |name: &str| {
        let at = fds.iter().position(|(other, _)| other == name).unwrap();
        fds.swap_remove(at).1
    };
    let (device, memfd, link) = (take("device"), take("memfd"), take("link"));
    let mut link = UnixStream::from(link);
    let stalls = std::env::var("FUSE_FS_STALLS").unwrap() == "yes";
    let stalls = stalls.then(|| link.try_clone().unwrap());
    let (_store, _operator, views) = views(stalls);
    let handover = Handover {
        fresh: how == "fresh",
        memfd,
        sweep: how == "sweep",
    };
    let apart = crate::harness::apart();
    fuse_fs::serve(Tree::Secret, device, &views, &handover, &apart).unwrap();
    link.write_all(b".").unwrap();
    let _ = link.read(&mut [0]);
}
