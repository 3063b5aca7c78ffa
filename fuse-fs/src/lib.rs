//! Views as a tree that knows no kernel, and the thin adapter that shows it to fuser.
//!
//! [`Views`] holds every instance: which names it has, which version each name leads to, and whether
//! its permits still stand. The `adapter` asks it and answers the kernel; `takeover` puts the
//! adapter on a FUSE connection, a new one or one that another secretsd has left; `pool` tells the
//! kernel what it must forget. Errnos are in one file, [`errno`].
//!
//! A change of what is shown goes in one order: the state, so that no handler answers with the old
//! one any more; then a wait for the handlers that are answering; then the kernel's caches.
#![forbid(unsafe_code)]

mod adapter;
mod errno;
mod handover;
mod inflight;
mod inode;
mod kernel;
mod live;
mod operator;
mod pool;
mod spec;
mod takeover;
mod tree;
mod unanswered;
mod units;

pub use handover::Handover;
pub use kernel::tell_the_kernel;
pub use operator::{CtlError, CtlLine, OperatorActs, serve_operator};
pub use spec::{
    Access, AccessKind, AccessVerdict, Gone, InstanceKey, InstanceSpec, MakeError, Membership,
    NoInstance, RingPath, SecretSpec, Touched, Units, Unwritten, ViewsStatus, Witness,
};
pub use takeover::serve;
pub use tree::Views;
