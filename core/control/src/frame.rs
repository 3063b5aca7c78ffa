//! Varlink on the wire: each message is a JSON object, ended by a NUL.
//!
//! Size and time are limited while a message comes in, so that a peer that sends too much, or half
//! a message and then nothing, costs its own connection and no other.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::calls::Method;
use crate::wiped::Wiped;
use crate::{ControlError, json};

/// The longest call that secretsd takes: 1 MiB of value as base64 or escaped text, and more.
pub const MAX_CALL: usize = 4 << 20;
/// The longest reply that a client takes: a list of hundreds of thousands of names.
pub const MAX_REPLY: usize = 64 << 20;
/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is longer than the reader takes.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// Nothing, or not all of it, came in time.
    #[error("no whole message in time")]
    Late,
    /// The peer hung up in the middle of it.
    #[error("the peer hung up in the middle of a message")]
    Cut,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How long a reader waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// For the first byte of a message; `None`: for ever.
    pub idle: Option<Duration>,
    /// From the first byte of a message to its last; `None`: for ever.
    pub message: Option<Duration>,
}

/// Reads messages from a stream, one after the other.
#[derive(Debug)]
pub struct FrameReader {
    limit: usize,
    buffer: Wiped,
}

impl FrameReader {
    /// Takes messages of at most `limit` bytes.
    pub fn new(limit: usize) -> FrameReader {
        FrameReader {
            limit,
            buffer: Wiped::default(),
        }
    }

    /// The next message, without its NUL; `None` if the peer has hung up between two messages.
    ///
    /// # Errors
    /// See [`FrameError`]; nothing can be read after one.
    pub fn read(
        &mut self,
        stream: &UnixStream,
        patience: Patience,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
        let mut began = Instant::now();
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == 0) {
                let at = searched + at;
                if at > self.limit {
                    return Err(FrameError::TooLarge(self.limit));
                }
                return Ok(Some(self.buffer.take(at, 1)));
            }
            searched = self.buffer.len();
            if searched > self.limit {
                return Err(FrameError::TooLarge(self.limit));
            }
            let waits = if searched == 0 {
                patience.idle
            } else {
                patience.message
            };
            stream.set_read_timeout(left(waits, began)?)?;
            let most = CHUNK.min(self.limit + 1 - searched);
            match self.buffer.fill(most, |room| (&*stream).read(room)) {
                Ok(0) if searched == 0 => return Ok(None),
                Ok(0) => return Err(FrameError::Cut),
                Ok(_) if searched == 0 => began = Instant::now(),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        return Err(FrameError::Late);
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

/// What is left of a time limit. Zero would mean "for ever" to the kernel.
fn left(limit: Option<Duration>, began: Instant) -> Result<Option<Duration>, FrameError> {
    match limit.map(|limit| limit.saturating_sub(began.elapsed())) {
        Some(Duration::ZERO) => Err(FrameError::Late),
        left => Ok(left),
    }
}

/// A call as it came in. Its parameters are still text, in the frame that is wiped.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call<'a> {
    /// The method's long name.
    pub method: String,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    /// The caller takes several replies.
    #[serde(default)]
    pub more: bool,
    /// The caller wants no reply.
    #[serde(default)]
    pub oneway: bool,
    /// The caller wants another protocol afterwards; we have none.
    #[serde(default)]
    pub upgrade: bool,
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl<'a> Call<'a> {
    /// What a frame says.
    ///
    /// # Errors
    /// It is no call: [`ErrorKind::Invalid`](crate::ErrorKind::Invalid).
    pub fn parse(frame: &'a [u8]) -> Result<Call<'a>, ControlError> {
        serde_json::from_slice(frame).map_err(|error| json::refusal(&error))
    }

    /// The parameters of the method that this call is for.
    ///
    /// # Errors
    /// They are not what the method takes.
    pub fn parameters<M: Method>(&self) -> Result<M, ControlError> {
        let text = self.parameters.map_or("{}", RawValue::get);
        // A structure can be written as a list of its members too; nobody means that.
        if !text.trim_start().starts_with('{') {
            return Err(ControlError::invalid(
                "the parameters are not a JSON object",
            ));
        }
        serde_json::from_str(text).map_err(|error| json::refusal(&error))
    }
}

/// Writes a call.
///
/// # Errors
/// Writing failed.
pub fn write_call<T: Serialize + ?Sized>(
    to: &mut impl Write,
    method: &str,
    parameters: &T,
    more: bool,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Out<'a, T: ?Sized> {
        method: &'a str,
        parameters: &'a T,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    }
    write(
        to,
        &Out {
            method,
            parameters,
            more,
        },
    )
}

/// Writes a reply; `continues` says that another one follows.
///
/// # Errors
/// Writing failed.
pub fn write_reply<T: Serialize + ?Sized>(
    to: &mut impl Write,
    parameters: &T,
    continues: bool,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Out<'a, T: ?Sized> {
        parameters: &'a T,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    write(
        to,
        &Out {
            parameters,
            continues,
        },
    )
}

/// Writes an error instead of a reply.
///
/// # Errors
/// Writing failed.
pub fn write_error(to: &mut impl Write, error: &ControlError) -> io::Result<()> {
    #[derive(Serialize)]
    struct Out<'a, T> {
        error: &'a str,
        parameters: T,
    }
    let parameters = error.parameters();
    write(
        to,
        &Out {
            error: error.kind.name(),
            parameters,
        },
    )
}

fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    let mut frame = Wiped::default();
    serde_json::to_writer(&mut frame, message)?;
    frame.write_all(&[0])?;
    to.write_all(&frame)?;
    to.flush()
}

/// A reply as it came in.
#[derive(Deserialize)]
pub(crate) struct Reply<'a> {
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    continues: bool,
}

impl<'a> Reply<'a> {
    pub fn parse(frame: &'a [u8]) -> Result<Reply<'a>, ControlError> {
        serde_json::from_slice(frame).map_err(|error| json::refusal(&error))
    }

    pub fn continues(&self) -> bool {
        self.continues
    }

    /// The text of the parameters, or the error.
    pub fn parameters(&self) -> Result<&'a str, ControlError> {
        match &self.error {
            Some(error) => Err(ControlError::of_wire(
                error,
                self.parameters.map(RawValue::get),
            )),
            None => Ok(self.parameters.map_or("{}", RawValue::get)),
        }
    }
}

#[cfg(test)]
mod tests;
