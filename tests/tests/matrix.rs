//! Who may see what: service and user x lookup, readdir, getattr, open, read, xattr, stale inode,
//! folder descriptor, control socket.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::net::UnixStream;
use std::process::Command;

use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::probe::Change;
use tests::{Answer, Ask, Pair, Probe};

const WEB: &str = "value of web";
const API: &str = "value of api";

/// Two services of two users, each with a secret of its own, and one that both have.
struct Host {
    web: Probe,
    api: Probe,
    web_user: ClaimedUser,
    api_user: ClaimedUser,
    pair: Pair,
}

fn host() -> Host {
    let pair = Pair::start();
    let (web_user, api_user) = (ClaimedUser::claim(), ClaimedUser::claim());
    pair.set("web_key", WEB);
    pair.set("api_key", API);
    pair.set("shared", "value of both");
    pair.grant("web", &["web_key", "shared"]);
    pair.grant("api", &["api_key", "shared"]);
    let web = pair.probe(
        &Asked::service("web")
            .user(web_user.uid())
            .secrets(&["web_key", "shared"])
            .config(&[("side", "web")]),
    );
    let api = pair.probe(
        &Asked::service("api")
            .user(api_user.uid())
            .secrets(&["api_key", "shared"])
            .config(&[("side", "api")]),
    );
    Host {
        web,
        api,
        web_user,
        api_user,
        pair,
    }
}

fn refused(errno: i32) -> Answer {
    Answer::Errno(errno)
}

#[test]
fn a_service_sees_its_own_names_values_and_sizes() {
    let mut host = host();
    assert_eq!(host.web.list("/secret").names(), ["shared", "web_key"]);
    assert_eq!(host.api.list("/secret").names(), ["api_key", "shared"]);
    assert_eq!(host.web.list("/config").names(), ["side"]);
    assert_eq!(host.web.read("/secret/web_key").text(), WEB);
    assert_eq!(host.api.read("/secret/api_key").text(), API);
    assert_eq!(host.web.read("/config/side").text(), "web");
    assert_eq!(host.api.read("/config/side").text(), "api");
    let uid = host.web_user.uid();
    match host.web.stat("/secret/web_key") {
        Answer::Attributes {
            mode,
            uid: owner,
            size,
            mtime,
            ..
        } => {
            assert_eq!(mode, libc::S_IFREG | 0o400);
            assert_eq!(owner, uid);
            assert_eq!(size, WEB.len() as u64);
            assert!(mtime > 0);
        }
        other => panic!("{other:?}"),
    }
    match host.web.stat("/secret") {
        Answer::Attributes {
            mode, uid: owner, ..
        } => {
            assert_eq!(mode, libc::S_IFDIR | 0o500);
            assert_eq!(owner, uid);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        host.web.ask(Ask::Who),
        Answer::Who(uid, uid, vec![]),
        "user, group and groups of the service"
    );
}

#[test]
fn a_service_sees_no_name_of_another() {
    let mut host = host();
    let number = host.api.service().instance().number;
    let folder = host.web.ask(Ask::OpenFolder("/secret".into())).descriptor();
    for path in [
        "/secret/api_key".to_owned(),
        "/secret/nothing".to_owned(),
        "/secret/.inode".to_owned(),
        format!("/secret/{number}"),
        format!("/secret/../secret/{number}/api_key"),
    ] {
        assert_eq!(host.web.stat(&path), refused(libc::ENOENT), "lookup {path}");
        assert_eq!(host.web.open(&path), refused(libc::ENOENT), "open {path}");
        assert_eq!(host.web.read(&path), refused(libc::ENOENT), "read {path}");
        assert_eq!(host.web.list(&path), refused(libc::ENOENT), "list {path}");
        let xattr = host.web.ask(Ask::Xattr(path.clone()));
        assert_eq!(xattr, refused(libc::ENOENT), "xattr {path}");
    }
    for name in ["api_key", "..", "../api_key"] {
        let answer = host.web.ask(Ask::StatIn(folder, format!("{name}/api_key")));
        assert!(
            matches!(answer.errno(), Some(libc::ENOENT | libc::ENOTDIR)),
            "below the folder's descriptor {name}: {answer:?}"
        );
    }
    // The master mounts are not in a service's namespace, and root alone may go there.
    let views = host.pair.run_folder().join("views/secret");
    let below = views.join(number.to_string()).join("api_key");
    for path in [&views, &below] {
        let answer = host.web.read(path.to_str().unwrap());
        assert!(
            matches!(answer.errno(), Some(libc::EACCES | libc::ENOENT)),
            "{}: {answer:?}",
            path.display()
        );
    }
}

#[test]
fn the_copies_of_the_master_mounts_are_not_in_a_services_namespace() {
    let host = host();
    let pid = host.web.service().instance().pid;
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let run_folder = host.pair.run_folder();
    let copies: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(run_folder.to_str().unwrap()))
        .collect();
    assert_eq!(copies, Vec::<&str>::new());
}

