//! What each of the three programs may not do, seen from outside while they run.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Pair, process};

/// Whether a process holds `text` anywhere in its memory.
fn holds(pid: i32, text: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut chunk = vec![0; 1 << 20];
    let mut looked = 0_u64;
    let mut found = false;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next().unwrap(), words.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (mut at, to) = (number(from), number(to));
        // What is not readable, or not memory ([vvar]), cannot be read here either.
        while mode.starts_with('r') && at < to {
            let length = chunk.len().min((to - at) as usize);
            let Ok(count) = memory.read_at(&mut chunk[..length], at) else {
                break;
            };
            looked += count as u64;
            found |= chunk[..count].windows(text.len()).any(|part| part == text);
            if count <= text.len() {
                break;
            }
            // The next chunk begins so that nothing is missed between the two.
            at += (count
                - if at + (count as u64) < to {
                    text.len()
                } else {
                    0
                }) as u64;
        }
    }
    assert!(looked > 100_000, "the memory of {pid} was not looked at");
    found
}

/// A value that nothing else on the host is.
fn value(salt: &str) -> String {
    let mut random = [0; 16];
    std::io::Read::read_exact(&mut File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{salt}-{hex}-{salt}")
}

#[test]
fn secretsd_has_no_right_at_all_and_the_process_apart_no_more() {
    let pair = Pair::start();
    let pid = pair.secretsd();
    has_no_right(&pair, pid);
    has_no_right(&pair, apart(pid));
    let state = pair.state().metadata().unwrap();
    assert_eq!((state.mode() & 0o7777, state.uid()), (0o700, pair.uid()));
}

#[test]
fn a_process_apart_has_no_descriptor_but_its_socket() {
    let pair = Pair::start();
    let injector = *pair.traces().running("deploy-inject").last().unwrap();
    for pid in [pair.secretsd(), injector].map(apart) {
        let of = |number: &str| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
        let socket = of("0");
        let mut others = 0;
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
            let number = entry.unwrap().file_name().into_string().unwrap();
            if !["1", "2"].contains(&number.as_str()) {
                assert_eq!(of(&number), socket, "descriptor {number}");
                others += 1;
            }
        }
        assert!(others > 0);
    }
}

/// The process that makes calls for a program.
fn apart(pid: i32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn has_no_right(pair: &Pair, pid: i32) {
    let line = |name: &str| process::status(pid, name).unwrap();
    let uid = pair.uid();
    assert_eq!(line("Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(line("Gid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(line("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    assert_eq!(line("NoNewPrivs"), "1");
    assert_eq!(line("Seccomp"), "2", "a filter");
    let mut threads = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // One may have ended meanwhile.
        let status = thread.unwrap().path().join("status");
        if let Ok(text) = std::fs::read_to_string(status) {
            assert!(text.contains("Seccomp:\t2"), "{text}");
            threads += 1;
        }
    }
    assert!(threads > 1, "on every thread");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "no core dump");
    // Not dumpable: /proc/PID is root's, so that no process of its own uid can read its memory.
    assert_eq!(
        std::fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(),
        0
    );
    assert_ne!(process::namespace(pid, "net"), process::namespace(1, "net"));
    let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    let names: Vec<&str> = devices
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    assert_eq!(names, ["lo"], "an empty network");
}

/// Its threads, each with its lines of /proc/PID/task/TID/status.
fn threads(pid: i32) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One may have ended meanwhile.
    let status = threads.map(|thread| thread.unwrap().path().join("status"));
    status
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect()
}

#[test]
fn the_injector_has_few_rights_and_no_way_to_more() {
    let pair = Pair::start();
    let pid = pair.injector();
    let all = threads(pid);
    assert!(all.len() > 1, "on every thread");
    // SYS_ADMIN, SYS_PTRACE, SYS_CHROOT, KILL, DAC_OVERRIDE.
    let few = "00000000002c0022";
    for status in all {
        for line in [
            "CapInh:\t0000000000000000",
            &format!("CapPrm:\t{few}"),
            &format!("CapEff:\t{few}"),
            &format!("CapBnd:\t{few}"),
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.lines().any(|one| one == line), "{line}:\n{status}");
        }
    }
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "no core dump");
    // It works all the same, and again as the successor of one that was killed.
    let user = ClaimedUser::claim();
    pair.set("db_password", "x");
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"]);
    let mut before = pair.probe(&asked);
    let next = pair.kill(Pair::injector);
    let mut after = pair.probe(&asked);
    assert_eq!(before.read("/secret/db_password").text(), "x");
    assert_eq!(after.read("/secret/db_password").text(), "x");
    assert_eq!(process::status(next, "CapEff").as_deref(), Some(few));
    // The keeper has what it needs to give; a service has what root or its user has.
    assert_eq!(
        process::status(after.service().instance().pid, "NoNewPrivs").as_deref(),
        Some("0")
    );
}

