//! What a manifest says of single secrets: variables, permissions, owners, what may be missing; and
//! how long a start waits.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::{Answer, Ask, OwnPlace, Pair, wait};

const VALUE: &str = "a-value-nobody-may-see";

fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair
}

fn web(secrets: Value) -> Asked {
    Asked::service("web").with("secrets", secrets)
}

#[test]
fn env_file_is_the_path_under_exactly_that_name() {
    let pair = pair();
    pair.set_fields("tls", r#"{"cert.pem":"c","key.pem":"k"}"#, &[])
        .ok();
    pair.grant("web", &["tls"]);
    let asked = web(json!([
        {"name": "db_password", "env_file": "POSTGRES_PASSWORD_FILE"},
        {"name": "tls", "env_file": "TLS_DIR"},
    ]))
    .with("targets", json!({"secret": "/run/secrets"}));
    let shell = "env | grep -c -e _FILE= -e TLS_DIR=; cat $POSTGRES_PASSWORD_FILE; cat $TLS_DIR/key.pem; \
                 echo; echo $POSTGRES_PASSWORD_FILE";
    let said = pair
        .run_to_end(&asked.command(&["/bin/sh", "-c", shell]))
        .ok();
    assert_eq!(
        said.out(),
        format!("2\n{VALUE}k\n/run/secrets/db_password\n")
    );
}

#[test]
fn a_secret_has_its_own_mode_and_owner() {
    let pair = pair();
    pair.set_fields("tls", r#"{"cert.pem":"c","key.pem":"k"}"#, &[])
        .ok();
    pair.grant("web", &["tls"]);
    let (service, other) = (ClaimedUser::claim(), ClaimedUser::claim());
    let owner = format!("{}:{}", other.uid(), service.uid());
    let asked = web(json!([
        {"name": "db_password", "mode": "0440", "owner": owner},
        {"name": "tls", "owner": other.uid().to_string()},
    ]))
    .user(service.uid());
    let mut web = pair.probe(&asked);
    let mut is = |path: &str| match web.stat(path) {
        Answer::Attributes { mode, uid, gid, .. } => (mode & 0o7777, uid, gid),
        other => panic!("{path}: {other:?}"),
    };
    let (own, theirs) = (service.uid(), other.uid());
    assert_eq!(is("/secret/db_password"), (0o440, theirs, own));
    assert_eq!(is("/secret/tls"), (0o500, theirs, theirs));
    assert_eq!(is("/secret"), (0o500, own, own));
    // Its group may, by the mode; and what is another's alone is not.
    assert_eq!(web.read("/secret/db_password").text(), VALUE);
    assert_eq!(web.read("/secret/tls/key.pem"), Answer::Errno(libc::EACCES));
    // The same after a rotation, and by a secretsd that did not make it.
    pair.set("db_password", "two");
    pair.kill_secretsd();
    let mode = |answer: Answer| match answer {
        Answer::Attributes { mode, uid, .. } => (mode & 0o7777, uid),
        other => panic!("{other:?}"),
    };
    assert_eq!(web.read("/secret/db_password").text(), "two");
    assert_eq!(mode(web.stat("/secret/db_password")), (0o440, theirs));
    let changed = pair.manifest(&asked.clone().config(&[("level", "2")]));
    pair.deploy(&["reload", changed.to_str().unwrap()]).ok();
    assert_eq!(web.read("/config/level").text(), "2");
    web.end().ok();

    let nobody = crate::web(json!([{"name": "db_password", "owner": "no-such-user-here"}]));
    let said = pair.run_to_end(&nobody.command(&["/bin/true"])).code(1);
    said.says(&["no-such-user-here"]);
}

#[test]
fn a_target_shows_the_fields_of_one_secret_at_its_own_place() {
    let pair = pair();
    pair.set_fields("tls", r#"{"cert.pem":"c1","key.pem":"k1"}"#, &[])
        .ok();
    pair.grant("web", &["tls"]);
    let below = OwnPlace::new("fields");
    let target = below.join("web/tls");
    let asked = web(json!([{"name": "tls", "target": target}]));
    let key = format!("{target}/key.pem");
    let mut first = pair.probe(&asked);
    assert_eq!(first.list(&target).names(), ["cert.pem", "key.pem"]);
    assert_eq!(first.read(&key).text(), "k1");
    let held = first.open(&key).descriptor();
    pair.set_fields("tls", r#"{"cert.pem":"c2","key.pem":"k2"}"#, &[])
        .ok();
    assert_eq!(first.pread(held).text(), "k1");
    wait::until("the pair of fields to be let go", || {
        (first.read(&key).text() == "k2").then_some(())
    });
    assert_eq!(first.read("/secret/tls/key.pem").text(), "k2");
    pair.revoke("web", "tls");
    assert_eq!(first.read(&key), Answer::Errno(libc::ENOENT));
    first.pread(held).is_revoked();
    pair.grant("web", &["tls"]);
    assert_eq!(first.read("/secret/tls/key.pem").text(), "k2");
    assert_eq!(first.read(&key).text(), "k2");
    pair.kill_secretsd();
    assert_eq!(first.read(&key).text(), "k2");
    first.end().ok();
    assert!(!below.path().exists(), "what was made for it goes with it");

    // One file cannot be mounted so that a rotation arrives; a link is never followed.
    let single = web(json!([{"name": "db_password", "target": target}]));
    let said = pair.run_to_end(&single.command(&["/bin/true"])).code(1);
    said.says(&["db_password has one value", "targets"]);
    std::fs::create_dir_all(below.join("real")).unwrap();
    std::os::unix::fs::symlink("real", below.join("web")).unwrap();
    let said = pair.run_to_end(&asked.command(&["/bin/true"])).code(1);
    said.says(&["web is a symlink"]);
}

#[test]
fn an_optional_secret_is_there_once_it_is_granted() {
    let pair = pair();
    let asked = web(json!([
        "db_password",
        {"name": "extra", "optional": true, "env": "EXTRA", "env_file": "EXTRA_FILE"},
        {"name": "never", "optional": true},
    ]));
    let mut web = pair.probe(&asked);
    let gone = Answer::Errno(libc::ENOENT);
    assert_eq!(web.list("/secret").names(), ["db_password"]);
    assert_eq!(web.read("/secret/extra"), gone);
    pair.set("extra", "later");
    assert_eq!(web.read("/secret/extra"), gone, "it is not granted yet");
    pair.grant("web", &["extra"]);
    assert_eq!(web.read("/secret/extra").text(), "later");
    assert_eq!(web.list("/secret").names(), ["db_password", "extra"]);
    pair.set("extra", "rotated");
    assert_eq!(web.read("/secret/extra").text(), "rotated");
    pair.revoke("web", "extra");
    assert_eq!(web.read("/secret/extra"), gone);
    web.end().ok();

    // Variables are of the start: there if the file was.
    let shell = ["/bin/sh", "-c", "echo ${EXTRA-unset} ${EXTRA_FILE-unset}"];
    let said = pair.run_to_end(&asked.clone().command(&shell)).ok();
    assert_eq!(said.out(), "unset unset\n");
    pair.grant("web", &["extra"]);
    let said = pair.run_to_end(&asked.clone().command(&shell)).ok();
    assert_eq!(said.out(), "rotated /secret/extra\n");
    // What is not optional is asked for as ever.
    pair.revoke("web", "db_password");
    let said = pair.run_to_end(&asked.command(&shell)).code(3);
    let said = said.says(&["db_password: not granted"]);
    assert!(!said.err().contains("never"), "{said}");
}

#[test]
fn an_optional_secret_that_is_missing_does_not_hold_up_on_change() {
    let pair = pair();
    let script = "trap 'echo told' HUP; echo ready; while :; do sleep 0.05; done";
    let asked = web(json!(["db_password", {"name": "extra", "optional": true}]))
        .with("on_change", json!({"signal": "HUP"}))
        .command(&["/bin/sh", "-c", script]);
    let mut service = pair.run(&asked);
    assert_eq!(service.line(), "ready");
    pair.set("db_password", "two");
    assert_eq!(service.line(), "told");
    service.signal(Signal::TERM);
    service.wait().code(143);
}

#[test]
fn a_start_waits_for_a_grant_as_long_as_the_manifest_says() {
    let pair = pair();
    pair.set("late", "it came");
    let asked = web(json!(["db_password", "late"])).with("wait", json!("30s"));
    let mut service = pair.run(&asked.clone().command(&["/bin/cat", "/secret/late"]));
    let said = || {
        wait::until("what it waits for", || {
            service
                .errors()
                .contains("waiting")
                .then(|| service.errors())
        })
    };
    let said = said();
    assert!(
        said.contains("late: not granted; deploy secret grant web late"),
        "{said}"
    );
    std::thread::sleep(Duration::from_millis(1200));
    pair.grant("web", &["late"]);
    assert_eq!(service.line(), "it came");
    let said = service.errors();
    assert_eq!(said.matches("waiting").count(), 1, "{said}");
    service.wait().code(0);
    // One refusal, however often it was tried.
    let log = pair.deploy(&["audit", "query", "--json"]).ok().out();
    assert_eq!(log.matches("not granted at the start").count(), 1, "{log}");

    pair.revoke("web", "late");
    let start = Instant::now();
    let short = asked
        .clone()
        .with("wait", json!("1s"))
        .command(&["/bin/true"]);
    pair.run_to_end(&short)
        .code(3)
        .says(&["waiting", "late: not granted"]);
    let took = start.elapsed();
    assert!((1..10).contains(&took.as_secs()), "{took:?}");
    let start = Instant::now();
    let none = web(json!(["late"])).command(&["/bin/true"]);
    pair.run_to_end(&none).code(3);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_start_that_waits_ends_by_ctrl_c_and_leaves_nothing() {
    let pair = pair();
    let asked = web(json!(["db_password", "late"]))
        .with("wait", json!("1h"))
        .command(&["/bin/true"]);
    let service = pair.run(&asked);
    wait::until("the wait", || {
        service.errors().contains("waiting").then_some(())
    });
    service.signal(Signal::INT);
    service.wait().code(130);
    let left = || std::fs::read_dir(pair.run_folder().join("instances")).unwrap();
    let names = || {
        left()
            .map(|one| one.unwrap().file_name())
            .filter(|name| !name.to_string_lossy().starts_with('.'))
    };
    assert_eq!(names().count(), 0);

    // Whoever has typed `deploy run --detach` gives up: so does what he started.
    let file = pair.manifest(&asked);
    let detached = pair.run_command(
        "web",
        pair.deploy_command(&["run", "--detach", file.to_str().unwrap()]),
    );
    wait::until("the wait", || {
        detached.errors().contains("waiting").then_some(())
    });
    detached.signal(Signal::INT);
    detached.wait().code(130);
    wait::until("no supervisor to be left", || {
        let ps = pair.deploy(&["ps", "--json"]).ok().out();
        (!ps.contains("web")).then_some(())
    });
}

#[test]
fn a_start_waits_for_an_unseal() {
    let pair = Pair::start_sealed("let me in");
    pair.unseal("let me in").ok();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair.seal();
    let asked = web(json!(["db_password"])).with("wait", json!("30s"));
    let mut service = pair.run(&asked.command(&["/bin/cat", "/secret/db_password"]));
    wait::until("the wait", || {
        service.errors().contains("waiting").then_some(())
    });
    assert!(
        service.errors().contains("deploy unseal"),
        "{}",
        service.errors()
    );
    pair.unseal("let me in").ok();
    assert_eq!(service.line(), VALUE);
    service.wait().code(0);
}

#[test]
fn the_injector_s_side_never_holds_a_value_of_a_variable() {
    let pair = pair();
    let asked = web(json!([{"name": "db_password", "env": "DB_PASSWORD"}]));
    let user = ClaimedUser::claim();
    let mut web = pair.probe(&asked.user(user.uid()));
    let answer = web.ask(Ask::Environment);
    assert!(format!("{answer:?}").contains("DB_PASSWORD"), "{answer:?}");
    // All of what our programs that run have in memory, but for secretsd.
    let supervisor = web.service().supervisor();
    let own = [supervisor]
        .into_iter()
        .chain(pair.traces().running("deploy-inject"));
    let mut looked = 0;
    for pid in own {
        assert!(!holds(pid, VALUE), "process {pid} holds the value");
        looked += 1;
    }
    assert!(looked >= 3, "{looked}");
    let first = web.service().instance().pid;
    assert!(holds(first, VALUE), "the search finds what is there");
    web.end().ok();
}

#[test]
fn a_target_is_attached_again_after_a_lost_connection_and_costs_the_rest_nothing() {
    let pair = pair();
    pair.set_fields("tls", r#"{"key.pem":"k1"}"#, &[]).ok();
    pair.grant("web", &["tls"]);
    let place = OwnPlace::new("lost");
    let target = place.join("tls");
    let asked = web(json!(["db_password", {"name": "tls", "target": target}]));
    let mut web = pair.probe(&asked);
    let key = format!("{target}/key.pem");
    let lose = |web: &tests::Probe| {
        let pid = web.service().instance().pid;
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let at = |line: &&str| line.split(' ').nth(4) == Some("/secret");
        let line = mounts.lines().find(at).unwrap();
        let minor = line
            .split(' ')
            .nth(2)
            .unwrap()
            .trim_start_matches("0:")
            .to_owned();
        let script = format!("mount -t fusectl none /mnt && echo 1 >/mnt/{minor}/abort");
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "/bin/sh", "-c", &script]);
        tests::command::run(command, b"").ok();
    };
    let there = |value: &str| Answer::Bytes(value.into());
    lose(&web);
    wait::until("both to be there again", || {
        let both = web.read(&key) == there("k1") && web.read("/secret/db_password") == there(VALUE);
        both.then_some(())
    });
    pair.revoke("web", "tls");
    lose(&web);
    wait::until("the view to be there again", || {
        (web.read("/secret/db_password") == there(VALUE)).then_some(())
    });
    assert!(web.read(&key).errno().is_some());
    web.end().ok();
}

/// Whether a process has these bytes in memory that it can write.
fn holds(pid: i32, text: &str) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        if !rest.starts_with("rw") || to - from > 1 << 28 {
            return false;
        }
        let mut bytes = vec![0; (to - from) as usize];
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        bytes[..read]
            .windows(text.len())
            .any(|at| at == text.as_bytes())
    })
}
