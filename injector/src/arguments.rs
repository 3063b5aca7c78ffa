//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Starts secretsd, and puts services' views of their secrets into their mount namespaces.
#[derive(Debug, Parser)]
#[command(name = "deploy-inject", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run secretsd and the injector until SIGTERM or Ctrl-C, and start them again when they end
    ///
    /// Prints `ready` when both are. Example:
    ///   deploy-inject up --user deploy-secrets
    #[command(verbatim_doc_comment)]
    Up {
        /// Folder of the store, made by `deploy init`
        #[arg(
            long,
            env = "DEPLOY_STATE_DIR",
            default_value = "/var/lib/deploy-secrets"
        )]
        state_dir: PathBuf,
        #[command(flatten)]
        run: RunDir,
        /// secretsd's user: a name, a number, or UID:GID; not root
        #[arg(long, env = "DEPLOY_USER", default_value = "deploy-secrets")]
        user: String,
        /// The program secretsd (default: the one beside this program)
        #[arg(long)]
        secretsd: Option<PathBuf>,
    },
    /// Serve as the injector; started by `up` or systemd, not by hand
    Serve {
        #[command(flatten)]
        run: RunDir,
        /// secretsd's user, who besides root may connect: a name or a number
        // The name that a keeper of an earlier version has for it, which may start this one.
        #[arg(long, alias = "daemon-uid", default_value = "deploy-secrets")]
        daemon_user: String,
    },
    /// Ring for the injector; started by `serve`, which asks for it on standard input
    #[command(hide = true)]
    Apart,
    /// Take views and mounts of a run folder away; run by `up` before its start and after its end
    #[command(hide = true)]
    Clean {
        #[command(flatten)]
        run: RunDir,
        /// Leave running services and the registry as they are
        #[arg(long)]
        keep_instances: bool,
    },
    /// Have forgotten what the kernel has cached of all views; run by `up` before it stops everything
    #[command(hide = true)]
    Forget {
        #[command(flatten)]
        run: RunDir,
    },
    /// A supervisor without a terminal; started by `deploy run --detach`
    #[command(hide = true)]
    Supervise,
    /// Open and read a service's files, from inside it; started by a supervisor before it acts on a change
    #[command(hide = true)]
    Look {
        /// Where its secrets are
        secret: PathBuf,
        /// Where its configuration is
        config: PathBuf,
        /// A secret that need not be there
        #[arg(long, value_name = "NAME")]
        optional: Vec<OsString>,
        /// The secrets that it must have
        names: Vec<OsString>,
    },
    /// Act on changes of a systemd unit's secrets; started by deploy-on-change@UNIT.service
    #[command(hide = true)]
    OnChange {
        #[command(flatten)]
        run: RunDir,
        /// The unit
        unit: String,
    },
    /// Give a container its view: an OCI hook of the kind createRuntime, with the state on standard input
    OciHook {
        #[command(flatten)]
        run: RunDir,
        /// Folder of manifests, NAME.yaml each
        #[arg(long, default_value = "/etc/deploy")]
        manifests: PathBuf,
    },
    /// Become a service's command, with secrets in variables; started by a supervisor
    #[command(hide = true)]
    Exec {
        /// NAME=FILE: the variable gets what is in the file
        #[arg(long)]
        env: Vec<OsString>,
        /// The same, if there is such a file
        #[arg(long)]
        env_if_there: Vec<OsString>,
        /// NAME=FILE: the variable gets the path, if there is such a file
        #[arg(long)]
        path_if_there: Vec<OsString>,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
pub struct RunDir {
    /// Folder of sockets and mounts
    #[arg(long, env = "DEPLOY_RUN_DIR", default_value = "/run/deploy")]
    pub run_dir: PathBuf,
}
