//! A pair with a secret and a file on tmpfs that says the same, and services that read both.

use std::process::Command;

use serde::de::DeserializeOwned;
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::powercut::Disk;
use tests::{Pair, Service};

use crate::reader::Order;

/// 64 bytes, as a password with some settings around it.
pub const VALUE: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
/// Where a service sees the secret.
pub const SECRET: &str = "/secret/secret";

/// The pair.
pub struct Stage {
    pub pair: Pair,
    user: ClaimedUser,
}

/// A service.
pub struct Reader(Service);

impl Stage {
    pub fn start() -> Stage {
        Stage::with(Pair::start())
    }

    /// Its store is on a disk of ours.
    pub fn start_on(disk: &Disk) -> Stage {
        Stage::with(Pair::start_on(disk))
    }

    fn with(pair: Pair) -> Stage {
        pair.set("secret", VALUE);
        let tmpfs = pair.folder().join("tmpfs");
        std::fs::create_dir(&tmpfs).unwrap();
        // Below the pair's folder, so that it goes with it.
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "tmpfs"]).arg(&tmpfs);
        run(mount, b"").ok();
        std::fs::write(tmpfs.join("file"), VALUE).unwrap();
        let user = ClaimedUser::claim();
        Stage { pair, user }
    }

    /// The file on tmpfs.
    pub fn yardstick(&self) -> String {
        self.pair.folder().join("tmpfs/file").display().to_string()
    }

    /// A service of that name: a quota of the audit log is a service's.
    pub fn reader(&self, name: &str) -> Reader {
        self.pair.grant(name, &["secret"]);
        let program = self.pair.for_services("bench");
        let asked = Asked::service(name)
            .user(self.user.uid())
            .secrets(&["secret"])
            .config(&[("key", VALUE)])
            .command(&[program.to_str().unwrap(), "reader"]);
        Reader(self.pair.run(&asked))
    }
}

impl Reader {
    /// Gives an order that is answered more than once, or when something has happened.
    pub fn tell(&mut self, order: &Order) {
        self.0.write(&serde_json::to_string(order).unwrap());
    }

    pub fn answer<T: DeserializeOwned>(&mut self) -> T {
        serde_json::from_str(&self.0.line()).unwrap()
    }

    pub fn ask<T: DeserializeOwned>(&mut self, order: &Order) -> T {
        self.tell(order);
        self.answer()
    }

    /// Ends an order that goes on until the next line.
    pub fn ends<T: DeserializeOwned>(&mut self) -> T {
        self.0.write("");
        self.answer()
    }
}