#[test]
fn another_user_in_the_same_namespace_sees_nothing() {
    let host = host();
    let stranger = ClaimedUser::claim().uid();
    let service = host.web.service();
    for words in [
        ["ls", "/secret"],
        ["cat", "/secret/web_key"],
        ["stat", "/secret/web_key"],
        ["stat", "/secret/nothing"],
        ["cat", "/config/side"],
        ["ls", "/config"],
    ] {
        let said = run(service.inside(stranger, &words), b"");
        assert_ne!(said.code, 0, "{said}");
        said.says(&["Permission denied"]).hides(WEB);
    }
}

#[test]
fn the_instance_decides_and_not_the_user() {
    // Another service of the same user, and root on the host, hold a folder of web's in hand.
    let host = host();
    let pid = host.web.service().instance().pid;
    let path = format!("/proc/{pid}/root/secret/web_key");
    let twin = host
        .pair
        .file("twin.sh", "cat <&0 >/dev/null; cat \"$1\"\n")
        .display()
        .to_string();
    for uid in [0, host.web_user.uid()] {
        let uid = uid.to_string();
        let mut outside = Command::new("setpriv");
        outside
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
            .args(["/bin/sh", &twin, &path]);
        let said = run(outside, b"").says(&["Permission denied"]).hides(WEB);
        assert_ne!(said.code, 0, "{said}");
    }

    host.pair.set("twins_own", "1");
    host.pair.grant("twin", &["twins_own"]);
    let folder = std::fs::File::open(format!("/proc/{pid}/root/secret")).unwrap();
    let manifest = host.pair.manifest(
        &Asked::service("twin")
            .user(host.web_user.uid())
            .secrets(&["twins_own"])
            .command(&[
                "/bin/sh",
                "-c",
                "ls /proc/self/fd/0/; cat /proc/self/fd/0/web_key",
            ]),
    );
    let mut twin = host
        .pair
        .deploy_command(&["run", manifest.to_str().unwrap()]);
    twin.stdin(folder);
    let output = twin.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
    assert!(
        !String::from_utf8_lossy(&output.stdout).contains(WEB),
        "a service read another's secret through a folder's descriptor"
    );
}

#[test]
fn a_process_that_joined_the_instances_namespace_belongs_to_it() {
    // As `nginx -s reload` or an operator's nsenter: its mountinfo names the instance's folder.
    let host = host();
    let uid = host.web_user.uid();
    let said = run(
        host.web.service().inside(uid, &["cat", "/secret/web_key"]),
        b"",
    );
    assert_eq!(said.ok().out(), WEB);
}

