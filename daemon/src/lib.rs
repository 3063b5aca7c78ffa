//! secretsd: keys, store, views and decisions. It has no capability and no network, and can start no
//! program; what needs root is done by the injector, which hands it descriptors.
//!
//! [`start`] says in which order it comes up. [`host`] is the one place where an operator's act
//! becomes a change of the store, then of the views, then rings at the injector. [`server`] speaks
//! varlink to operators, [`injector`] the inner link.
#![forbid(unsafe_code)]

mod apart;
mod args;
mod audit;
mod audit_verify;
mod backup_verify;
mod device;
mod host;
mod housekeeping;
mod init;
mod injector;
mod journal;
mod membership;
mod restore;
mod serve;
mod server;
mod start;
mod watchdog;
mod witness;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Verb};

/// Runs the program: reads the command line, and serves, or makes a store.
pub fn run() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Serve(folders) => serve::serve(folders),
        Verb::Apart => apart::run(),
        Verb::Init(options) => init::init(options),
        Verb::AuditVerify(options) => match audit_verify::verify(&options) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Verb::BackupVerify(options) => backup_verify::verify(&options),
        Verb::Restore(options) => restore::restore(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("secretsd: {error:#}");
            backup_verify::exit_code(&error)
        }
    }
}
