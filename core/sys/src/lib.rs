//! What the kernel does for us and the standard library does not: namespaces, mounts, processes that
//! wait before their exec, pidfds, cgroups, locked memory, the keyring, seccomp.
//!
//! The only crate of the project with `unsafe`. Each block says why it is sound; where rustix has a
//! safe wrapper, that is used. Nothing here knows a secret, a manifest or a view.

pub mod apart;
pub mod cgroup;
pub mod fault;
pub mod fuse;
pub mod keyring;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod peer;
pub mod places;
pub mod process;
pub mod reader;
pub mod sandbox;
pub mod shared;
pub mod users;
