//! A pair of secretsd and deploy-inject in folders of its own.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use crate::claim::ClaimedUser;
use crate::command::{Finished, end_of, run};
use crate::manifest::Asked;
use crate::powercut::Disk;
use crate::programs::{copy_for_all, program};
use crate::traces::{Left, Traces};
use crate::{Probe, Service, Terminal, interrupt, wait};

/// A running pair. Dropping it ends it and takes all its traces away.
pub struct Pair {
    folder: PathBuf,
    user: ClaimedUser,
    keeper: Option<Child>,
    traces: Arc<Traces>,
    files: AtomicU32,
}

impl Pair {
    /// A pair with a store that unseals itself by a file slot, ready for commands.
    #[track_caller]
    pub fn start() -> Pair {
        let mut pair = Pair::prepare();
        pair.init(&[]).ok();
        pair.up();
        pair
    }

    /// As [`Pair::start`], with the state folder on a disk of the test's.
    #[track_caller]
    pub fn start_on(disk: &Disk) -> Pair {
        let mut pair = Pair::prepare();
        std::fs::create_dir(pair.state()).unwrap();
        disk.attach(&pair.state(), pair.uid());
        pair.init(&[]).ok();
        pair.up();
        pair
    }

    /// As [`Pair::start`], by copies of both programs in the pair's folder, which can be taken away or
    /// replaced. Their processes have these names.
    #[track_caller]
    pub fn start_copies() -> Pair {
        let mut pair = Pair::prepare();
        pair.init(&[]).ok();
        let up = pair.up_command();
        let mut command = Command::new(up.get_program());
        for arg in up.get_args() {
            let name = ["secretsd", "deploy-inject"]
                .into_iter()
                .find(|name| arg == program(name));
            match name {
                Some(name) => command.arg(pair.for_services(name)),
                None => command.arg(arg),
            };
        }
        pair.own_environment(&mut command);
        pair.up_by(command);
        pair
    }

    /// The folders alone: no store, and nothing runs.
    pub fn prepare() -> Pair {
        Pair::prepare_as("dt-")
    }

