//! Grants with pins: whoever only names himself `web` is not `web`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use control::inner::{Link, Reply, ToInjector};
use serde_json::{Value, json};
use sys::process::Spawn;
use tests::claim::ClaimedUser;
use tests::command::{run, through};
use tests::manifest::Asked;
use tests::traces::cgroup_root;
use tests::{Answer, Pair};

const VALUE: &str = "a-value-nobody-may-see";

fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair
}

fn grant(pair: &Pair, pins: &[&str]) {
    let words = [&["secret", "grant", "web", "db_password"], pins].concat();
    pair.deploy(&words).ok();
}

fn web() -> Asked {
    Asked::service("web").secrets(&["db_password"])
}

/// A cgroup as systemd would make it for a unit; goes when dropped.
struct Unit {
    slice: PathBuf,
    folder: PathBuf,
}

impl Unit {
    /// `None` where cgroup v2 cannot be written.
    fn new(slice: &str, name: &str) -> Option<Unit> {
        let slice = format!("pins{}-{slice}.slice", std::process::id());
        let slice = cgroup_root()?.join(slice);
        let folder = slice.join(name);
        fs::create_dir_all(&folder).ok()?;
        Some(Unit { slice, folder })
    }

    /// The command, started within the unit.
    fn runs(&self, command: &Command) -> Command {
        let script = format!(
            "echo $$ >{}/cgroup.procs; exec \"$@\"",
            self.folder.display()
        );
        through(&script, command)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let mut folder = self.folder.as_path();
        while folder.starts_with(&self.slice) {
            // A process that has ended leaves its cgroup a moment later.
            let gone = || fs::remove_dir(folder).is_ok().then_some(());
            tests::wait::until("the unit's cgroup to be empty", gone);
            folder = folder.parent().unwrap();
        }
    }
}

#[test]
fn a_pinned_user_is_who_the_process_runs_as() {
    let pair = pair();
    let (own, other) = (ClaimedUser::claim(), ClaimedUser::claim());
    let pin = own.uid().to_string();
    grant(&pair, &["--user", &pin]);
    let asked = |uid: u32| web().with("user", json!(uid.to_string()));
    for refused in [web(), asked(other.uid())] {
        let said = pair.run_to_end(&refused.command(&["/bin/true"])).code(3);
        let said = said.says(&[
            "db_password",
            "pinned to user",
            &pin,
            "this one runs as uid",
        ]);
        said.hides(VALUE);
    }
    let mut service = pair.probe(&asked(own.uid()));
    assert_eq!(service.read("/secret/db_password").text(), VALUE);
    service.end().ok();
    // A name is looked up by secretsd, as few rights as it has.
    grant(&pair, &["--user", "root"]);
    let cat = ["/bin/cat", "/secret/db_password"];
    assert_eq!(pair.run_to_end(&web().command(&cat)).ok().out(), VALUE);
    let said = pair.run_to_end(&asked(own.uid()).command(&cat)).code(3);
    said.says(&["pinned to user root"]);
}

#[test]
fn a_pinned_unit_is_the_one_by_the_cgroup_and_not_by_a_name() {
    let pair = pair();
    grant(&pair, &["--unit", "web-pinned.service"]);
    let asked = web().command(&["/bin/cat", "/secret/db_password"]);
    let file = pair.manifest(&asked);
    let deploy = pair.deploy_command(&["run", file.to_str().unwrap()]);

    let outside = run(pair.deploy_command(&["run", file.to_str().unwrap()]), b"");
    outside.code(3).says(&["pinned to unit web-pinned.service"]);
    let Some(other) = Unit::new("a", "other.service") else {
        eprintln!("no cgroup can be made here: pinned units are tested by their refusal alone");
        return;
    };
    let said = run(other.runs(&deploy), b"").code(3);
    said.says(&["web-pinned.service", "runs in unit other.service"]);
    // Whom a unit's own part of the tree belongs to names what is below as he likes.
    let below = Unit::new("b", "other.service/web-pinned.service").unwrap();
    let said = run(below.runs(&deploy), b"").code(3);
    said.says(&["runs in unit other.service"]);
    drop(below);
    let unit = Unit::new("c", "web-pinned.service").unwrap();
    let right = run(unit.runs(&deploy), b"").ok();
    assert_eq!(right.out(), VALUE);
    let refused = pair.deploy(&["audit", "query", "--json"]).ok().out();
    assert!(refused.contains("not granted at the start"), "{refused}");
}

