//! The process that `deploy run` starts: its surroundings, its signals, and its end.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use rustix::process::Signal;
use tests::claim::ClaimedUser;
use tests::command::{run, through};
use tests::manifest::Asked;
use tests::traces::{cgroup_root, signal};
use tests::{Answer, Ask, OwnPlace, Pair, Service, Terminal, process, wait};

/// A service that is a shell script.
fn script(text: &str) -> Asked {
    Asked::service("web").command(&["/bin/sh", "-c", text])
}

/// The next line of a service, as a process's number.
#[track_caller]
fn pid_line(service: &mut Service) -> i32 {
    service.line().trim().parse().unwrap()
}

/// Whether cgroup v2 is there for us.
fn cgroups_can_be_made() -> bool {
    let Some(root) = cgroup_root() else {
        return false;
    };
    let folder = root.join(format!("deploy-tests-{}", std::process::id()));
    let made = std::fs::create_dir(&folder).is_ok();
    let _ = std::fs::remove_dir(folder);
    made
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_environment_is_the_promised_one_and_nothing_else() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let uid = user.uid();
    let file = pair.manifest(&script("exec env").user(uid));
    let mut command = pair.deploy_command(&["run", file.to_str().unwrap()]);
    command
        .envs([("LEAK", "1"), ("LD_LIBRARY_PATH", "/nowhere")])
        .envs([
            ("TERM", "vt100"),
            ("LANG", "de_DE.UTF-8"),
            ("HOME", "/root"),
        ]);
    let said = run(command, b"").ok();
    let expected = format!(
        "DEPLOY_SERVICE=web\nHOME=/\nLANG=de_DE.UTF-8\nLOGNAME={uid}\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         PWD=/\nSHELL=/bin/sh\nTERM=vt100\nUSER={uid}"
    );
    // PWD is the shell's own.
    assert_eq!(lines(&said.out()), lines(&expected));

    let file = pair.manifest(&Asked::service("web").command(&["env"]));
    let mut command = pair.deploy_command(&["run", file.to_str().unwrap()]);
    command.env_remove("TERM").env_remove("LANG");
    let said = run(command, b"").ok();
    let expected = "DEPLOY_SERVICE=web\nHOME=/root\nLANG=C.UTF-8\nLOGNAME=root\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
         SHELL=/bin/sh\nUSER=root";
    assert_eq!(lines(&said.out()), lines(expected));
}

#[test]
fn it_starts_in_the_root_folder_with_three_descriptors_and_no_signal_blocked() {
    let pair = Pair::start();
    let program = pair.for_services("probe");
    let asked = Asked::service("web").command(&[program.to_str().unwrap(), "serve"]);
    let file = pair.manifest(&asked);
    let deploy = pair.deploy_command(&["run", file.to_str().unwrap()]);
    let inheriting = "cd /tmp; exec 7</etc/passwd 8>/dev/null; trap '' USR2; exec \"$@\"";
    let service = pair.run_command("web", through(inheriting, &deploy));
    let pid = service.instance().pid;
    // The probe itself opens nothing before it is asked to.
    let mut probe = tests::Probe::of(service);
    assert_eq!(probe.ask(Ask::Ping), Answer::Done);
    let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd, Path::new("/"));
    let mut open: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    open.sort();
    assert_eq!(open, ["0", "1", "2"]);
    for (name, expected) in [("SigBlk", 0), ("SigIgn", 1 << (libc::SIGPIPE - 1))] {
        let mask = process::status(pid, name).unwrap();
        let mask = u64::from_str_radix(&mask, 16).unwrap();
        // The probe is a Rust program, which ignores SIGPIPE by itself.
        assert_eq!(mask & !(1 << (libc::SIGPIPE - 1)), 0, "{name}");
        assert_eq!(mask | expected, expected, "{name}");
    }
    let own = process::namespace(pid, "mnt");
    assert!(own.is_some());
    assert_ne!(own, process::namespace(probe.service().supervisor(), "mnt"));
    assert_ne!(own, process::namespace(1, "mnt"));
    probe.end().ok();
}