#[test]
fn keeper_injector_and_supervisor_never_hold_a_value() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let (value, next) = (value("first"), value("next"));
    pair.set("db_password", &value);
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web").user(user.uid()).with(
        "secrets",
        serde_json::json!([{"name": "db_password", "env": "PASSWORD"}]),
    );
    let text = "cat /secret/db_password; echo; echo $PASSWORD; read go; cat /secret/db_password; echo; exec sleep infinity";
    let mut web = pair.run(&asked.command(&["/bin/sh", "-c", text]));
    assert_eq!(web.line(), value);
    assert_eq!(web.line(), value);
    pair.set("db_password", &next);
    web.write("go");
    assert_eq!(web.line(), next);
    let ours = pair.traces().running("deploy-inject");
    assert!(ours.len() >= 2, "keeper and injector: {ours:?}");
    for pid in ours.into_iter().chain([web.supervisor()]) {
        for value in [&value, &next] {
            assert!(!holds(pid, value.as_bytes()), "process {pid} holds a value");
        }
    }
    // The way of looking works: the service has it in its environment.
    assert!(holds(web.instance().pid, value.as_bytes()));
    pair.deploy(&["stop", "web"]).ok();
}

#[test]
fn secretsd_forgets_values_as_soon_as_they_are_served() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let (first, second, third) = (value("one"), value("two"), value("three"));
    pair.set("db_password", &first);
    let fields = format!(r#"{{"field":"{third}"}}"#);
    pair.deploy_with(
        &["secret", "set", "fields", "--from-json", "-"],
        fields.as_bytes(),
    )
    .ok();
    pair.grant("web", &["db_password", "fields"]);
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password", "fields"]);
    let mut web = pair.probe(&asked);
    assert_eq!(web.read("/secret/db_password").text(), first);
    assert_eq!(web.read("/secret/fields/field").text(), third);
    pair.set("db_password", &second);
    assert_eq!(web.read("/secret/db_password").text(), second);
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        second
    );
    pair.deploy(&["secret", "rollback", "db_password", "1"])
        .ok();
    pair.deploy(&["key", "rotate"]).ok();
    let pid = pair.secretsd();
    for (value, what) in [(&first, "first"), (&second, "second"), (&third, "field")] {
        assert!(
            !holds(pid, value.as_bytes()),
            "secretsd still holds the {what} value"
        );
    }
    // The way of looking works: it knows names.
    assert!(holds(pid, b"db_password"));
}

#[test]
fn secretsd_forgets_what_came_through_the_operators_tree_too() {
    let pair = Pair::start();
    let value = value("ctl");
    let ctl = pair.run_folder().join("secrets/ctl");
    std::fs::write(&ctl, format!("set db_password {value}\n")).unwrap();
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        value
    );
    // The next command takes the place of this one, as the buffer of a connection is used again.
    std::fs::write(&ctl, format!("set other {}\n", "x".repeat(4096))).unwrap();
    assert!(
        !holds(pair.secretsd(), value.as_bytes()),
        "secretsd still holds the value"
    );
}

#[test]
fn a_passphrase_is_forgotten_when_it_has_unsealed() {
    let mut pair = Pair::prepare();
    let passphrase = value("passphrase");
    let command = pair.init_command(&["--passphrase-file", "-"]);
    run(command, passphrase.as_bytes()).ok();
    pair.up();
    pair.deploy_with(&["unseal", "--passphrase-file", "-"], b"wrong")
        .code(3);
    pair.deploy_with(&["unseal", "--passphrase-file", "-"], passphrase.as_bytes())
        .ok();
    assert!(!holds(pair.secretsd(), passphrase.as_bytes()));
}

#[test]
fn a_sealed_secretsd_holds_no_private_half() {
    let pair = Pair::start();
    let file = std::fs::read_to_string(pair.state().join("file-slot.key")).unwrap();
    let private = file
        .lines()
        .find(|line| line.starts_with("AGE-SECRET-KEY"))
        .unwrap();
    assert!(
        !holds(pair.secretsd(), private.as_bytes()),
        "while unsealed"
    );
    pair.deploy(&["key", "rotate"]).ok();
    pair.deploy(&["seal"]).ok();
    assert!(!holds(pair.secretsd(), private.as_bytes()), "while sealed");
}

#[test]
fn secretsds_user_cannot_take_all_threads_of_the_injector() {
    let pair = Pair::start();
    let uid = pair.uid().to_string();
    // A link beyond the few that there are may be closed before it has sent its byte.
    let script = "import select, socket, sys\n\
        poll, all = select.poll(), []\n\
        for _ in range(40):\n    \
        one = socket.socket(socket.AF_UNIX)\n    \
        one.connect(sys.argv[1])\n    \
        try: one.send(b'\\x10')\n    \
        except OSError: pass\n    \
        poll.register(one, select.POLLRDHUP)\n    \
        all.append(one)\n\
        closed = set()\n\
        while len(closed) < 32:\n    \
        for fd, _ in poll.poll():\n        \
        closed.add(fd)\n        \
        poll.unregister(fd)\n\
        print(len(closed))\n";
    let socket = pair.run_folder().join("inject.sock");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
        .args(["/usr/bin/python3", "-c", script])
        .arg(socket);
    run(command, b"").ok();
    pair.set("db_password", "goes on");
}
