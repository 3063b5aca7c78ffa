//! Backups without a running secretsd: a secretsd that is started for it opens them, as its own user
//! and with nothing else in hand. This program gives it key and file, and shows what it says.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::ProgressBar;
use injector::daemon_user::{DaemonCommand, as_daemon_user_fed};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::prompt;
use crate::value::{self, shown};
use crate::verbs::installed;

/// So much of the file is given at once.
const PIECE: usize = 1 << 16;

/// What opens a backup, and who does it.
#[derive(Debug, Args)]
pub struct Opening {
    /// File with the private halves (AGE-SECRET-KEY-1…) of recipients; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Take the passphrase from a file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    passphrase_file: Option<PathBuf>,
    /// secretsd's user: a name, a number, or UID:GID; not root
    #[arg(
        long,
        env = "DEPLOY_USER",
        hide_env_values = true,
        default_value = "deploy-secrets"
    )]
    pub user: String,
    /// The program secretsd [default: the one that was installed with this one]
    #[arg(long, value_name = "PROGRAM")]
    secretsd: Option<PathBuf>,
}

/// A key that was read or typed, and the program that is given it.
pub struct Opener<'a> {
    user: &'a str,
    program: PathBuf,
    kind: &'static str,
    key: Zeroizing<Vec<u8>>,
}

impl Opening {
    /// Reads the key, or asks for it; `file` says which kind it needs.
    pub fn key(&self, file: &Path) -> Result<Opener<'_>> {
        let program = match &self.secretsd {
            Some(program) => std::path::absolute(program)?,
            None => installed("secretsd")?,
        };
        let (kind, key) = if let Some(identity) = &self.identity {
            ("identity", value::read_file(identity)?)
        } else {
            if self.passphrase_file.is_none() && !opens_by_passphrase(file)? {
                let what = format!("{} opens by a private half of its recipients", shown(file));
                return Err(Failure::usage(what).hint("give it: --identity FILE").into());
            }
            let ask = |instead: &str| prompt::hidden("Passphrase of the backup", instead);
            let mut text = value::passphrase(self.passphrase_file.as_deref(), ask)?;
            let bytes = Zeroizing::new(std::mem::take(&mut *text).into_bytes());
            ("passphrase", bytes)
        };
        Ok(Opener {
            user: &self.user,
            program,
            kind,
            key,
        })
    }
}

/// Says age's own header, which is in clear, that a passphrase opens it? Whoever changed it is found
/// out by whoever opens it.
fn opens_by_passphrase(file: &Path) -> Result<bool> {
    let mut begin = Vec::new();
    open(file)?.take(512).read_to_end(&mut begin)?;
    Ok(begin.windows(11).any(|part| part == b"\n-> scrypt "))
}

/// A file of a backup.
pub fn open(file: &Path) -> Result<File> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", shown(file)))?;
    if opened.metadata()?.is_file() {
        return Ok(opened);
    }
    Err(Failure::failed(format!("{} is no plain file", shown(file))).into())
}

/// Does it begin as files of age do?
pub fn is_age(file: &Path) -> bool {
    let mut begin = [0; 22];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"age-encryption.org/v1\n"
}

impl Opener<'_> {
    /// Has secretsd's `verb` read the key and the file. Gives what it says, or its exit code: then it
    /// has told itself what went wrong.
    pub fn run<T: DeserializeOwned>(
        &self,
        mut words: Vec<OsString>,
        file: &mut File,
        bar: &ProgressBar,
    ) -> Result<Result<T, i32>> {
        words.extend(["--key".into(), self.kind.into()]);
        let command = DaemonCommand {
            program: self.program.clone(),
            args: words,
            env: Vec::new(),
        };
        file.rewind()?;
        bar.set_length(file.metadata()?.len());
        let feed = |to: &mut File| self.feed(to, file, bar);
        let (code, said) = as_daemon_user_fed(self.user, &command, feed)
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        bar.finish_and_clear();
        if code != 0 {
            return Ok(Err(code));
        }
        let said = serde_json::from_slice(&said);
        Ok(Ok(said.context(
            "secretsd gave an answer that cannot be understood",
        )?))
    }

    fn feed(&self, to: &mut File, file: &mut File, bar: &ProgressBar) -> io::Result<()> {
        let length = u32::try_from(self.key.len()).map_err(io::Error::other)?;
        to.write_all(&length.to_le_bytes())?;
        to.write_all(&self.key)?;
        let mut piece = vec![0; PIECE];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            to.write_all(&piece[..count])?;
            bar.inc(count as u64);
        }
    }
}