    /// As [`Pair::prepare`], with a prefix for the folder's name in /tmp.
    pub fn prepare_as(prefix: &str) -> Pair {
        let user = ClaimedUser::claim();
        let creating = interrupt::creating();
        // Short, as a socket's path has at most 108 bytes; 0711, as secretsd's user walks through.
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o711))
            .tempdir_in("/tmp")
            .unwrap()
            .keep();
        let traces = Traces::watch(&folder, user.uid());
        drop(creating);
        Pair {
            folder,
            user,
            keeper: None,
            traces,
            files: AtomicU32::new(0),
        }
    }

    /// `deploy init` with more arguments.
    #[track_caller]
    pub fn init(&self, more: &[&str]) -> Finished {
        run(self.init_command(more), b"")
    }

    /// The command of [`Pair::init`], for a terminal.
    pub fn init_command(&self, more: &[&str]) -> Command {
        let uid = self.user.uid().to_string();
        let mut command = self.deploy_command(&["init", "--user", &uid]);
        command.args(more);
        command
    }

    /// Starts the keeper and waits until it says that both programs are ready.
    #[track_caller]
    pub fn up(&mut self) {
        self.up_by(self.up_command());
    }

    /// As [`Pair::up`], by a command that becomes that of [`Pair::up_command`].
    #[track_caller]
    pub fn up_by(&mut self, mut command: Command) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.log())
            .unwrap();
        let creating = interrupt::creating();
        // Its own process group: Ctrl-C comes to us alone, and we end it in order.
        let mut keeper = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        self.traces.keeper_is(Some(keeper.id()));
        drop(creating);
        let stdout = BufReader::new(keeper.stdout.take().unwrap());
        self.keeper = Some(keeper);
        let (ready, is_ready) = mpsc::channel();
        // Reads on to the end, so that the keeper never meets a full or a closed pipe.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if line.contains("ready") {
                    let _ = ready.send(());
                }
            }
        });
        if is_ready.recv_timeout(wait::LONG).is_err() {
            panic!(
                "`deploy-inject up` does not get ready:\n{}",
                self.log_text()
            );
        }
        self.traces.run_folder_is(&self.run_folder());
    }

    /// The command line of the keeper.
    pub fn up_command(&self) -> Command {
        let uid = self.user.uid().to_string();
        // Should this process be killed, the keeper ends by itself.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(program("deploy-inject"))
            .arg("up")
            .arg("--state-dir")
            .arg(self.state())
            .arg("--run-dir")
            .arg(self.run_folder())
            .args(["--user", &uid])
            .arg("--secretsd")
            .arg(program("secretsd"));
        self.own_environment(&mut command);
        command
    }

    /// Ends the keeper as an operator would, by SIGTERM; gives its exit code.
    #[track_caller]
    pub fn down(&mut self) -> i32 {
        let mut keeper = self.keeper.take().expect("the keeper runs");
        self.traces.keeper_is(None);
        crate::traces::signal(
            i32::try_from(keeper.id()).unwrap(),
            rustix::process::Signal::TERM,
            std::time::Duration::ZERO,
        );
        end_of(&mut keeper, wait::LONG)
            .unwrap_or_else(|| panic!("the keeper does not end:\n{}", self.log_text()))
    }

    fn own_environment(&self, command: &mut Command) {
        command
            .env("DEPLOY_STATE_DIR", self.state())
            .env("DEPLOY_RUN_DIR", self.run_folder())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS");
    }

    /// `deploy` with arguments, not started.
    pub fn deploy_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("deploy"));
        command.args(arguments).current_dir(&self.folder);
        self.own_environment(&mut command);
        command
    }

    /// Runs `deploy` with nothing on standard input.
    #[track_caller]
    pub fn deploy(&self, arguments: &[&str]) -> Finished {
        run(self.deploy_command(arguments), b"")
    }

    /// Runs `deploy` with bytes on standard input.
    #[track_caller]
    pub fn deploy_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        run(self.deploy_command(arguments), input)
    }

    /// Runs `deploy` on a terminal of its own.
    pub fn terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::start(self.deploy_command(arguments))
    }

    /// Writes a file into the pair's folder, and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a manifest, under a name that no other has.
    pub fn manifest(&self, asked: &Asked) -> PathBuf {
        let number = self.files.fetch_add(1, Ordering::Relaxed);
        self.file(&format!("{}-{number}.yaml", asked.name()), asked.text())
    }

    /// Starts a service by `deploy run`, in the foreground of nobody's terminal.
    #[track_caller]
    pub fn run(&self, asked: &Asked) -> Service {
        let file = self.manifest(asked);
        self.run_file(asked.name(), &file)
    }

    /// Starts the service of a manifest that is there.
    #[track_caller]
    pub fn run_file(&self, service: &str, file: &Path) -> Service {
        self.run_command(
            service,
            self.deploy_command(&["run", file.to_str().unwrap()]),
        )
    }

    /// Starts a service by a command that is, or becomes, `deploy run`.
    #[track_caller]
    pub fn run_command(&self, service: &str, command: Command) -> Service {
        Service::start(self, service, command)
    }

    /// Runs a service to its end by `deploy run`.
    #[track_caller]
    pub fn run_to_end(&self, asked: &Asked) -> Finished {
        let file = self.manifest(asked);
        self.deploy(&["run", file.to_str().unwrap()])
    }

    /// Starts the probe as a service, and waits until it answers.
    #[track_caller]
    pub fn probe(&self, asked: &Asked) -> Probe {
        let program = self.for_services("probe");
        let asked = asked.clone().command(&[program.to_str().unwrap(), "serve"]);
        Probe::of(self.run(&asked))
    }

    /// A copy of one of our programs that every user may run.
    pub fn for_services(&self, name: &str) -> PathBuf {
        let there = self.folder.join(name);
        if there.exists() {
            there
        } else {
            copy_for_all(&program(name), &self.folder)
        }
    }

    /// The user of secretsd.
    pub fn uid(&self) -> u32 {
        self.user.uid()
    }

    /// The folder that all others are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// DEPLOY_STATE_DIR.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// DEPLOY_RUN_DIR.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The log of the keeper and of both programs.
    pub fn log(&self) -> PathBuf {
        self.folder.join("up.log")
    }

    /// The log's text.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// Processes, mounts and the rest that belong to this pair.
    pub fn traces(&self) -> &Arc<Traces> {
        &self.traces
    }

    /// The process of secretsd.
    #[track_caller]
    pub fn secretsd(&self) -> i32 {
        wait::until("a secretsd", || {
            self.traces.running("secretsd").first().copied()
        })
    }

    /// The process of the injector: the keeper's other child.
    #[track_caller]
    pub fn injector(&self) -> i32 {
        let keeper = self.keeper.as_ref().map(|keeper| keeper.id() as i32);
        wait::until("an injector", || {
            let ours = self.traces.running("deploy-inject").into_iter();
            let parent = |pid: &i32| crate::process::stat(*pid).map(|stat| stat.parent);
            ours.into_iter().find(|pid| parent(pid) == keeper)
        })
    }

    /// Kills one of both programs, and waits until it has a successor: `kill(Pair::injector)`.
    #[track_caller]
    pub fn kill(&self, which: impl Fn(&Pair) -> i32) -> i32 {
        let pid = which(self);
        crate::traces::signal(
            pid,
            rustix::process::Signal::KILL,
            std::time::Duration::from_secs(10),
        );
        wait::until("its successor", || {
            Some(which(self)).filter(|next| *next != pid)
        })
    }

    /// Ends everything and checks that nothing is left.
    #[track_caller]
    pub fn leaves_nothing(self) {
        let traces = Arc::clone(&self.traces);
        drop(self);
        assert_eq!(traces.find(), Left::default(), "left on the host");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() && !interrupt::came() {
            eprintln!("--- log of the pair\n{}", self.log_text());
        }
        self.traces.erase();
        if let Some(mut keeper) = self.keeper.take() {
            let _ = keeper.wait();
        }
    }
}
