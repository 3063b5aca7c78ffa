//! The command line of secretsd.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps the secrets of this host and shows each service its own view of them.
#[derive(Debug, Parser)]
#[command(name = "secretsd", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve until a signal ends it; started by `deploy-inject up` or systemd, not by hand
    Serve(Folders),
    /// Make a new store in an empty state folder; `deploy init` runs this as secretsd's user
    Init(Init),
    /// Tell the kernel what it must forget; started by `serve`, which asks for it on standard input
    #[command(hide = true)]
    Apart,
    /// Check the audit log of a state folder; `deploy audit verify --state-dir` runs this
    AuditVerify(AuditVerify),
    /// Check a backup; `deploy backup verify` runs this, and gives key and backup on standard input
    BackupVerify(BackupVerify),
    /// Make a store of a backup in an empty folder; `deploy restore` runs this, in the same way
    Restore(Restore),
}

/// Where the store and the sockets are.
#[derive(Debug, Args)]
pub struct Folders {
    /// Folder of the store, 0700, owned by secretsd's user
    #[arg(
        long,
        env = "DEPLOY_STATE_DIR",
        default_value = "/var/lib/deploy-secrets"
    )]
    pub state_dir: PathBuf,
    /// Folder of sockets and mounts
    #[arg(long, env = "DEPLOY_RUN_DIR", default_value = "/run/deploy")]
    pub run_dir: PathBuf,
    /// Let services open secrets although the audit log cannot be written
    #[arg(long, env = "DEPLOY_AUDIT_FAIL_OPEN")]
    pub audit_fail_open: bool,
    /// Socket of systemd's journal, which gets the audit entries too, if it is there
    #[arg(
        long,
        env = "DEPLOY_JOURNAL_SOCKET",
        default_value = "/run/systemd/journal/socket"
    )]
    pub journal_socket: PathBuf,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Folder of the store, 0700, owned by secretsd's user
    #[arg(
        long,
        env = "DEPLOY_STATE_DIR",
        default_value = "/var/lib/deploy-secrets"
    )]
    pub state_dir: PathBuf,
    /// Cipher of the sealed records; ChaCha20 is the faster one on a CPU without AES
    #[arg(long, value_enum, default_value_t = CipherName::Aes256Gcm)]
    pub cipher: CipherName,
    /// First key slot: a passphrase, read from standard input up to its end; otherwise a key file
    #[arg(long)]
    pub passphrase_stdin: bool,
    /// Where the key file of the first slot goes (default: STATE_DIR/file-slot.key)
    #[arg(long, conflicts_with = "passphrase_stdin")]
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AuditVerify {
    /// Folder of the store
    #[arg(
        long,
        env = "DEPLOY_STATE_DIR",
        default_value = "/var/lib/deploy-secrets"
    )]
    pub state_dir: PathBuf,
    /// An anchor that was kept elsewhere
    #[arg(long)]
    pub anchor: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BackupVerify {
    /// What opens the backup
    #[arg(long, value_enum)]
    pub key: KeyKind,
    /// Say of which moment it is, and read no more
    #[arg(long)]
    pub moment: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// Folder of the store that is to be replaced; nothing changes there
    #[arg(
        long,
        env = "DEPLOY_STATE_DIR",
        default_value = "/var/lib/deploy-secrets"
    )]
    pub state_dir: PathBuf,
    /// Empty folder of the restored store
    #[arg(long)]
    pub into: PathBuf,
    /// What opens the backup
    #[arg(long, value_enum)]
    pub key: KeyKind,
    /// What it brings back and what is lost was seen
    #[arg(long)]
    pub accept: bool,
    /// An anchor of the audit log that was kept elsewhere
    #[arg(long)]
    pub anchor: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeyKind {
    /// A passphrase
    Passphrase,
    /// Lines of an identity file of age
    Identity,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum CipherName {
    Aes256Gcm,
    Chacha20Poly1305,
}
