//! Rings that cannot be done in time: the command says so, and they come when that is possible.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use rustix::process::Signal;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Pair, Service, wait};

/// Watches /secret, and says what it hears; it has never looked a name up, so that a ring has to, and
/// needs the folder's lock for it. `lock FILE` has a child hold the lock of /secret: in a
/// getdents(2) into memory that is mapped from a stalled FUSE file of its own, whose server is
/// another child. `unlock` ends both.
const WATCHER: &str = r#"
import ctypes, signal, struct, threading
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init()
libc.inotify_add_watch(fd, b"/secret", 8)
def hear():
    while True:
        data = os.read(fd, 65536)
        while data:
            n = struct.unpack("iIII", data[:16])[3]
            name = data[16:16 + n].rstrip(b"\0").decode()
            data = data[16 + n:]
            if name: print("written", name, flush=True)
def stalled(path, tell):
    dev = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={dev},rootmode=100444,user_id=0,group_id=0".encode()
    assert libc.mount(b"stalled", path.encode(), b"fuse", 0, options) == 0, path
    child = os.fork()
    if child:
        os.close(dev)
        return child
    while True:
        request = os.read(dev, 1 << 20)
        _, opcode, unique = struct.unpack_from("IIQ", request)
        status, out = 0, b""
        if opcode == 26: out = struct.pack("IIIIHHIIHHII24x", 7, 31, 0, 0, 0, 0, 4096, 1, 1, 0, 0, 0)
        elif opcode == 3: out = struct.pack("QII6Q10I", 9, 0, 0, 1, 4096, 8, 0, 0, 0, 0, 0, 0, 0o100444, 1, 0, 0, 0, 4096, 0)
        elif opcode == 14: out = bytes(16)
        elif opcode == 15:
            os.write(tell, b"x")
            continue
        else: status = -errno.ENOSYS
        os.write(dev, struct.pack("IiQ", 16 + len(out), status, unique) + out)
def lock(path):
    told, tell = os.pipe()
    server = stalled(path, tell)
    holder = os.fork()
    if holder == 0:
        area = mmap.mmap(os.open(path, os.O_RDONLY), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        folder = os.open("/secret", os.O_RDONLY | os.O_DIRECTORY)
        buffer = ctypes.addressof(ctypes.c_char.from_buffer(area))
        libc.syscall({"x86_64": 217}.get(os.uname().machine, 61), folder, ctypes.c_void_p(buffer), 4096)
        os._exit(0)
    assert os.read(told, 1) == b"x"
    return [server, holder]
children = []
threading.Thread(target=hear, daemon=True).start()
print("watching", flush=True)
for line in sys.stdin:
    word, *path = line.split()
    if word == "lock": children = lock(*path)
    for child in children if word == "unlock" else []:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(word + "ed", flush=True)
"#;

/// A pair, a service that can hold its folder's lock, and its instance.
fn begin() -> (Pair, Service, u32) {
    let pair = Pair::start();
    pair.set("a", "one");
    pair.grant("web", &["a"]);
    let web = watcher(&pair);
    let number = web.instance().number;
    (pair, web, number)
}

fn watcher(pair: &Pair) -> Service {
    let mut web = pair.run(&Asked::service("web").python(WATCHER).secrets(&["a"]));
    assert_eq!(web.line(), "watching");
    web
}

fn lock(pair: &Pair, web: &mut Service) {
    web.write(&format!("lock {}", pair.file("stalled", "").display()));
    assert_eq!(web.line(), "locked");
}

/// What comes after the lock is free: the answer, and what was to be heard, once or for each change.
#[track_caller]
fn unlock_and_hear(web: &mut Service) {
    web.write("unlock");
    let mut due = vec!["unlocked", "written a"];
    while !due.is_empty() {
        let line = web.line();
        assert!(["unlocked", "written a"].contains(&line.as_str()), "{line}");
        due.retain(|other| *other != line);
    }
}

#[track_caller]
fn is_logged(pair: &Pair, words: &str) {
    wait::until(&format!("{words:?} in the log"), || {
        pair.log_text().contains(words).then_some(())
    });
}

fn not_yet(number: u32) -> String {
    format!("watchers of instance {number} of web could not be told yet")
}

fn at_last(number: u32) -> String {
    format!("watchers of instance {number} of web were told at last")
}

#[test]
fn an_instance_that_cannot_be_rung_is_named_and_rung_when_it_can_be() {
    let (pair, mut web, number) = begin();
    let mut other = watcher(&pair);
    lock(&pair, &mut web);
    pair.set("a", "two");
    // The command has returned: all others have heard, and this one is named.
    assert_eq!(other.line(), "written a");
    assert!(pair.log_text().contains(&not_yet(number)));
    assert!(!pair.log_text().contains(&not_yet(other.instance().number)));
    pair.set("a", "three");
    assert_eq!(other.line(), "written a");
    unlock_and_hear(&mut web);
    is_logged(&pair, &at_last(number));
    // Nothing is left over: the next change is one event more.
    pair.set("a", "four");
    assert_eq!(web.line(), "written a");
}

#[test]
fn an_injector_that_comes_back_rings_what_the_one_before_owed() {
    let (pair, mut web, number) = begin();
    lock(&pair, &mut web);
    pair.set("a", "two");
    assert!(pair.log_text().contains(&not_yet(number)));
    let injector = *pair.traces().running("deploy-inject").last().unwrap();
    // A thread of it waits in the kernel: it ends when the lock is free.
    signal(injector, Signal::KILL, Duration::ZERO);
    unlock_and_hear(&mut web);
    assert_ne!(
        pair.traces().running("deploy-inject").last(),
        Some(&injector)
    );
}

#[test]
fn an_injector_rings_what_it_owes_also_when_secretsd_was_killed_meanwhile() {
    let (pair, mut web, number) = begin();
    lock(&pair, &mut web);
    pair.set("a", "two");
    assert!(pair.log_text().contains(&not_yet(number)));
    let secretsd = pair.secretsd();
    signal(secretsd, Signal::KILL, Duration::ZERO);
    unlock_and_hear(&mut web);
    assert_ne!(pair.secretsd(), secretsd);
}

#[test]
fn a_change_while_the_injector_is_away_is_rung_when_it_is_back() {
    let (pair, mut web, number) = begin();
    let ours = pair.traces().running("deploy-inject");
    signal(ours[0], Signal::STOP, Duration::ZERO);
    signal(*ours.last().unwrap(), Signal::KILL, wait::LONG);
    pair.set("a", "two");
    assert!(pair.log_text().contains(&not_yet(number)));
    signal(ours[0], Signal::CONT, Duration::ZERO);
    assert_eq!(web.line(), "written a");
}
