//! The proof that a reader may have a secret's values, and how it ends.
//!
//! A permit shares a [`Cell`] with the catalog. A revoke writes the cell first and the disk later,
//! so that every permit of it is invalid from one atomic store on; checking one costs two loads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use model::{Identity, SecretName, ServiceName, Timestamp};

use crate::clock::{self, End};
use crate::operator::Operator;

const VALID: u8 = 0;
const REVOKED: u8 = 1;
const SEALED: u8 = 2;

/// Who asks for a permit.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'a> {
    /// An instance of a service; needs a grant.
    Instance {
        /// Its service.
        service: &'a ServiceName,
        /// The instance's number.
        number: u32,
        /// What the kernel and the injector say of it: a pinned grant asks for it.
        identity: &'a Identity,
    },
    /// An operator; may read every secret.
    Operator(&'a Operator),
}

/// How a permit stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Values may be opened.
    Valid,
    /// Revoked, or the secret was deleted; for ever.
    Revoked,
    /// Its `until` is past.
    Expired,
    /// The store was sealed after this permit was given; ask for a new one after the unseal.
    Sealed,
}

/// The state that permits and the catalog share: of one grant, or of one secret for operators.
pub(crate) struct Cell {
    state: AtomicU8,
    /// The two halves of an [`End`].
    until: AtomicU64,
    uptime: AtomicU64,
}

impl Cell {
    pub(crate) fn new(end: End) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(VALID),
            until: AtomicU64::new(end.until),
            uptime: AtomicU64::new(end.uptime),
        })
    }

    pub(crate) fn set_end(&self, end: End) {
        self.until.store(end.until, Ordering::Release);
        self.uptime.store(end.uptime, Ordering::Release);
    }

    pub(crate) fn end(&self) -> End {
        End {
            until: self.until.load(Ordering::Acquire),
            uptime: self.uptime.load(Ordering::Acquire),
        }
    }

    pub(crate) fn revoke(&self) {
        self.state.store(REVOKED, Ordering::SeqCst);
    }

    /// Sealing does not bring a revoked one back to a milder state.
    pub(crate) fn seal(&self) {
        let _ = self
            .state
            .compare_exchange(VALID, SEALED, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn standing(&self) -> Standing {
        match self.state.load(Ordering::Acquire) {
            VALID => match self.end() {
                End::NEVER => Standing::Valid,
                end if end.left() > 0 => Standing::Valid,
                _ => Standing::Expired,
            },
            SEALED => Standing::Sealed,
            _ => Standing::Revoked,
        }
    }
}

/// The proof that a reader may open the values of one secret. Only [`Store::permit`] makes one.
///
/// [`Store::permit`]: crate::Store::permit
#[derive(Clone)]
pub struct Permit {
    inner: Arc<PermitInner>,
}

struct PermitInner {
    secret: SecretName,
    /// `None` for an operator.
    instance: Option<(ServiceName, u32)>,
    cell: Arc<Cell>,
}

impl Permit {
    pub(crate) fn new(secret: SecretName, reader: Reader<'_>, cell: Arc<Cell>) -> Self {
        let instance = match reader {
            Reader::Instance {
                service, number, ..
            } => Some((service.clone(), number)),
            Reader::Operator(_) => None,
        };
        Self {
            inner: Arc::new(PermitInner {
                secret,
                instance,
                cell,
            }),
        }
    }

    /// Whether values may still be opened: neither revoked nor expired nor sealed since.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.standing() == Standing::Valid
    }

    /// Valid, or why not. Three atomic loads, and a look at the clocks for a grant that ends.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.inner.cell.standing()
    }

    /// The secret that may be opened.
    #[must_use]
    pub fn secret(&self) -> &SecretName {
        &self.inner.secret
    }

    /// The service and the number of the instance; `None` for an operator.
    #[must_use]
    pub fn instance(&self) -> Option<(&ServiceName, u32)> {
        self.inner
            .instance
            .as_ref()
            .map(|(service, number)| (service, *number))
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("secret", &self.inner.secret)
            .field("instance", &self.inner.instance)
            .field("standing", &self.standing())
            .finish()
    }
}

/// The time now, by the wall clock, in whole seconds.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(clock::wall())
}
