//! The two languages that our programs speak, and their clients.
//!
//! Operators speak varlink to secretsd over the control socket: [`frame`] says how messages look on
//! the wire, [`calls`] what may be asked, [`Client`] asks. The injector, secretsd and supervisors
//! speak over the inner link ([`inner`]), which carries descriptors too.
//!
//! Values pass through here on their way into the store and out of it: what holds one is wiped when
//! dropped, and its `Debug` prints a redaction. Errors tell a place and our own words, never what
//! stood there.
#![forbid(unsafe_code)]

pub mod calls;
pub mod frame;
pub mod inner;

mod client;
mod error;
mod introspection;
mod json;
mod payload;
mod wiped;

pub use client::{Client, ClientError};
pub use error::{ControlError, ErrorKind};
pub use introspection::{INTERFACES, interface, introspect};
pub use payload::{Coded, Encoding, Plain, SecretText};