#[test]
fn a_stale_inode_gives_its_own_version_or_nothing() {
    let mut host = host();
    let old = host.web.open("/secret/web_key").descriptor();
    let folder = host.web.ask(Ask::OpenFolder("/secret".into())).descriptor();
    host.pair
        .deploy_with(
            &["secret", "rotate", "web_key", "--file", "-"],
            b"second value",
        )
        .ok();
    assert_eq!(host.web.read("/secret/web_key").text(), "second value");
    assert_eq!(host.web.pread(old).text(), WEB, "what is open stays whole");
    let newest = host
        .web
        .ask(Ask::OpenAt(folder, "web_key".into()))
        .descriptor();
    assert_eq!(host.web.pread(newest).text(), "second value");
    match host.web.stat("/secret/web_key") {
        Answer::Attributes { size, .. } => assert_eq!(size, "second value".len() as u64),
        other => panic!("{other:?}"),
    }

    host.pair.revoke("web", "web_key");
    for descriptor in [old, newest] {
        let answer = host.web.pread(descriptor);
        assert!(
            matches!(answer.errno(), Some(libc::EKEYREVOKED | libc::EIO)),
            "{answer:?}"
        );
    }
    // The other service, and what is left of this one, go on.
    assert_eq!(host.web.read("/secret/shared").text(), "value of both");
    assert_eq!(host.api.read("/secret/shared").text(), "value of both");
}

#[test]
fn a_revoke_of_one_service_leaves_the_other_alone() {
    let mut host = host();
    let held = host.api.open("/secret/shared").descriptor();
    assert_eq!(host.web.read("/secret/shared").text(), "value of both");
    host.pair.revoke("web", "shared");
    assert_eq!(host.web.read("/secret/shared"), refused(libc::ENOENT));
    assert_eq!(host.api.read("/secret/shared").text(), "value of both");
    assert_eq!(host.api.pread(held).text(), "value of both");
}

#[test]
fn a_deleted_secret_is_gone_for_everyone() {
    let mut host = host();
    let held = host.api.open("/secret/shared").descriptor();
    host.pair
        .deploy(&["secret", "delete", "shared", "--yes"])
        .ok();
    assert_eq!(host.web.read("/secret/shared"), refused(libc::ENOENT));
    assert_eq!(host.api.list("/secret").names(), ["api_key"]);
    let answer = host.api.pread(held);
    assert!(
        matches!(answer.errno(), Some(libc::EKEYREVOKED | libc::EIO)),
        "{answer:?}"
    );
}

#[test]
fn a_view_cannot_be_changed_by_anyone() {
    let mut host = host();
    let fine = [
        libc::EROFS,
        libc::EPERM,
        libc::EACCES,
        libc::ENOTSUP,
        libc::ENODATA,
    ];
    for path in ["/secret/web_key", "/config/side"] {
        for change in Change::ALL {
            let answer = host.web.ask(Ask::Change(change, path.into()));
            assert!(
                answer.errno().is_some_and(|errno| fine.contains(&errno)),
                "{change:?} of {path} by its owner: {answer:?}"
            );
        }
    }
    // A read-only mount is what git and redis understand (consumers.md 10).
    let create = host
        .web
        .ask(Ask::Change(Change::Create, "/secret/web_key".into()));
    assert!(
        matches!(create.errno(), Some(libc::EROFS | libc::EACCES)),
        "{create:?}"
    );
    let service = host.web.service();
    let as_root = run(service.inside(0, &["touch", "/secret/new"]), b"");
    assert_ne!(as_root.code, 0);
    as_root.says(&["Read-only file system"]);
    assert_eq!(host.web.read("/secret/web_key").text(), WEB);
    assert_eq!(host.web.list("/secret").names(), ["shared", "web_key"]);
}

#[test]
fn extended_attributes_are_none() {
    let mut host = host();
    for path in ["/secret/web_key", "/secret", "/config/side"] {
        let answer = host.web.ask(Ask::Xattr(path.into()));
        assert!(
            matches!(answer.errno(), Some(libc::ENODATA | libc::EOPNOTSUPP)),
            "getxattr {path}: {answer:?}"
        );
        let answer = host.web.ask(Ask::Xattrs(path.into()));
        assert!(
            answer == Answer::Bytes(vec![]) || answer == refused(libc::EOPNOTSUPP),
            "listxattr {path}: {answer:?}"
        );
    }
}

