//! What comes over the control socket: calls to secretsd, and its replies to `deploy`.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

use control::calls::*;
use control::frame::{Call, FrameReader, MAX_CALL, Patience, write_error};
use control::{Client, ControlError, Plain};

use crate::folder::Folder;
use crate::{check_refusal, json_again};

/// What fits into a socket without anybody reading.
const FITS: usize = 64 << 10;

/// Checks `$act` for each method.
macro_rules! each_method {
    ($act:ident, $with:expr) => {
        each_method!($act; $with; Create, Set, Get, List, History, Rotate, Rollback, Delete, Grant,
            Revoke, Adopted, Readers, Grants, ConfigCreate, ConfigGet, ConfigUpdate, ConfigDelete,
            ConfigList, KeyRotate, SlotAdd, SlotList, SlotRemove, AuditQuery, AuditVerify,
            BackupMake, Status, Seal, Unseal)
    };
    ($act:ident; $with:expr; $($method:ident),*) => {{
        // A method that is missing here shows.
        assert_eq!(METHODS.len(), [$(<$method as Method>::NAME),*].len());
        [$($act::<$method>($with)),*].into_iter().any(|taken| taken)
    }};
}

/// Messages as a client sends them, each ended by a NUL: each is a call of a method that is known,
/// whose parameters come back from what is printed of them, or is refused in few words.
pub fn control_call(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(FITS)];
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(bytes).unwrap();
    ours.shutdown(Shutdown::Write).unwrap();
    let mut reader = FrameReader::new(MAX_CALL);
    let mut taken = false;
    let mut read = 0;
    while let Ok(Some(frame)) = reader.read(&theirs, Patience::default()) {
        assert_eq!(**frame, bytes[read..read + frame.len()], "other bytes");
        read += frame.len() + 1;
        match Call::parse(&frame) {
            Ok(call) => taken |= is_known(&call),
            Err(error) => refused(&error),
        }
    }
    assert!(read <= bytes.len());
    taken
}

fn is_known(call: &Call<'_>) -> bool {
    if let Some(Err(error)) = control::introspect(call) {
        refused(&error);
    }
    assert!(long_name(&call.method).is_none_or(|name| name.len() <= call.method.len() + 32));
    each_method!(takes, call)
}

fn takes<M: Method>(call: &Call<'_>) -> bool {
    if call.method != M::NAME {
        return false;
    }
    match call.parameters::<M>() {
        Ok(parameters) => {
            let printed = serde_json::to_vec(&parameters).unwrap();
            json_again::<M>(&printed).unwrap();
            value_again(&printed);
            true
        }
        Err(error) => {
            refused(&error);
            false
        }
    }
}

/// A value that comes in is the one that goes out again.
fn value_again(parameters: &[u8]) {
    let Ok(set) = serde_json::from_slice::<Set>(parameters) else {
        return;
    };
    match set.plain() {
        Ok(plain) => {
            let coded = plain.encode(set.encoding).unwrap();
            let again = Plain::decode(coded.value.as_ref(), coded.data.as_ref(), coded.encoding);
            assert!(again.unwrap() == plain, "another value");
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &ControlError) {
    check_refusal(&error.message);
    let mut reply = Vec::new();
    write_error(&mut reply, error).unwrap();
    assert_eq!(reply.pop(), Some(0));
    check_refusal(&std::str::from_utf8(&reply).unwrap());
}

/// What `deploy` reads where secretsd's reply should be.
pub fn control_reply(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(FITS)];
    let folder = Folder::new();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(bytes).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let reply = client.call_raw(Status::NAME, "{}");
    drop(client);
    let mut asked = Vec::new();
    server.read_to_end(&mut asked).unwrap();
    assert!(asked.ends_with(&[0]));
    match reply {
        Ok(parameters) => each_method!(replies, &parameters),
        Err(error) => {
            check_refusal(&error);
            assert!(error.exit_code() > 0);
            false
        }
    }
}

fn replies<M: Method>(parameters: &str) -> bool {
    json_again::<M::Reply>(parameters.as_bytes()).is_some()
}
