//! The injector: makes FUSE connections and master mounts, keeps their descriptors, attaches views
//! and rings. It is the parent of no service, so it may die and come back at any time: what it needs
//! is in the registry and at the keeper.

mod attach;
mod bell;
mod changes;
mod connections;
mod daemon;
mod hand_over;
mod instances;
mod live;
mod parts;
mod reload;
mod touch;
mod units;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, RwLock};

use control::inner::{FromInjector, InstanceRecord, Link, Reply, RingTarget, Role, ToInjector};
use sys::apart::Apart;
use sys::lock::read;
use sys::places::{Place, Places};

use self::bell::Bell;
use self::changes::Newest;
use self::connections::{Connections, Lost};
use self::daemon::{Daemon, Held, ask};
use self::instances::{Wanted, failed};
use self::live::Instances;
use self::touch::Touch;
pub use self::touch::serve_apart;
use self::watch::Watch;
use crate::notify;
use crate::run_dir::RunDir;

/// What `deploy-inject serve` needs to know.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The run folder.
    pub run_dir: PathBuf,
    /// secretsd's uid: who besides root may speak on the inner socket.
    pub daemon_uid: u32,
}

/// Why the injector cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The run folder or what is in it.
    #[error("cannot use the run folder {}: {source}", path.display())]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No FUSE connection.
    #[error("cannot make the FUSE connections: {0}; is /dev/fuse there?")]
    Connections(io::Error),
    /// Threads, sockets, descriptors.
    #[error("the injector cannot go on: {0}")]
    System(#[from] io::Error),
}

/// The state that all threads share.
#[derive(Debug)]
struct Injector {
    run_dir: RunDir,
    daemon_uid: u32,
    links_of_daemon: Places,
    connections: RwLock<Arc<Connections>>,
    /// Connections whose views are not attached yet: services still have those of lost ones. Held by
    /// whoever hands over.
    fresh: Mutex<BTreeSet<&'static str>>,
    lost: Lost,
    /// A thread is mending connections.
    mending: AtomicBool,
    held: Held,
    daemon: Daemon,
    instances: Instances,
    /// Those that have ended while no secretsd was there to be told.
    ended: Mutex<Vec<InstanceRecord>>,
    newest: Newest,
    /// Held by whoever looks whether a unit has an instance, and makes it one.
    units: Mutex<()>,
    bell: Arc<Bell>,
    /// Touches what the bell has touched.
    apart: Arc<Apart>,
    watch: Watch,
}

/// Who is at the other end of a link.
struct Peer {
    uid: u32,
    process: OwnedFd,
    /// A take-over of this link has begun.
    greeted: AtomicBool,
    _place: Option<Place>,
}

/// secretsd has one link, and two for a moment after it was started again. Each has a thread here.
const LINKS_OF_DAEMON: usize = 8;

/// Serves until a signal ends the process. Mounts, registry and what the keeper holds stay; taking
/// them away is `deploy-inject clean`.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    let run_dir = RunDir::new(&options.run_dir);
    let in_run_dir = |source| ServeError::RunFolder {
        path: options.run_dir.clone(),
        source,
    };
    sys::sandbox::harden()?;
    // Two for each instance.
    if let Err(error) = sys::sandbox::raise_descriptors() {
        log::info!("the limit of descriptors stays as it is: {error}");
    }
    // While programs can be started.
    let apart = Arc::new(touch::start()?);
    sys::sandbox::forbid_exec_and_networks()?;
    let mut stored = notify::inherited()?;
    let listener = listener(&mut stored, &run_dir).map_err(in_run_dir)?;
    let lost = Lost::take_over(&mut stored);
    let (connections, mut fresh) =
        Connections::begin(&mut stored, &run_dir, &lost).map_err(ServeError::Connections)?;
    let held = Held::take_over(&mut stored);
    for name in &fresh {
        held.forget(name);
    }
    // Had the injector before us come to the end of it, they would not be lost any more.
    fresh.extend(lost.names());
    drop(stored);
    let (instances, ended) = Instances::open(&run_dir).map_err(in_run_dir)?;
    let (caught_up, hears) = channel();
    let injector = Arc::new(Injector {
        run_dir,
        daemon_uid: options.daemon_uid,
        links_of_daemon: Places::new(LINKS_OF_DAEMON),
        connections: RwLock::new(Arc::new(connections)),
        fresh: Mutex::new(fresh),
        lost,
        mending: AtomicBool::new(false),
        held,
        daemon: Daemon::default(),
        instances,
        ended: Mutex::default(),
        newest: Newest::default(),
        units: Mutex::default(),
        bell: Bell::new(caught_up),
        apart,
        watch: Watch::new()?,
    });
    for record in &ended {
        instances::remove_cgroup(record);
        injector.finish(record);
    }
    let watching = Arc::clone(&injector);
    std::thread::Builder::new()
        .name("watch".into())
        .spawn(move || {
            if let Err(error) = watch::watch(&watching) {
                log::error!("instances are not watched any more: {error}");
            }
        })?;
    let telling = Arc::clone(&injector);
    std::thread::Builder::new()
        .name("caught-up".into())
        .spawn(move || telling.tell_who_caught_up(&hears))?;
    notify::ready()?;
    injector.accept(&listener)
}

