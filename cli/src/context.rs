//! What all verbs share: where secretsd is, and how results are shown.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context as _, Result};
use control::calls::{ConfigList, List, Method};
use control::{Client, ClientError, ErrorKind};
use injector::run_dir::RunDir;
use model::nearest;
use serde::Serialize;

use crate::arguments::Global;
use crate::failure::Failure;

/// The run folder, and how results are shown.
#[derive(Debug)]
pub struct Context {
    pub run_dir: RunDir,
    pub json: bool,
    pub quiet: bool,
}

impl Context {
    pub fn new(global: &Global) -> Context {
        Context {
            run_dir: RunDir::new(&global.run_dir),
            json: global.json,
            quiet: global.quiet,
        }
    }

    /// A connection to secretsd.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::connect(&self.run_dir.control_socket())
    }

    /// One call over a connection of its own.
    pub fn call<M: Method>(&self, parameters: &M) -> Result<M::Reply, ClientError> {
        self.client()?.call(parameters)
    }

    /// A call about secrets: one that is not there is told with the nearest that is.
    pub fn call_about_secrets<M: Method>(
        &self,
        parameters: &M,
        names: &[&str],
    ) -> Result<M::Reply, ClientError> {
        self.call(parameters).map_err(|error| {
            self.with_nearest(error, names, "deploy secret list", || {
                let listed = self.call(&List::default()).ok()?;
                Some(
                    listed
                        .secrets
                        .iter()
                        .map(|one| one.name.to_string())
                        .collect(),
                )
            })
        })
    }

    /// The same for a stored config.
    pub fn call_about_config<M: Method>(
        &self,
        parameters: &M,
        name: &str,
    ) -> Result<M::Reply, ClientError> {
        self.call(parameters).map_err(|error| {
            self.with_nearest(error, &[name], "deploy config list", || {
                let listed = self.call(&ConfigList::default()).ok()?;
                Some(
                    listed
                        .configs
                        .iter()
                        .map(|one| one.name.to_string())
                        .collect(),
                )
            })
        })
    }

    fn with_nearest(
        &self,
        error: ClientError,
        names: &[&str],
        list: &str,
        all: impl FnOnce() -> Option<Vec<String>>,
    ) -> ClientError {
        let ClientError::Refused(refused) = error else {
            return error;
        };
        if refused.kind != ErrorKind::NotFound {
            return refused.into();
        }
        let Some(all) = all() else {
            return refused.into();
        };
        let missing: Vec<&&str> = names
            .iter()
            .filter(|name| !all.iter().any(|one| one == *name))
            .collect();
        if missing.is_empty() {
            // It is something else that is not there: a field, a version.
            return refused.into();
        }
        let near = missing
            .iter()
            .find_map(|name| nearest(name, all.iter().map(String::as_str)));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`? see all: {list}"),
            None => format!("see all: {list}"),
        };
        refused.hint(hint).into()
    }

    /// A result: as JSON, or as the text that `text` makes of it.
    pub fn show<T: Serialize>(&self, result: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json {
            print(&json(result)?)
        } else {
            print(&text(result))
        }
    }

    /// A result that only confirms: as JSON, or as a line, which --quiet leaves out.
    pub fn confirm<T: Serialize>(&self, result: &T, line: impl FnOnce(&T) -> String) -> Result<()> {
        match (self.json, self.quiet) {
            (true, _) => print(&json(result)?),
            (false, true) => Ok(()),
            (false, false) => print(&format!("{}\n", line(result))),
        }
    }

    /// May progress be shown?
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }
}

fn json<T: Serialize>(result: &T) -> Result<String> {
    // Indented for people, one line for programs.
    let mut text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(result)?
    } else {
        serde_json::to_string(result)?
    };
    text.push('\n');
    Ok(text)
}

/// Prints text that ends its lines itself.
pub fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.context("cannot write to standard output")
}

/// Refuses what only root can do, before any of it is done.
pub fn require_root(what: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::denied(format!("{what} is root's alone"))
        .hint("run it by sudo")
        .into())
}
