//! What an operator does with a pair, as suites need it again and again.

use serde_json::Value;

use crate::command::{Finished, run};
use crate::{Pair, wait};

impl Pair {
    /// A pair with a store that a passphrase alone unseals; sealed.
    #[track_caller]
    pub fn start_sealed(passphrase: &str) -> Pair {
        let mut pair = Pair::prepare();
        let command = pair.init_command(&["--passphrase-file", "-"]);
        run(command, passphrase.as_bytes()).ok().hides(passphrase);
        pair.up();
        pair
    }

    /// Sets a secret with one value.
    #[track_caller]
    pub fn set(&self, name: &str, value: impl AsRef<[u8]>) {
        self.set_with(name, value, &[]).ok();
    }

    /// The same with more options.
    #[track_caller]
    pub fn set_with(&self, name: &str, value: impl AsRef<[u8]>, more: &[&str]) -> Finished {
        let words = [&["secret", "set", name, "--file", "-"], more].concat();
        self.deploy_with(&words, value.as_ref())
    }

    /// Sets a secret with fields, written as JSON.
    #[track_caller]
    pub fn set_fields(&self, name: &str, fields: &str, more: &[&str]) -> Finished {
        let words = [&["secret", "set", name, "--from-json", "-"], more].concat();
        self.deploy_with(&words, fields.as_bytes())
    }

    /// `deploy secret get`, with more options.
    #[track_caller]
    pub fn get(&self, name: &str, more: &[&str]) -> Finished {
        self.deploy(&[&["secret", "get", name], more].concat())
    }

    /// The numbers of the versions of a secret that are in reach, oldest first.
    #[track_caller]
    pub fn versions(&self, name: &str) -> Vec<u64> {
        let said = self.deploy(&["secret", "history", name, "--json"]).ok();
        let told = said.json()["versions"].clone();
        let number = |version: &Value| version["version"].as_u64().unwrap();
        told.as_array().unwrap().iter().map(number).collect()
    }

    /// Grants secrets to a service.
    #[track_caller]
    pub fn grant(&self, service: &str, secrets: &[&str]) {
        let words = [&["secret", "grant", service], secrets].concat();
        self.deploy(&words).ok();
    }

    /// Takes a secret back.
    #[track_caller]
    pub fn revoke(&self, service: &str, secret: &str) {
        self.deploy(&["secret", "revoke", service, secret]).ok();
    }

    /// What `deploy call` answers.
    #[track_caller]
    pub fn call(&self, method: &str, parameters: &str) -> Value {
        self.deploy(&["call", method, parameters]).ok().json()
    }

    /// What `deploy status` tells.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.deploy(&["status", "--json"]).ok().json()
    }

    /// Whether the store is sealed.
    #[track_caller]
    pub fn is_sealed(&self) -> bool {
        match self.status()["state"].as_str() {
            Some("sealed") => true,
            Some("unsealed") => false,
            other => panic!("no state: {other:?}"),
        }
    }

    /// `deploy seal`
    #[track_caller]
    pub fn seal(&self) {
        self.deploy(&["seal"]).ok();
    }

    /// `deploy unseal` by a passphrase, which it does not show.
    #[track_caller]
    pub fn unseal(&self, passphrase: &str) -> Finished {
        let words = ["unseal", "--passphrase-file", "-"];
        let said = self.deploy_with(&words, passphrase.as_bytes());
        said.hides(passphrase)
    }

    /// Adds a passphrase slot, with more options; the passphrase is not shown.
    #[track_caller]
    pub fn add_passphrase(&self, passphrase: &str, more: &[&str]) -> Finished {
        let words = [&["key", "slot", "add", "--passphrase-file", "-"], more].concat();
        let said = self.deploy_with(&words, passphrase.as_bytes());
        said.hides(passphrase)
    }

    /// The key slots.
    #[track_caller]
    pub fn slots(&self) -> Vec<Value> {
        let said = self.deploy(&["key", "slot", "list", "--json"]).ok().json();
        said["slots"].as_array().unwrap().clone()
    }

    /// Kills secretsd, and waits for the next one to answer.
    #[track_caller]
    pub fn kill_secretsd(&self) {
        let pid = self.secretsd();
        crate::traces::signal(pid, rustix::process::Signal::KILL, wait::LONG);
        wait::until("the next secretsd to answer", || {
            let others = self.traces().running("secretsd");
            let next = others.into_iter().any(|other| other != pid);
            (next && self.deploy(&["status"]).code == 0).then_some(())
        });
    }
}
