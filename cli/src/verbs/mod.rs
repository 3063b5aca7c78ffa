//! The verbs, one file each: what it takes, and what it does.

pub mod audit;
pub mod backup;
pub mod call;
pub mod completion;
pub mod config;
pub mod doctor;
pub mod import;
pub mod init;
pub mod key;
pub mod man;
pub mod plan;
pub mod ps;
pub mod reload;
pub mod restore;
pub mod run;
pub mod seal;
pub mod secret;
pub mod status;
pub mod stop;
pub mod unit;
pub mod unseal;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::arguments::{Arguments, Verb};
use crate::context::Context;
use crate::failure::{Failure, report};

/// Does what the arguments say; gives the exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    let context = Context::new(&arguments.global);
    dispatch(&arguments.verb, &context).unwrap_or_else(|error| report(&error, context.json))
}

fn dispatch(verb: &Verb, context: &Context) -> Result<ExitCode> {
    match verb {
        // A program of its own says what went wrong there, and gives the exit code.
        Verb::Init(args) => return init::init(args, context),
        Verb::Run(args) => return run::run(args, context),
        Verb::Plan(args) => return plan::plan(args, context),
        Verb::Audit(args) => return audit::audit(args, context),
        Verb::Backup(args) => return backup::backup(args, context),
        Verb::Restore(args) => return restore::restore(args, context),
        Verb::Doctor(args) => return doctor::doctor(args, context),
        Verb::Import(args) => import::import(args, context),
        Verb::Status(args) => status::status(args, context),
        Verb::Seal(args) => seal::seal(args, context),
        Verb::Unseal(args) => unseal::unseal(args, context),
        Verb::Secret(args) => secret::secret(args, context),
        Verb::Config(args) => config::config(args, context),
        Verb::Reload(args) => reload::reload(args, context),
        Verb::Ps(args) => ps::ps(args, context),
        Verb::Stop(args) => stop::stop(args, context),
        Verb::Unit(args) => unit::unit(args, context),
        Verb::Key(args) => key::key(args, context),
        Verb::Call(args) => call::call(args, context),
        Verb::Completion(args) => completion::completion(args),
        Verb::Man(args) => man::man(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// An exit code that another program gave.
fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A program of ours.
pub fn installed(name: &str) -> Result<PathBuf> {
    Ok(injector::installed(name).map_err(|error| {
        Failure::failed(error.to_string()).hint("name the program with --secretsd")
    })?)
}
