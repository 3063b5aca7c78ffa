//! deploy init

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use injector::daemon_user::{
    DaemonCommand, as_daemon_user, as_daemon_user_with_stdin, prepare_state_dir,
};
use rustix::pipe::{PipeFlags, pipe_with};
use zeroize::Zeroizing;

use super::{exit_code, installed};
use crate::arguments::StateDir;
use crate::context::{Context, require_root};
use crate::failure::Failure;
use crate::{prompt, systemd, value};

/// What the package's units have.
const USER: &str = "deploy-secrets";
const STATE_DIR: &str = "/var/lib/deploy-secrets";

/// What is sure to fit into a pipe, so that it can be written before anyone reads.
const LONGEST_PASSPHRASE: usize = 4096;

/// Make a new store
///
/// secretsd makes it, as its own user. The root key is random and is never printed; its first key
/// slot is a file, with which secretsd unseals by itself, or a passphrase. Where the package's units
/// are, secretsd is started, too.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy init\n  \
    deploy init --state-dir /srv/secrets --user secretsd --passphrase")]
pub struct Init {
    #[command(flatten)]
    store: StateDir,
    /// secretsd's user: a name, a number, or UID:GID; not root
    #[arg(
        long,
        env = "DEPLOY_USER",
        hide_env_values = true,
        default_value = "deploy-secrets"
    )]
    user: String,
    /// Cipher of the sealed records; ChaCha20 is the faster one on a CPU without AES
    #[arg(long, value_enum, default_value_t = Cipher::Aes256Gcm)]
    cipher: Cipher,
    /// First key slot: a passphrase, asked for twice
    #[arg(long)]
    passphrase: bool,
    /// First key slot: a passphrase from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Where the key file of the first slot goes [default: in the store's folder]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase", "passphrase_file"])]
    key_file: Option<PathBuf>,
    /// The program secretsd [default: the one that was installed with this one]
    #[arg(long, value_name = "PROGRAM")]
    secretsd: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cipher {
    Aes256Gcm,
    Chacha20Poly1305,
}

pub fn init(args: &Init, context: &Context) -> Result<ExitCode> {
    require_root("init")?;
    let state_dir = std::path::absolute(&args.store.state_dir)
        .with_context(|| format!("cannot find {}", args.store.state_dir.display()))?;
    let program = match &args.secretsd {
        Some(program) => std::path::absolute(program)?,
        None => installed("secretsd")?,
    };
    let passphrase = passphrase(args)?;
    let made = prepare_state_dir(&args.user, &state_dir)
        .with_context(|| format!("cannot prepare {}", state_dir.display()))?;
    let command = command(args, program, &state_dir, passphrase.is_some())?;
    let code = match passphrase {
        Some(passphrase) => with_passphrase(&args.user, &command, &passphrase),
        None => as_daemon_user(&args.user, &command),
    }
    .with_context(|| format!("cannot run {}", command.program.display()))?;
    if code != 0 {
        if made {
            // Only if it is empty: what is in it might be somebody's store.
            let _ = std::fs::remove_dir(&state_dir);
        }
        return Ok(exit_code(code));
    }
    // The units are for these alone.
    let is_of_units = args.user == USER && state_dir == Path::new(STATE_DIR);
    let started = is_of_units && systemd::start();
    let report =
        serde_json::json!({ "state_dir": state_dir, "user": args.user, "started": started });
    context.confirm(&report, |_| {
        let next = match args.user.as_str() {
            _ if started => "secretsd runs; see it: systemctl status secretsd".to_owned(),
            _ if is_of_units => format!("start secretsd: {}", systemd::start_command()),
            USER => "start secretsd: deploy-inject up".to_owned(),
            user => format!("start secretsd: deploy-inject up --user {user}"),
        };
        format!("made a store in {}; {next}", state_dir.display())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn passphrase(args: &Init) -> Result<Option<Zeroizing<String>>> {
    if !args.passphrase && args.passphrase_file.is_none() {
        return Ok(None);
    }
    let ask = |instead: &str| prompt::hidden_twice("Passphrase of the new store", instead);
    let passphrase = value::passphrase(args.passphrase_file.as_deref(), ask)?;
    if passphrase.len() > LONGEST_PASSPHRASE {
        return Err(Failure::failed("the passphrase is longer than 4096 bytes").into());
    }
    Ok(Some(passphrase))
}

fn command(
    args: &Init,
    program: PathBuf,
    state_dir: &Path,
    passphrase: bool,
) -> Result<DaemonCommand> {
    let cipher = args
        .cipher
        .to_possible_value()
        .map(|value| value.get_name().to_owned());
    let mut words: Vec<OsString> = vec!["init".into(), "--state-dir".into(), state_dir.into()];
    words.extend(["--cipher".into(), cipher.unwrap_or_default().into()]);
    if passphrase {
        words.push("--passphrase-stdin".into());
    }
    if let Some(file) = &args.key_file {
        // Relative to where the operator is, and not to the store's folder as secretsd has it.
        words.extend(["--key-file".into(), std::path::absolute(file)?.into()]);
    }
    let passed_on = ["RUST_LOG", "RUST_BACKTRACE"].into_iter();
    let env = passed_on.filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    Ok(DaemonCommand {
        program,
        args: words,
        env: env.collect(),
    })
}

fn with_passphrase(user: &str, command: &DaemonCommand, passphrase: &str) -> std::io::Result<i32> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let written = rustix::io::write(&writer, passphrase.as_bytes())?;
    drop(writer);
    if written != passphrase.len() {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    as_daemon_user_with_stdin(user, command, std::os::fd::AsFd::as_fd(&reader))
}
