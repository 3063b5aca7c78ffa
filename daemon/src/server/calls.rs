//! One connection: reads calls one after the other, answers each, until the peer hangs up, sends too
//! much, or takes too long.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use control::ControlError;
use control::calls::{self, Method};
use control::frame::{self, Call, FrameError, FrameReader, Patience};
use serde::Serialize;
use store::Operator;

use super::{audit, backups, config, daemon, keys, secret};
use crate::host::Host;

/// Between two calls, and for one whole call.
const PATIENCE: Patience = Patience {
    idle: Some(Duration::from_secs(60)),
    message: Some(Duration::from_secs(10)),
};
/// A peer that has not taken a whole answer within this time is let go.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Serves one connection to its end.
pub(super) fn serve(
    stream: &UnixStream,
    host: &Host,
    operator: &Operator,
) -> Result<(), FrameError> {
    let mut reader = FrameReader::new(frame::MAX_CALL);
    loop {
        let frame = match reader.read(stream, PATIENCE) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(error) => {
                if let FrameError::TooLarge(_) = error {
                    let refusal = ControlError::invalid(error.to_string())
                        .hint("a value is at most 1 MiB, in all its fields together");
                    let _ = frame::write_error(&mut Timed::new(stream), &refusal);
                }
                return Err(error);
            }
        };
        match Call::parse(&frame) {
            Ok(call) => dispatch(&Exchange {
                stream,
                host,
                operator,
                call: &call,
            })?,
            Err(error) => frame::write_error(&mut Timed::new(stream), &error)?,
        }
    }
}

/// A call, by whom, and where its answer goes.
pub(super) struct Exchange<'a> {
    stream: &'a UnixStream,
    pub host: &'a Host,
    pub operator: &'a Operator,
    pub call: &'a Call<'a>,
}

impl Exchange<'_> {
    /// Does what a method is for, and answers.
    fn by<M: Method>(
        &self,
        act: impl FnOnce(&Host, &Operator, M) -> Result<M::Reply, ControlError>,
    ) -> io::Result<()> {
        let parameters = self.call.parameters::<M>();
        self.answer(parameters.and_then(|asked| act(self.host, self.operator, asked)))
    }

    /// The answer, or the last of several.
    pub fn answer<R: Serialize>(&self, result: Result<R, ControlError>) -> io::Result<()> {
        if self.call.oneway {
            return Ok(());
        }
        match result {
            Ok(reply) => frame::write_reply(&mut Timed::new(self.stream), &reply, false),
            Err(error) => frame::write_error(&mut Timed::new(self.stream), &error),
        }
    }

    /// A caller that writes to a slow disk takes its time for each answer: it gets all of the limit.
    pub fn be_patient(&self) -> io::Result<()> {
        self.stream.set_write_timeout(Some(ANSWER_LIMIT))
    }

    /// Has the caller gone? Whoever follows something is told nothing for a long time.
    pub fn has_hung_up(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(self.stream, PollFlags::RDHUP)];
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(gone)
    }

    /// One of several answers, for a caller that takes them.
    pub fn answer_more<R: Serialize>(&self, reply: &R) -> io::Result<()> {
        if self.call.oneway || !self.call.more {
            return Ok(());
        }
        frame::write_reply(&mut Timed::new(self.stream), reply, true)
    }
}

fn dispatch(exchange: &Exchange<'_>) -> io::Result<()> {
    let call = exchange.call;
    if call.upgrade {
        let refusal = ControlError::invalid("there is no other protocol to upgrade to");
        return exchange.answer(Err::<(), _>(refusal));
    }
    if let Some(answer) = control::introspect(call) {
        return exchange.answer(answer);
    }
    match call.method.as_str() {
        calls::Create::NAME => exchange.by(secret::create),
        calls::Set::NAME => exchange.by(secret::set),
        calls::Get::NAME => exchange.by(secret::get),
        calls::List::NAME => exchange.by(secret::list),
        calls::History::NAME => exchange.by(secret::history),
        calls::Rotate::NAME => exchange.by(secret::rotate),
        calls::Rollback::NAME => exchange.by(secret::rollback),
        calls::Delete::NAME => exchange.by(secret::delete),
        calls::Grant::NAME => exchange.by(secret::grant),
        calls::Revoke::NAME => exchange.by(secret::revoke),
        calls::Adopted::NAME => exchange.by(secret::adopted),
        calls::Readers::NAME => exchange.by(secret::readers),
        calls::Grants::NAME => exchange.by(secret::grants),
        calls::ConfigCreate::NAME => exchange.by(config::create),
        calls::ConfigGet::NAME => exchange.by(config::get),
        calls::ConfigUpdate::NAME => exchange.by(config::update),
        calls::ConfigDelete::NAME => exchange.by(config::delete),
        calls::ConfigList::NAME => exchange.by(config::list),
        calls::KeyRotate::NAME => keys::rotate(exchange),
        calls::SlotAdd::NAME => exchange.by(keys::slot_add),
        calls::SlotList::NAME => exchange.by(keys::slot_list),
        calls::SlotRemove::NAME => exchange.by(keys::slot_remove),
        calls::AuditQuery::NAME => audit::query(exchange),
        calls::AuditVerify::NAME => exchange.by(audit::verify),
        calls::BackupMake::NAME => backups::make(exchange),
        calls::Status::NAME => exchange.by(daemon::status),
        calls::Seal::NAME => exchange.by(daemon::seal),
        calls::Unseal::NAME => exchange.by(daemon::unseal),
        method => exchange.answer(Err::<(), _>(ControlError::no_method(method))),
    }
}

/// Writes with a limit on the whole answer: a peer that takes a byte now and then would otherwise
/// stay for ever.
pub(super) struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    pub(super) fn new(stream: &'a UnixStream) -> Timed<'a> {
        Timed {
            stream,
            until: Instant::now() + ANSWER_LIMIT,
        }
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Each write has the stream's own, shorter limit.
        let mut stream = self.stream;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
