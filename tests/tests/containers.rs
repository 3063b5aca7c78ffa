//! Containers of runc, by the OCI hook: views that live, are revoked, and leave nothing.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tests::command::{Finished, run};
use tests::programs::program;
use tests::{Pair, wait};

/// Reads the secret whenever it is told to.
const READER: &str = "while read -r path; do echo \"$(cat $path 2>&1)\"; done";

/// A bundle, and the names of runc's containers in it.
struct Bundle {
    pair: Pair,
    config: Value,
    folder: PathBuf,
}

fn bundle() -> Bundle {
    let pair = Pair::start();
    pair.set("a", "the value");
    let folder = pair.folder().join("bundle");
    let rootfs = folder.join("rootfs");
    for name in ["bin", "proc", "dev", "sys", "run", "etc"] {
        std::fs::create_dir_all(rootfs.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "ls"] {
        std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
    }
    let manifests = pair.folder().join("manifests");
    std::fs::create_dir(&manifests).unwrap();
    let manifest = "service: web\nsecrets: [a]\nconfig: {level: debug}\n";
    std::fs::write(manifests.join("web.yaml"), manifest).unwrap();
    let mut spec = Command::new("runc");
    spec.arg("spec").current_dir(&folder);
    run(spec, b"").ok();
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", READER]);
    config["annotations"] = json!({"io.deploy.service": "web"});
    config["hooks"] = json!({"createRuntime": [{
        "path": program("deploy-inject"),
        "args": ["deploy-inject", "oci-hook", "--run-dir", pair.run_folder(), "--manifests", manifests],
    }]});
    Bundle {
        pair,
        config,
        folder,
    }
}

/// A container that runs, and answers.
struct Container {
    runc: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    state: PathBuf,
    name: String,
}

impl Bundle {
    fn command(&self, name: &str) -> (Command, PathBuf) {
        let config = serde_json::to_vec(&self.config).unwrap();
        std::fs::write(self.folder.join("config.json"), config).unwrap();
        let state = self.pair.folder().join("runc");
        let mut command = Command::new("runc");
        command.arg("--root").arg(&state).args(["run", "--bundle"]);
        command.arg(&self.folder).arg(name);
        (command, state)
    }

    fn start(&self, name: &str) -> Container {
        let (mut command, state) = self.command(name);
        let mut runc = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Container {
            input: runc.stdin.take().unwrap(),
            output: BufReader::new(runc.stdout.take().unwrap()),
            runc,
            state,
            name: name.to_owned(),
        }
    }

    fn refused(&self, name: &str) -> Finished {
        let finished = run(self.command(name).0, b"");
        assert_ne!(finished.code, 0, "{finished}");
        finished
    }

    fn instances(&self) -> usize {
        std::fs::read_dir(self.pair.run_folder().join("instances"))
            .unwrap()
            .count()
    }

    fn no_instance(&self) {
        wait::until("the end of the instance", || {
            (self.instances() == 0).then_some(())
        });
    }
}

impl Container {
    fn read(&mut self, path: &str) -> String {
        writeln!(self.input, "{path}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn kill(&mut self) {
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(&self.state)
            .args(["kill", &self.name, "KILL"]);
        run(command, b"").ok();
        self.runc.wait().unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(&self.state)
            .args(["delete", "--force", &self.name]);
        run(command, b"");
        let _ = self.runc.wait();
    }
}

fn name(of: &str) -> String {
    format!("ds-{of}-{}", std::process::id())
}

#[test]
fn a_container_has_its_view_live_and_loses_it_by_a_revoke() {
    let bundle = bundle();
    bundle.pair.grant("web", &["a"]);
    let mut web = bundle.start(&name("live"));
    assert_eq!(web.read("/run/secrets/a"), "the value");
    assert_eq!(web.read("/config/level"), "debug");
    bundle.pair.set("a", "next");
    assert_eq!(web.read("/run/secrets/a"), "next");
    bundle.pair.kill_secretsd();
    assert_eq!(web.read("/run/secrets/a"), "next");
    bundle.pair.revoke("web", "a");
    assert!(web.read("/run/secrets/a").contains("No such file"));
    bundle.pair.grant("web", &["a"]);
    assert_eq!(web.read("/run/secrets/a"), "next");
    // However it dies.
    web.kill();
    bundle.no_instance();
    drop(web);
    let Bundle { pair, .. } = bundle;
    pair.leaves_nothing();
}

#[test]
fn one_that_misses_a_grant_does_not_start_and_says_why() {
    let bundle = bundle();
    let refused = bundle.refused(&name("refused"));
    let told = "deploy secret grant web a";
    assert!(refused.err().contains(told), "{refused}");
    assert_eq!(bundle.instances(), 0);
}

#[test]
fn nor_does_one_of_a_service_that_is_none_or_whose_name_is_a_path() {
    let mut bundle = bundle();
    bundle.pair.grant("web", &["a"]);
    for service in ["absent", "../web"] {
        bundle.config["annotations"] = json!({"io.deploy.service": service});
        let refused = bundle.refused(&name("none"));
        assert!(refused.err().contains(service), "{refused}");
    }
    // Without the annotation it is none of ours.
    bundle.config["annotations"] = json!({});
    let mut other = bundle.start(&name("other"));
    assert!(other.read("/run/secrets/a").contains("No such file"));
}

#[test]
fn with_a_read_only_root_and_with_users_of_its_own() {
    let mut bundle = bundle();
    bundle.pair.grant("web", &["a"]);
    bundle.config["root"]["readonly"] = json!(true);
    let mut web = bundle.start(&name("ro"));
    assert_eq!(web.read("/run/secrets/a"), "the value");
    drop(web);
    bundle.no_instance();

    let users = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = users.clone();
    bundle.config["linux"]["gidMappings"] = users;
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({"type": "user"}));
    bundle.config["process"]["user"] = json!({"uid": 33, "gid": 33});
    for folder in [
        bundle.pair.folder(),
        &bundle.folder,
        &bundle.folder.join("rootfs"),
    ] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut web = bundle.start(&name("userns"));
    assert_eq!(web.read("/run/secrets/a"), "the value");
    bundle.pair.revoke("web", "a");
    assert!(web.read("/run/secrets/a").contains("No such file"));
}

#[test]
fn a_target_that_is_a_symlink_in_the_image_is_not_followed() {
    let bundle = bundle();
    bundle.pair.grant("web", &["a"]);
    std::os::unix::fs::symlink("/etc", bundle.folder.join("rootfs/run/secrets")).unwrap();
    let refused = bundle.refused(&name("link"));
    assert!(refused.err().contains("symlink"), "{refused}");
    assert_eq!(bundle.instances(), 0);
}