#[test]
fn it_runs_as_its_user_with_all_groups_of_that_user() {
    let pair = Pair::start();
    let (user, extra) = (ClaimedUser::claim(), ClaimedUser::claim());
    let (uid, gid) = (user.uid(), extra.uid());
    // A user of the host, for the supervisor alone: nothing of the host changes.
    let with_ours = |name: &str, more: String| {
        let all = std::fs::read_to_string(format!("/etc/{name}")).unwrap() + &more;
        pair.file(name, all).display().to_string()
    };
    let users = with_ours("passwd", format!("app:x:{uid}:{uid}::/srv/app:/bin/bash\n"));
    let groups = with_ours("group", format!("app:x:{uid}:\nextra:x:{gid}:app\n"));
    let script = format!(
        "exec unshare --mount /bin/sh -c 'mount --bind {users} /etc/passwd && \
         mount --bind {groups} /etc/group && exec \"$@\"' sh \"$@\""
    );
    let program = pair.for_services("probe");
    let asked = Asked::service("web")
        .with("user", serde_json::json!("app"))
        .command(&[program.to_str().unwrap(), "serve"]);
    let file = pair.manifest(&asked);
    let deploy = pair.deploy_command(&["run", file.to_str().unwrap()]);
    let mut probe = tests::Probe::of(pair.run_command("web", through(&script, &deploy)));
    match probe.ask(Ask::Who) {
        Answer::Who(got, group, mut groups) => {
            groups.retain(|one| *one != uid);
            assert_eq!((got, group, groups), (uid, uid, vec![gid]));
        }
        other => panic!("{other:?}"),
    }
    let variables = probe.ask(Ask::Environment).names();
    for variable in ["USER=app", "LOGNAME=app", "HOME=/srv/app"] {
        assert!(variables.contains(&variable.to_owned()), "{variables:?}");
    }
    probe.end().ok();

    let asked = Asked::service("web").with("user", serde_json::json!(format!("{uid}:{gid}")));
    let mut probe = pair.probe(&asked);
    assert_eq!(probe.ask(Ask::Who), Answer::Who(uid, gid, vec![]));
}

#[test]
fn it_has_a_cgroup_of_its_own_which_goes_with_it() {
    let pair = Pair::start();
    let mut service = pair.run(&script("sleep infinity & echo $!; wait"));
    let child = pid_line(&mut service);
    let instance = service.instance();
    let own = process::cgroup(instance.pid).unwrap();
    let callers = process::cgroup(service.supervisor()).unwrap();
    if !cgroups_can_be_made() {
        assert_eq!(own, callers);
        return;
    }
    assert_ne!(own, callers);
    assert_eq!(instance.record["cgroup"].as_str(), Some(own.as_str()));
    assert_eq!(process::cgroup(child), Some(own.clone()), "its children");
    let folder = cgroup_root().unwrap().join(own.trim_start_matches('/'));
    let members = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap();
    assert_eq!(members.lines().count(), 2, "nobody else: {members}");
    service.signal(Signal::TERM);
    service.wait().code(143);
    assert!(!folder.exists(), "{} stays", folder.display());
}

#[test]
fn ctrl_c_at_the_terminal_reaches_the_service_once() {
    let pair = Pair::start();
    let service = "trap 'echo inter''rupted' INT; cut -d' ' -f1,5,8 /proc/$$/stat; \
        while :; do read word && echo \"got-$word\"; [ \"$word\" != end ] || exit 7; done";
    let file = pair.manifest(&script(service));
    // As under a shell: what comes after reads from the same terminal.
    let shell = "\"$@\"; echo \"code-$?\"; read word; echo \"again-$word\"";
    let deploy = pair.deploy_command(&["run", file.to_str().unwrap()]);
    let mut terminal = Terminal::start(through(shell, &deploy));
    let numbers = wait::until("the service's numbers", || {
        let screen = terminal.screen();
        let line = screen.lines().next()?.to_owned();
        screen.contains('\n').then_some(line)
    });
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1], "it leads a process group");
    assert_eq!(numbers[1], numbers[2], "which is in the foreground");
    for round in 1..=10 {
        terminal.press(0x03);
        terminal.shows("interrupted", round);
        terminal.type_line("ping");
        terminal.shows("got-ping", round);
        assert_eq!(terminal.screen().matches("interrupted").count(), round);
    }
    terminal.type_line("end");
    terminal.shows("code-7", 1);
    terminal.type_line("shell");
    terminal.shows("again-shell", 1);
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
}