#[test]
fn the_control_socket_is_closed_to_services_and_strangers() {
    let mut host = host();
    let control = host.pair.run_folder().join("control.sock");
    let inject = host.pair.run_folder().join("inject.sock");
    for socket in [&control, &inject] {
        for probe in [&mut host.web, &mut host.api] {
            let answer = probe.ask(Ask::Connect(socket.to_str().unwrap().into()));
            assert!(
                matches!(
                    answer.errno(),
                    Some(libc::EACCES | libc::ENOENT | libc::EPIPE | libc::ECONNRESET)
                ) || answer == Answer::Bytes(vec![]),
                "{}: {answer:?}",
                socket.display()
            );
        }
    }
    // The folder's permissions are not the only fence: with them out of the way, the credentials
    // of the peer decide, before a byte of his is read.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o666)).unwrap();
    let answer = host.web.ask(Ask::Connect(control.to_str().unwrap().into()));
    match &answer {
        Answer::Bytes(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            assert!(
                !text.contains("web_key") && !text.contains("api_key"),
                "names are shown to a service: {text}"
            );
        }
        Answer::Errno(_) => {}
        other => panic!("{other:?}"),
    }
    let mut client = Command::new("setpriv");
    let uid = host.api_user.uid().to_string();
    let program = host.pair.for_services("deploy");
    client
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
        .arg(program)
        .args(["secret", "list"])
        .env("DEPLOY_RUN_DIR", host.pair.run_folder());
    let said = run(client, b"");
    assert_eq!(said.code, 3, "{said}");
}

#[test]
fn a_flood_of_strangers_does_not_stop_the_control_socket() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = host();
    let control = host.pair.run_folder().join("control.sock");
    std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o666)).unwrap();
    let stranger = ClaimedUser::claim().uid().to_string();
    let probe = host.pair.for_services("probe");
    let mut flood: Vec<_> = (0..4)
        .map(|_| {
            Command::new("setpriv")
                .args(["--reuid", &stranger, "--regid", &stranger])
                .args(["--clear-groups", "--"])
                .arg(&probe)
                .arg("flood")
                .arg(&control)
                .spawn()
                .unwrap()
        })
        .collect();
    for _ in 0..20 {
        host.pair.deploy(&["secret", "list"]).ok();
    }
    for one in &mut flood {
        one.kill().unwrap();
        one.wait().unwrap();
    }
    host.pair.deploy(&["status"]).ok();
}

#[test]
fn a_client_that_sends_and_never_reads_stops_nobody() {
    use std::io::Write as _;
    let host = host();
    let control = host.pair.run_folder().join("control.sock");
    let mut silent = UnixStream::connect(&control).unwrap();
    silent
        .set_write_timeout(Some(std::time::Duration::from_millis(200)))
        .unwrap();
    let call = b"{\"method\":\"io.deploy.Secrets.List\",\"parameters\":{}}\0";
    for _ in 0..20_000 {
        if silent.write_all(call).is_err() {
            break;
        }
    }
    for _ in 0..20 {
        host.pair.deploy(&["secret", "list"]).ok();
    }
}

#[test]
fn a_sealed_store_gives_enokey_and_no_empty_file() {
    let mut host = host();
    let held = host.web.open("/secret/web_key").descriptor();
    assert_eq!(host.web.pread(held).text(), WEB);
    host.pair.deploy(&["seal"]).ok();
    assert_eq!(host.web.read("/secret/web_key"), refused(libc::ENOKEY));
    assert_eq!(host.web.pread(held), refused(libc::ENOKEY));
    assert_eq!(host.web.read("/config/side"), refused(libc::ENOKEY));
    host.pair.deploy(&["secret", "get", "web_key"]).code(5);
    host.pair.deploy(&["unseal"]).ok();
    assert_eq!(host.web.read("/secret/web_key").text(), WEB);
    assert_eq!(host.web.read("/config/side").text(), "web");
}
