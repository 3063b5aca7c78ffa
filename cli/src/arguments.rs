//! The command line.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use crate::failure::printable;
use crate::verbs::{
    audit, backup, call, completion, config, doctor, import, init, key, man, plan, ps, reload,
    restore, run, seal, secret, status, stop, unit, unseal,
};

/// Keeps secrets of services: each reads its own as files, and loses them when they are revoked.
#[derive(Debug, Parser)]
#[command(
    name = "deploy",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 denied, 4 not found, 5 sealed, \
    6 conflict.\n\nExample:\n  deploy secret set db_password\n  \
    deploy secret grant web db_password\n  deploy run web.yaml"
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub struct Global {
    /// Folder of sockets and mounts
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DEPLOY_RUN_DIR",
        hide_env_values = true,
        default_value = "/run/deploy"
    )]
    pub run_dir: PathBuf,
    /// Print JSON; errors too, to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Print no confirmations and no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Init(init::Init),
    Status(status::Status),
    Seal(seal::Seal),
    Unseal(unseal::Unseal),
    Secret(secret::Secret),
    Config(config::Config),
    Plan(plan::Plan),
    Import(import::Import),
    Run(run::Run),
    Reload(reload::Reload),
    Ps(ps::Ps),
    Stop(stop::Stop),
    Unit(unit::Unit),
    Key(key::Key),
    Audit(audit::Audit),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Doctor(doctor::Doctor),
    Call(call::Call),
    Completion(completion::Completion),
    Man(man::Man),
}

/// The arguments of this process, or the exit code when they were no command: help, or a mistake
/// that has been told.
pub fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        _ => {
            eprint!("{}", explain(&error));
            ExitCode::from(2)
        }
    })
}

/// What clap says, without what could be a value or could act on a terminal.
fn explain(error: &clap::Error) -> String {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(ContextValue::String(extra)) = error.get(ContextKind::InvalidArg)
        && error.kind() == ErrorKind::UnknownArgument
        && !extra.starts_with('-')
        && takes_a_value(&words)
    {
        let usage = error
            .get(ContextKind::Usage)
            .map(|usage| format!("\n{usage}\n"));
        return format!(
            "error: one word too many; a value is never an argument\n  \
             hint: leave it out to be asked for it, or use --file FILE, --file - or --generate\n{}",
            printable(&usage.unwrap_or_default())
        );
    }
    printable(&error.render().to_string())
}

/// Is this a verb after whose name many a user types the value?
fn takes_a_value(words: &[impl AsRef<OsStr>]) -> bool {
    let mut plain = words
        .iter()
        .map(AsRef::as_ref)
        .filter(|word| !word.as_encoded_bytes().starts_with(b"-"));
    plain.any(|word| word == "secret") && plain.any(|word| word == "set" || word == "rotate")
}

/// Where the store is, for verbs that look at it themselves.
#[derive(Debug, Args)]
pub struct StateDir {
    /// Folder of the store
    #[arg(
        long,
        value_name = "DIR",
        env = "DEPLOY_STATE_DIR",
        hide_env_values = true,
        default_value = "/var/lib/deploy-secrets"
    )]
    pub state_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    fn all(command: &clap::Command, found: &mut Vec<clap::Command>) {
        for sub in command.get_subcommands() {
            if sub.get_name() != "help" {
                found.push(sub.clone());
                all(sub, found);
            }
        }
    }

    #[test]
    fn the_command_line_has_no_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_help_has_an_example_that_is_a_command_line() {
        let mut command = Arguments::command();
        command.build();
        let mut verbs = Vec::new();
        all(&command, &mut verbs);
        assert!(verbs.len() > 25, "{}", verbs.len());
        for mut verb in verbs {
            let help = verb.render_long_help().to_string();
            let example = help.split("Example:\n").nth(1);
            let example = example.unwrap_or_else(|| panic!("{}: no example", verb.get_name()));
            for line in example
                .lines()
                .filter(|line| line.trim_start().starts_with("deploy "))
            {
                // Up to what belongs to the shell.
                let line = line
                    .split(" | ")
                    .next()
                    .unwrap()
                    .split(" > ")
                    .next()
                    .unwrap();
                let line = line.split(" < ").next().unwrap();
                let words: Vec<String> = words_of(line);
                if let Err(error) = Arguments::try_parse_from(&words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    /// Words of a shell's line, as far as our examples use a shell.
    fn words_of(line: &str) -> Vec<String> {
        let parts = line.split('\'').enumerate();
        parts
            .flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            })
            .collect()
    }

    #[test]
    fn a_value_that_was_typed_behind_a_name_is_not_shown() {
        let words = ["deploy", "secret", "set", "name", "hush"];
        let error = Arguments::try_parse_from(words).unwrap_err();
        assert!(error.to_string().contains("hush"), "clap itself shows it");
        assert!(takes_a_value(&words[1..]));
        assert!(takes_a_value(&[
            "--quiet", "secret", "--json", "rotate", "name", "hush"
        ]));
        assert!(!takes_a_value(&["secret", "list", "a", "b"]));
    }
}