#[test]
fn signals_to_the_supervisor_reach_the_service_once_each() {
    let pair = Pair::start();
    let text = "for name in HUP USR1 USR2; do trap \"echo $name\" $name; done; \
        trap 'echo TERM; exit 5' TERM; sleep infinity & echo ready; while :; do wait $!; done";
    let mut service = pair.run(&script(text).with("restart", "always".into()));
    assert_eq!(service.line(), "ready");
    // One that came twice would stand where the next one is expected.
    for _ in 0..10 {
        for (sent, name) in [
            (Signal::HUP, "HUP"),
            (Signal::USR1, "USR1"),
            (Signal::USR2, "USR2"),
        ] {
            service.signal(sent);
            assert_eq!(service.line(), name);
        }
    }
    service.signal(Signal::TERM);
    assert_eq!(service.line(), "TERM");
    let ended = service.wait().code(5);
    assert_eq!(
        ended.out(),
        "",
        "nothing came after, no second start either"
    );
    pair.leaves_nothing();
}

#[test]
fn an_orphan_that_ends_is_no_zombie() {
    let pair = Pair::start();
    let mut service = pair.run(&script("(true & echo $!); exec sleep infinity"));
    let orphan = pid_line(&mut service);
    process::goes(orphan);
    assert!(process::runs(service.instance().pid));
}

#[test]
fn what_it_started_ends_with_it_also_in_another_session() {
    let pair = Pair::start();
    let text = "sleep infinity & echo $!; setsid sleep infinity & echo $!; exit 3";
    let mut service = pair.run(&script(text));
    let children = [pid_line(&mut service), pid_line(&mut service)];
    service.wait().code(3);
    for child in children {
        assert_eq!(process::stat(child), None, "when `deploy run` has returned");
    }
    pair.leaves_nothing();
}

#[test]
fn a_service_ends_when_its_supervisor_is_killed() {
    let pair = Pair::start();
    let place = OwnPlace::new("killed");
    let target = place.join("secret");
    let text = "sleep infinity & echo $!; setsid sleep infinity & echo $!; wait";
    let asked = script(text)
        .with("targets", serde_json::json!({"secret": target}))
        .with("restart", "always".into());
    let mut service = pair.run(&asked);
    let children = [pid_line(&mut service), pid_line(&mut service)];
    let instance = service.instance();
    assert!(Path::new(&target).exists());
    signal(service.supervisor(), Signal::KILL, wait::LONG);
    for pid in children.into_iter().chain([instance.pid]) {
        process::goes(pid);
    }
    let record = pair
        .run_folder()
        .join(format!("instances/{}", instance.number));
    wait::until("the instance to go from the registry", || {
        (!record.exists()).then_some(())
    });
    wait::until("the folder that was made to go", || {
        (!place.path().exists()).then_some(())
    });
    assert_eq!(service.wait().code, 137);
    assert_eq!(
        pair.deploy(&["ps", "--json"]).ok().json(),
        serde_json::json!([])
    );
    pair.leaves_nothing();
}

#[test]
fn another_command_can_be_run_in_place_of_the_manifests() {
    let pair = Pair::start();
    pair.set("db_password", "the value");
    pair.grant("web", &["db_password"]);
    let asked = script("echo not this; exit 1").secrets(&["db_password"]);
    let file = pair.manifest(&asked);
    let words = [
        "run",
        file.to_str().unwrap(),
        "--",
        "cat",
        "/secret/db_password",
    ];
    assert_eq!(pair.deploy(&words).ok().out(), "the value");
    // What stands behind `--` is never an option of deploy's own, and words stay words.
    let words = [
        "run",
        file.to_str().unwrap(),
        "--",
        "printf",
        "%s|",
        "--json",
        "a b",
        "*",
    ];
    assert_eq!(pair.deploy(&words).ok().out(), "--json|a b|*|");
    // A path is taken from the caller's folder, though the service starts in another one.
    std::os::unix::fs::symlink("/bin/echo", pair.folder().join("own-echo")).unwrap();
    let words = ["run", file.to_str().unwrap(), "--", "./own-echo", "here"];
    assert_eq!(pair.deploy(&words).ok().out(), "here\n");
}

#[test]
fn only_root_runs_and_stops_services() {
    let pair = Pair::start();
    let file = pair.manifest(&script("true"));
    let deploy = pair.for_services("deploy");
    let stranger = ClaimedUser::claim().uid().to_string();
    for words in [
        vec!["run", file.to_str().unwrap()],
        vec!["ps"],
        vec!["stop", "web"],
    ] {
        let mut command = std::process::Command::new("setpriv");
        command
            .args([
                "--reuid",
                &stranger,
                "--regid",
                &stranger,
                "--clear-groups",
                "--",
            ])
            .arg(&deploy)
            .args(&words)
            .env("DEPLOY_RUN_DIR", pair.run_folder());
        run(command, b"").code(3).says(&["root"]);
    }
}