#[test]
fn a_pinned_image_is_what_root_s_injector_is_told_and_nothing_else() {
    let pair = pair();
    let image = format!("sha256:{}", "5a".repeat(32));
    grant(&pair, &["--image", &image]);
    // No manifest can say it.
    let claims = web().with("image", json!(image)).command(&["/bin/true"]);
    pair.run_to_end(&claims)
        .code(2)
        .says(&["unknown key `image`"]);
    let asked = web().command(&["/bin/true"]);
    let said = pair.run_to_end(&asked).code(3);
    said.says(&["pinned to image", &image, "no image that is known"]);

    // As a container's hook asks for it.
    let manifest = model::Manifest::parse(asked.text().as_bytes(), "web.yaml".as_ref()).unwrap();
    let make = |image: Option<String>| {
        let paused = Spawn::new("/bin/true").new_mount_namespace();
        let paused = paused.start_paused().unwrap();
        let link = Link::connect(&pair.run_folder().join("inject.sock")).unwrap();
        let question = ToInjector::MakeInstance {
            manifest: manifest.clone(),
            manifest_path: "/web.yaml".into(),
            uid: 0,
            gid: 0,
            cgroup: None,
            root: None,
            container: None,
            image,
            again: false,
        };
        let (reply, _) = link.request(&question, &[paused.pidfd()]).unwrap();
        reply
    };
    let other = make(Some(format!("sha256:{}", "5b".repeat(32))));
    let Reply::Refused { missing, .. } = &other else {
        panic!("{other:?}");
    };
    assert!(missing[0].reason.contains("runs in image sha256:5b5b"));
    let right = make(Some(image));
    assert!(matches!(right, Reply::Made { .. }), "{right:?}");
}

#[test]
fn a_pin_that_is_added_reaches_who_runs_and_is_something_else() {
    let pair = pair();
    let user = ClaimedUser::claim();
    grant(&pair, &[]);
    let asked = web().with("user", json!(user.uid().to_string()));
    let (mut own, mut other) = (pair.probe(&asked), pair.probe(&web()));
    let [own_fd, other_fd] = [&mut own, &mut other].map(|service| {
        let fd = service.open("/secret/db_password").descriptor();
        assert_eq!(service.pread(fd).text(), VALUE);
        fd
    });
    grant(&pair, &["--user", &user.uid().to_string()]);
    assert_eq!(own.read("/secret/db_password").text(), VALUE);
    assert_eq!(own.pread(own_fd).text(), VALUE);
    let gone = Answer::Errno(libc::ENOENT);
    assert_eq!(other.read("/secret/db_password"), gone);
    other.pread(other_fd).is_revoked();

    // What the kernel and the injector say of an instance outlives both programs.
    pair.kill_secretsd();
    assert_eq!(own.read("/secret/db_password").text(), VALUE);
    assert_eq!(other.read("/secret/db_password"), gone);
    grant(&pair, &[]);
    assert_eq!(other.read("/secret/db_password").text(), VALUE);
    own.end().ok();
    other.end().ok();
}

#[test]
fn pins_are_shown_and_what_cannot_be_one_is_refused() {
    let pair = pair();
    let pins = [
        "--unit",
        "nginx.service",
        "--user",
        "www-data",
        "--ttl",
        "8h",
    ];
    grant(&pair, &pins);
    let only = "only as user www-data, unit nginx.service";
    let shown = pair.deploy(&["secret", "show", "db_password"]).ok();
    assert!(shown.out().contains(only), "{shown}");
    let readers = pair.deploy(&["secret", "readers", "db_password"]).ok();
    for word in ["ONLY AS", "user www-data, unit nginx.service"] {
        assert!(readers.out().contains(word), "{readers}");
    }
    let json = pair.deploy(&["secret", "readers", "db_password", "--json"]);
    let pins: &Value = &json.ok().json()["services"][0]["pins"];
    assert_eq!(*pins, json!({"user": "www-data", "unit": "nginx.service"}));
    for (pin, word) in [
        (["--unit", "nginx"], "nginx.service"),
        (["--unit", "web@.service"], "web@1.service"),
        (["--user", "33:33"], "a login name or a number"),
        (["--image", "latest"], "sha256:"),
    ] {
        let words = [&["secret", "grant", "web", "db_password"], &pin[..]].concat();
        pair.deploy(&words).code(2).says(&[word]);
        let kind = pin[0].trim_start_matches('-');
        let call = json!({"service": "web", "names": ["db_password"], "pins": {kind: pin[1]}});
        let call = ["call", "secret.grant", &call.to_string()];
        pair.deploy(&call).says(&[word]);
    }
}
