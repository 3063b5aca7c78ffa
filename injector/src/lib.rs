//! deploy-inject: everything that happens as root around secretsd, which may not do it itself.
//!
//! Three kinds of process, one module each. The [`keeper`] starts secretsd and the injector, starts
//! them again, and holds their descriptors; under systemd, systemd itself is the keeper. The
//! injector ([`server`]) makes FUSE connections, mounts, attaches views and rings; it is the parent
//! of no service. A [`supervisor`] is the parent of one service and runs inside `deploy run`.
//!
//! Nothing here holds a key or sees a value, and none of it links the store.
#![forbid(unsafe_code)]

pub mod daemon_user;
pub mod exec;
pub mod keeper;
pub mod look;
pub mod mounts;
pub mod oci;
pub mod run_dir;
pub mod server;
pub mod supervisor;
pub mod unit;

mod apply;
mod changes;
mod clean;
mod explain;
mod folders;
mod installed;
mod journal;
mod notify;
mod owners;
mod plan;
mod process;
mod registry;
mod signals;

#[cfg(test)]
mod testing;

pub use clean::{clean, forget};
pub use daemon_user::{as_daemon_user, as_daemon_user_with_stdin};
pub use installed::installed;
