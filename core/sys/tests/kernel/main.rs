//! Against the real kernel, as root: what core/sys promises of it.
#![allow(clippy::unwrap_used, missing_docs)]

mod apart;
mod cgroup;
mod common;
mod descriptors;
mod fault;
mod fuse;
mod helper;
mod keyring;
mod memory;
mod old_kernel;
mod paused;
mod peer;
mod privileges;
mod process;
mod reader;
mod sandbox;
mod terminal;
mod users;
