//! The operators' tree: for root, a connection of its own, with direct I/O and outside the fences of
//! instances.
//!
//! | path | what it is |
//! |---|---|
//! | `ctl` | one write is one command; see [`CtlLine`] |
//! | `store/NAME` | the sealed record of the newest version |
//! | `grants/SERVICE` | a line for each secret |
//! | `key` | shows that there is one; never readable |

mod adapter;
mod ctl;
mod names;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use model::{SecretName, ServiceName};

pub use self::ctl::CtlLine;
use crate::handover::Handover;
use crate::inflight::InFlight;
use crate::takeover;
use crate::unanswered;

/// Why something is not done or shown.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The store is sealed.
    #[error("the store is sealed")]
    Sealed,
    /// There is no secret of this name.
    #[error("there is no such secret")]
    NotFound,
    /// The store failed, or something else did.
    #[error("{0}")]
    Failed(String),
}

/// What the tree shows, and does.
pub trait OperatorActs: Send + Sync + 'static {
    /// Does what was written to `ctl`; returns when it is durable. For `rotate-key`: when it has
    /// begun.
    ///
    /// # Errors
    /// Nothing has changed.
    fn command(&self, line: CtlLine, uid: u32) -> Result<(), CtlError>;
    /// All secrets.
    ///
    /// # Errors
    /// The store is sealed.
    fn secrets(&self) -> Result<Vec<SecretName>, CtlError>;
    /// The sealed record of a secret's newest version.
    ///
    /// # Errors
    /// There is no such secret, or the store is sealed.
    fn record(&self, name: &SecretName) -> Result<Vec<u8>, CtlError>;
    /// All services that have a grant.
    ///
    /// # Errors
    /// The store is sealed.
    fn services(&self) -> Result<Vec<ServiceName>, CtlError>;
    /// The grants of a service, a line for each secret; empty: none.
    ///
    /// # Errors
    /// The store is sealed.
    fn grants(&self, service: &ServiceName) -> Result<String, CtlError>;
}

/// Serves the operators' tree on a connection, from threads of its own, until it ends.
///
/// # Errors
/// The connection has ended, or is not what `handover` says.
pub fn serve_operator(
    device: OwnedFd,
    acts: Arc<dyn OperatorActs>,
    handover: &Handover,
) -> io::Result<()> {
    let begun = takeover::begin(&device, handover)?;
    let in_flight = Arc::new(InFlight::of(&handover.memfd)?);
    let tree = adapter::OperatorTree::start(acts, Arc::clone(&in_flight))?;
    let session = takeover::session(tree, &device, &begun, 1)?;
    if !handover.fresh {
        // An operator sees an error, and types it again.
        unanswered::settle(&device, &in_flight, handover.sweep, |_| Ok(()))?;
    }
    takeover::run("operator", session)
}
