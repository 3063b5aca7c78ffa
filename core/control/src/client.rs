//! The client of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::calls::Method;
use crate::frame::{self, FrameError, FrameReader, MAX_REPLY, Patience, Reply};
use crate::{ControlError, json};

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or we may not speak to whoever does.
    #[error("secretsd does not answer on {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection ended before the answer: whether the call was done is not known.
    #[error("secretsd hung up before it answered: {0}")]
    Lost(FrameError),
    /// The answer is none.
    #[error("secretsd gave an answer that cannot be understood: {0}")]
    Answer(ControlError),
    /// secretsd refuses.
    #[error("{0}")]
    Refused(#[from] ControlError),
}

impl ClientError {
    /// The exit code of `deploy`.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Connect { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                3
            }
            ClientError::Refused(error) => error.exit_code(),
            _ => 1,
        }
    }

    /// What mends it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            ClientError::Connect { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => "run as root, or as a member of group `deploy`",
                _ => {
                    "make a store, if there is none: deploy init; start it: systemctl start secretsd, or \
                     deploy-inject up; or name its folder with --run-dir or DEPLOY_RUN_DIR"
                }
            }),
            ClientError::Lost(_) => Some("see whether it was done, then try again: deploy status"),
            ClientError::Answer(_) => Some("is secretsd of the same version as deploy?"),
            ClientError::Refused(error) => error.hint.as_deref(),
        }
    }
}

/// A connection to secretsd.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    reader: FrameReader,
}

impl Client {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(path: &Path) -> Result<Client, ClientError> {
        let failed = |source| ClientError::Connect {
            path: path.to_owned(),
            source,
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        Ok(Client {
            stream,
            reader: FrameReader::new(MAX_REPLY),
        })
    }

    /// Calls a method, and waits for its reply.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<M: Method>(&mut self, parameters: &M) -> Result<M::Reply, ClientError> {
        self.send(M::NAME, parameters, false)?;
        let frame = self.receive()?;
        let reply = Reply::parse(&frame).map_err(ClientError::Answer)?;
        understand(reply.parameters()?)
    }

    /// Calls a method that tells how far it is: `progress` gets all replies but the last.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call_more<M: Method>(
        &mut self,
        parameters: &M,
        mut progress: impl FnMut(M::Reply),
    ) -> Result<M::Reply, ClientError> {
        self.call_each(parameters, |told| {
            progress(told);
            Ok(())
        })
    }

    /// Calls a method whose result comes in parts: `each` gets all replies but the last. Once it
    /// fails no more is read, and the connection is of no use any more.
    ///
    /// # Errors
    /// What `each` says, and see [`ClientError`].
    pub fn call_each<M: Method, E: From<ClientError>>(
        &mut self,
        parameters: &M,
        mut each: impl FnMut(M::Reply) -> Result<(), E>,
    ) -> Result<M::Reply, E> {
        self.send(M::NAME, parameters, true)?;
        loop {
            let frame = self.receive()?;
            let reply = Reply::parse(&frame).map_err(ClientError::Answer)?;
            let told = understand(reply.parameters().map_err(ClientError::from)?)?;
            if !reply.continues() {
                return Ok(told);
            }
            each(told)?;
        }
    }

    /// Calls a method by its long name with parameters that are JSON text, and gives the reply's
    /// parameters as such. They may hold a value: wiped when dropped.
    ///
    /// # Errors
    /// See [`ClientError`]; parameters that are not JSON are refused before anything is sent.
    pub fn call_raw(
        &mut self,
        method: &str,
        parameters: &str,
    ) -> Result<Zeroizing<String>, ClientError> {
        let parameters: &RawValue =
            serde_json::from_str(parameters).map_err(|error| json::refusal(&error))?;
        self.send(method, parameters, false)?;
        let frame = self.receive()?;
        let reply = Reply::parse(&frame).map_err(ClientError::Answer)?;
        Ok(Zeroizing::new(reply.parameters()?.to_owned()))
    }

    fn send<T: Serialize + ?Sized>(
        &mut self,
        method: &str,
        parameters: &T,
        more: bool,
    ) -> Result<(), ClientError> {
        match frame::write_call(&mut &self.stream, method, parameters, more) {
            Ok(()) => Ok(()),
            // Whom secretsd does not serve, it tells so and hangs up before it reads anything: what
            // it said is still there to be read.
            Err(error) if is_hang_up(&error) => Ok(()),
            Err(error) => Err(ClientError::Lost(error.into())),
        }
    }

    fn receive(&mut self) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        match self.reader.read(&self.stream, Patience::default()) {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(ClientError::Lost(FrameError::Cut)),
            Err(error) => Err(ClientError::Lost(error)),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn understand<T: DeserializeOwned>(text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::Answer(json::refusal(&error)))
}

#[cfg(test)]
mod tests;