/// The keeper's socket, so that nobody is refused while we are started again; or one of our own.
fn listener(stored: &mut Vec<(String, OwnedFd)>, run_dir: &RunDir) -> io::Result<UnixListener> {
    if let Some(at) = stored.iter().position(|(name, _)| name == "inject") {
        return Ok(stored.swap_remove(at).1.into());
    }
    let _ = std::fs::remove_file(run_dir.inject_socket());
    UnixListener::bind(run_dir.inject_socket())
}

impl Injector {
    fn connections(&self) -> Arc<Connections> {
        Arc::clone(&read(&self.connections))
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) -> Result<(), ServeError> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream) {
                        log::warn!("inner socket: {error}");
                    }
                }
                Err(error) => {
                    // Too many descriptors, say: others must end first.
                    log::warn!("inner socket: {error}");
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        }
    }

    /// By the kernel's word alone, before a byte is read.
    fn admit(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let credentials = sys::peer::credentials(&stream)?;
        if credentials.uid != 0 && credentials.uid != self.daemon_uid {
            log::warn!("uid {} refused on the inner socket", credentials.uid);
            return Ok(());
        }
        let is_daemon = credentials.uid == self.daemon_uid;
        let place = is_daemon.then(|| self.links_of_daemon.take());
        if let Some(None) = place {
            log::warn!("secretsd has too many links; another one is refused");
            return Ok(());
        }
        let peer = Peer {
            uid: credentials.uid,
            process: sys::peer::pidfd(&stream)?,
            greeted: AtomicBool::new(false),
            _place: place.flatten(),
        };
        let injector = Arc::clone(self);
        Link::serve(stream, move |link, body, fds| {
            injector.handle(&peer, link, body, fds)
        })
    }

    /// secretsd and supervisors may ask for different things: a secretsd that was taken over makes
    /// no mounts.
    fn handle(
        self: &Arc<Self>,
        peer: &Peer,
        link: &Link,
        body: ToInjector,
        fds: Vec<OwnedFd>,
    ) -> Reply {
        let is_daemon = peer.uid == self.daemon_uid;
        let is_root = peer.uid == 0;
        match body {
            ToInjector::Hello { role, .. } => match role {
                // It is tried again and again on a thread of its own; one is enough.
                Role::Daemon if is_daemon && peer.greeted.swap(true, Ordering::AcqRel) => Reply::Ok,
                Role::Daemon if is_daemon => {
                    let reply = self.hello(link.clone());
                    peer.greeted.store(reply == Reply::Ok, Ordering::Release);
                    reply
                }
                Role::Supervisor if is_root => Reply::Ok,
                _ => failed("this user may not have that role"),
            },
            ToInjector::MakeInstance {
                manifest,
                manifest_path,
                uid,
                gid,
                cgroup,
                root,
                container,
                image,
                again,
            } if is_root => match (fds.into_iter().next(), peer.process.try_clone()) {
                (Some(service), Ok(supervisor)) => self.make(Wanted {
                    manifest,
                    manifest_path,
                    uid,
                    gid,
                    cgroup,
                    root,
                    container,
                    image,
                    again,
                    service,
                    supervisor,
                }),
                _ => failed("a pidfd of the service belongs to this message"),
            },
            ToInjector::EndInstance { number } if is_root => {
                self.end(number);
                Reply::Ok
            }
            ToInjector::Instances if is_root => Reply::Instances {
                instances: self.instances.records(),
            },
            ToInjector::Reload {
                manifest,
                manifest_path,
            } if is_root => self.reload(&manifest, &manifest_path),
            ToInjector::Ring { targets } if is_daemon => self.touch(Touch::Ring, targets),
            ToInjector::Unlink { targets } if is_daemon => self.touch(Touch::Unlink, targets),
            ToInjector::Hold { name } if is_daemon => match fds.into_iter().next() {
                Some(fd) => reply(self.held.hold(&name, fd)),
                None => failed("a descriptor belongs to this message"),
            },
            ToInjector::Entries { number, entries } if is_daemon => {
                reply(self.instances.entries(number, entries))
            }
            ToInjector::Unit { unit, pid } if is_daemon => self.unit(&unit, pid),
            ToInjector::Changed { versions, all } if is_daemon => self.changed(versions, all),
            ToInjector::Stopping if is_root => self.stopping(),
            ToInjector::Outcome(outcome) if is_root => self.outcome(outcome),
            _ => failed("this user may not ask for that"),
        }
    }

    /// Without a secretsd there is nothing to be done: its keeper has started it again or gives up.
    fn stopping(&self) -> Reply {
        let Some(link) = self.daemon.link() else {
            return Reply::Ok;
        };
        match ask(&link, &FromInjector::Stopping, &[]) {
            Ok(reply) => reply,
            Err(error) => failed(&error.to_string()),
        }
    }

    fn touch(&self, how: Touch, mut targets: Vec<RingTarget>) -> Reply {
        self.instances.retain_targets(&mut targets);
        let numbers = self
            .bell
            .touch(&self.apart, &self.connections(), how, targets);
        if numbers.is_empty() {
            Reply::Ok
        } else {
            Reply::Late { numbers }
        }
    }

    /// Tells secretsd who is late no more, until the process ends.
    fn tell_who_caught_up(&self, caught_up: &Receiver<u32>) {
        while let Ok(first) = caught_up.recv() {
            let numbers = std::iter::once(first).chain(caught_up.try_iter());
            self.daemon.tell(&FromInjector::CaughtUp {
                numbers: numbers.collect(),
            });
        }
    }
}

fn reply(result: io::Result<()>) -> Reply {
    match result {
        Ok(()) => Reply::Ok,
        Err(error) => failed(&error.to_string()),
    }
}
