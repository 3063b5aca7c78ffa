//! deploy-inject: keeper, injector, and the parts of a supervisor that need a process of their own.
#![forbid(unsafe_code)]

mod arguments;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use injector::exec::{Variables, exec};
use injector::keeper::{UpOptions, up};
use injector::server::{ServeOptions, serve, serve_apart};

use crate::arguments::{Arguments, Verb};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("deploy-inject: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Up {
            state_dir,
            run,
            user,
            secretsd,
        } => up(&UpOptions {
            state_dir,
            run_dir: run.run_dir,
            user,
            secretsd,
            injector: None,
        })?,
        Verb::Serve { run, daemon_user } => serve(&ServeOptions {
            run_dir: run.run_dir,
            daemon_uid: injector::daemon_user::uid(&daemon_user)?,
        })?,
        Verb::Apart => serve_apart().context("cannot serve")?,
        Verb::Clean {
            run,
            keep_instances,
        } => injector::clean(&run.run_dir, keep_instances)
            .with_context(|| format!("cannot clean {}", run.run_dir.display()))?,
        Verb::Forget { run } => injector::forget(&run.run_dir)
            .with_context(|| format!("cannot end the views of {}", run.run_dir.display()))?,
        Verb::OnChange { run, unit } => {
            injector::supervisor::follow_unit(&run.run_dir, &unit)
                .with_context(|| format!("nobody acts on changes for {unit}"))?;
        }
        Verb::OciHook { run, manifests } => {
            injector::oci::hook(std::io::stdin(), &run.run_dir, &manifests)?;
        }
        Verb::Supervise => return Ok(exit(injector::supervisor::run_detached())),
        Verb::Look {
            secret,
            config,
            optional,
            names,
        } => injector::look::look(&secret, &config, &names, &optional)?,
        Verb::Exec {
            env,
            env_if_there,
            path_if_there,
            program,
            args,
        } => {
            let variables = Variables {
                values: env,
                values_if_there: env_if_there,
                paths_if_there: path_if_there,
            };
            return Err(exec(&variables, &program, &args).into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
