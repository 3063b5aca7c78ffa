//! Names, manifests, grants: what is parsed once, at the edge, into a type that everything later
//! takes. No I/O; nothing here asks a clock, a file or the kernel.
//!
//! No error of this crate carries a value of a config or of a secret: it says a place, what was
//! expected there, and the nearest right word.
#![forbid(unsafe_code)]

mod entry;
mod grant;
mod manifest;
mod name;
mod text;
mod time;

pub use entry::{Entry, Tree};
pub use grant::{Grant, Identity, PinError, Pins, is_unit};
pub use manifest::{
    Audit, MAX_COUNT, MAX_TEXT, Manifest, ManifestError, Modes, ModesError, OnChange, Restart,
    SecretRequest, Targets, TargetsError,
};
pub use name::{ConfigKey, ConfigName, FieldName, NameError, SecretName, ServiceName};
pub use text::nearest;
pub use time::Timestamp;
