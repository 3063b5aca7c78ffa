//! A host that has Debian's packages installed, for one test: the real host with unpacked packages
//! laid over it, in a mount and a network namespace of its own. Nothing of the real host changes, and
//! ports and paths are the usual ones in any number of tests at a time.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::claim::ClaimedUser;
use crate::command::{line_of, run};
use crate::peers::services_unpacked;
use crate::programs::program;
use crate::recipe::Recipe;
use crate::{Finished, Pair, Service, interrupt};

/// The users that packages would have made, or that their administrators make.
const USERS: [&str; 7] = [
    "redis", "postgres", "www-data", "app", "backup", "sshd", "sign",
];

/// What maintainer scripts and tmpfiles.d would make, each with its owner.
const FOLDERS: [(&str, &str); 7] = [
    ("/var/lib/redis", "redis"),
    ("/run/redis", "redis"),
    ("/var/lib/postgresql", "postgres"),
    ("/run/postgresql", "postgres"),
    ("/var/log/nginx", "root"),
    ("/var/lib/nginx", "root"),
    ("/srv/app", "app"),
];

/// Lays the packages over the host, and waits for its end. $1: where they are unpacked; $2: a folder
/// for what is changed, which no other namespace sees.
const SCRIPT: &str = r#"
    set -eu
    mount -t tmpfs -o mode=755 changes "$2/changes"
    for name in etc usr var srv opt root; do
        lower="/$name"
        [ ! -d "$1/$name" ] || lower="$1/$name:$lower"
        mkdir "$2/changes/$name" "$2/changes/$name.work"
        mount -t overlay -o "lowerdir=$lower,upperdir=$2/changes/$name,workdir=$2/changes/$name.work" \
            packages "/$name"
    done
    mount -t tmpfs -o mode=755 changes /run
    mkdir -p /root/work
    cp "$2/passwd" "$2/group" /etc/
    ip link set lo up 2>/dev/null || busybox ip link set lo up
    echo ready
    exec cat >/dev/null
"#;

/// Such a host. It is there as long as something runs in it.
pub struct Host<'a> {
    pair: &'a Pair,
    /// Holds the namespaces open; ends with its standard input, so also if this process is killed.
    holder: Child,
    _users: Vec<ClaimedUser>,
}

impl Host<'_> {
    /// A host whose `deploy` is the pair's.
    #[track_caller]
    pub fn of(pair: &Pair) -> Host<'_> {
        let folder = pair.folder().join("host");
        std::fs::create_dir_all(folder.join("changes")).unwrap();
        let users: Vec<_> = USERS.iter().map(|_| ClaimedUser::claim()).collect();
        let ids: BTreeMap<&str, u32> = USERS
            .into_iter()
            .zip(users.iter().map(ClaimedUser::uid))
            .collect();
        // Before the host's own: the first line with a name counts.
        let before = |file: &str, lines: String| {
            let text = lines + &std::fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            std::fs::write(folder.join(file), text).unwrap();
        };
        let lines = ids
            .iter()
            .map(|(name, id)| format!("{name}:x:{id}:{id}::/srv/{name}:/bin/sh\n"));
        before("passwd", lines.collect());
        let lines = ids.iter().map(|(name, id)| format!("{name}:x:{id}:\n"));
        before("group", lines.collect());
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--", "/bin/sh", "-c", SCRIPT, "sh"])
            .arg(services_unpacked())
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let creating = interrupt::creating();
        let mut holder = command.spawn().unwrap();
        drop(creating);
        let mut said = String::new();
        let out = holder.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let host = Host {
            pair,
            holder,
            _users: users,
        };
        assert_eq!(
            said, "ready\n",
            "the packages cannot be laid over this host"
        );
        std::os::unix::fs::symlink(program("deploy"), host.path("/usr/local/bin/deploy")).unwrap();
        for (path, owner) in FOLDERS {
            // Empty, whatever this host has there.
            let id = ids.get(owner).unwrap_or(&0);
            host.run(["mkdir", "-p", path]).ok();
            let options = format!("uid={id},gid={id},mode=755");
            host.run(["mount", "-t", "tmpfs", "-o", &options, "folder", path])
                .ok();
        }
        host
    }

    /// Where a path of it is for this process.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.id()))
    }

    /// A command in it, with the operator's surroundings.
    pub fn command<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let outside = self.pair.deploy_command(&[]);
        let mut command = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        command
            .args([
                "--mount",
                "--net",
                "--target",
                &holder,
                "--wdns=/root/work",
                "--",
            ])
            .args(words.into_iter().map(|word| word.as_ref().to_owned()))
            .env("HOME", "/root")
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            );
        for (name, value) in outside.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs one to its end.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, words: impl IntoIterator<Item = S>) -> Finished {
        run(self.command(words), b"")
    }

    /// Runs commands as an operator types them, and stops at the first that fails.
    #[track_caller]
    pub fn types(&self, commands: &str) -> Finished {
        let mut finished = self.run(["/bin/sh", "-euc", &this_release(commands)]);
        finished.line = commands.to_owned();
        finished
    }

    /// Puts the files of a recipe into place, and runs its `set-up`.
    #[track_caller]
    pub fn sets_up(&self, title: &str) -> Recipe {
        let recipe = Recipe::of(title);
        for (path, text) in recipe.files() {
            let there = self.path(path.to_str().unwrap());
            std::fs::create_dir_all(there.parent().unwrap()).unwrap();
            std::fs::write(&there, this_release(&text)).unwrap();
            std::fs::set_permissions(&there, Permissions::from_mode(0o755)).unwrap();
        }
        self.types(&recipe.commands("set-up")).ok();
        recipe
    }

    /// Starts the service of a manifest in /etc/deploy.
    #[track_caller]
    pub fn starts(&self, service: &str) -> Service {
        self.starts_with(service, &[])
    }

    /// The same, with another command in place of the manifest's.
    #[track_caller]
    pub fn starts_with(&self, service: &str, words: &[&str]) -> Service {
        let file = format!("/etc/deploy/{service}.yaml");
        let mut all = vec!["deploy", "run", &file];
        if !words.is_empty() {
            all.push("--");
            all.extend(words);
        }
        self.pair.run_command(service, self.command(all))
    }

    /// Runs the service of a manifest in /etc/deploy to its end.
    #[track_caller]
    pub fn deploys(&self, service: &str) -> Finished {
        let file = format!("/etc/deploy/{service}.yaml");
        let mut finished = self.run(["deploy", "run", &file]);
        finished.line = line_of(&self.command(["deploy", "run", &file]));
        finished
    }
}

/// Words of the page on this release: it names PostgreSQL's folder as Debian 12 has it.
pub fn this_release(text: &str) -> String {
    let folders = std::fs::read_dir(services_unpacked().join("usr/lib/postgresql")).unwrap();
    let version = folders.flatten().next().unwrap().file_name();
    text.replace(
        "postgresql/15/",
        &format!("postgresql/{}/", version.to_str().unwrap()),
    )
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
