//! The control socket as any varlink client sees it: JSON that ends with a NUL, over a socket of its
//! own, without a line of our client.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::{Pair, wait};

/// A connection.
pub struct Varlink {
    stream: UnixStream,
    read: Vec<u8>,
}

/// An error as it is on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Its name, with the interface.
    pub error: String,
    /// Its parameters.
    pub parameters: Value,
}

impl Varlink {
    /// Connects to the control socket of a pair.
    #[track_caller]
    pub fn connect(pair: &Pair) -> Varlink {
        let stream = UnixStream::connect(pair.run_folder().join("control.sock")).unwrap();
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        Varlink {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends a message as it is, and the NUL after it.
    #[track_caller]
    pub fn send(&mut self, message: &Value) {
        let mut bytes = serde_json::to_vec(message).unwrap();
        bytes.push(0);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        self.try_message().expect("an answer")
    }

    fn try_message(&mut self) -> std::io::Result<Value> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == 0) {
                let rest = self.read.split_off(end + 1);
                let message = std::mem::replace(&mut self.read, rest);
                return Ok(serde_json::from_slice(&message[..end]).unwrap());
            }
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                return Err(Error::new(
                    ErrorKind::UnexpectedEof,
                    "the daemon hung up without an answer",
                ));
            }
            self.read.extend_from_slice(&chunk[..count]);
        }
    }

    /// One call over a connection of its own. `None`: the daemon went away before it answered, and
    /// what was asked for has come about or not.
    ///
    /// # Panics
    /// No answer and no end of the connection within [`wait::LONG`].
    #[track_caller]
    pub fn once(pair: &Pair, method: &str, parameters: &Value) -> Option<Result<Value, Refused>> {
        let mut calls = Varlink::connect(pair);
        let mut bytes = serde_json::to_vec(&json!({"method": method, "parameters": parameters}));
        bytes.as_mut().unwrap().push(0);
        calls.stream.write_all(&bytes.unwrap()).ok()?;
        match calls.try_message() {
            Ok(answer) => Some(result(&answer)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("{method}: no answer"),
            Err(_) => None,
        }
    }

    /// Calls a method by its long name, and waits for the answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, Refused> {
        self.send(&json!({"method": method, "parameters": parameters}));
        result(&self.message())
    }
}

fn result(answer: &Value) -> Result<Value, Refused> {
    match answer["error"].as_str() {
        Some(error) => Err(Refused {
            error: error.to_owned(),
            parameters: answer["parameters"].clone(),
        }),
        None => Ok(answer["parameters"].clone()),
    }
}
