//! A connection on which both ends may ask, any number of questions at once.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use sys::lock::lock;
use sys::places::Places;

use super::Reply;
use super::wire::{self, Envelope, MAX_FRAME, MAX_FRAME_OF_INJECTOR, VERSION};

/// Questions of one peer that are being answered at once; each has a thread. More are refused, not
/// queued: a queue behind questions that wait for the peer itself would never move.
const AT_ONCE: usize = 512;

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer is gone, or went before it answered.
    #[error("the connection is closed")]
    Closed,
    /// The question cannot be sent.
    #[error("cannot send: {0}")]
    Send(io::Error),
    /// The answer is none.
    #[error("the answer cannot be understood")]
    Answer,
    /// There was no answer in time; the peer may act on the question all the same.
    #[error("no answer in {0:?}")]
    Late(Duration),
}

type Answered = (Reply, Vec<OwnedFd>);
type Handler = dyn Fn(&Link, &RawValue, Vec<OwnedFd>) -> Reply + Send + Sync;

/// One end of a connection; clones are the same end.
///
/// An end that only asks is closed with its last clone. One that answers lives until its peer hangs
/// up.
#[derive(Clone)]
pub struct Link(Arc<Owner>);

/// Hangs up when dropped.
struct Owner(Arc<Shared>);

struct Shared {
    stream: UnixStream,
    /// Holds the lock while a frame goes out, so that no two mix.
    sending: Mutex<()>,
    /// The longest frame that the peer takes, and that we take.
    limits: (usize, usize),
    waiting: Mutex<Waiting>,
    next_id: AtomicU64,
    answering: Places,
    closed: AtomicBool,
}

/// Who waits for an answer. `None` once none will come any more.
type Waiting = Option<HashMap<u64, Sender<Result<Answered, LinkError>>>>;

impl Link {
    /// Connects to the injector at `path`, to ask only.
    ///
    /// # Errors
    /// Nobody listens there, or there is no thread to be had.
    pub fn connect(path: &Path) -> io::Result<Link> {
        Link::ask_only(UnixStream::connect(path)?)
    }

    fn ask_only(stream: UnixStream) -> io::Result<Link> {
        let shared = Shared::new(stream, (MAX_FRAME, MAX_FRAME_OF_INJECTOR));
        let link = Link(Arc::new(Owner(Arc::clone(&shared))));
        // It holds no `Link`, so that the last one's end is its end.
        start("link", move || read(&shared, None))?;
        Ok(link)
    }

    /// Connects to the injector at `path`, to ask and to be asked.
    ///
    /// # Errors
    /// Nobody listens there, or there is no thread to be had.
    pub fn connect_serving<In: DeserializeOwned + 'static>(
        path: &Path,
        handler: impl Fn(&Link, In, Vec<OwnedFd>) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Link> {
        let stream = UnixStream::connect(path)?;
        Link::serving(stream, (MAX_FRAME, MAX_FRAME_OF_INJECTOR), handler)
    }

    /// The injector's end of a connection: answers what the peer asks, each question on a thread of
    /// its own, until the peer hangs up. Returns at once.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn serve<In: DeserializeOwned + 'static>(
        stream: UnixStream,
        handler: impl Fn(&Link, In, Vec<OwnedFd>) -> Reply + Send + Sync + 'static,
    ) -> io::Result<()> {
        Link::serving(stream, (MAX_FRAME_OF_INJECTOR, MAX_FRAME), handler).map(drop)
    }

    fn serving<In: DeserializeOwned + 'static>(
        stream: UnixStream,
        limits: (usize, usize),
        handler: impl Fn(&Link, In, Vec<OwnedFd>) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Link> {
        let shared = Shared::new(stream, limits);
        let link = Link(Arc::new(Owner(Arc::clone(&shared))));
        let handler: Arc<Handler> = Arc::new(move |link: &Link, body: &RawValue, fds| {
            match serde_json::from_str(body.get()) {
                Ok(body) => handler(link, body, fds),
                Err(error) => failed(format!("the question cannot be understood: {error}")),
            }
        });
        let own = link.clone();
        start("link", move || read(&shared, Some((&own, &handler))))?;
        Ok(link)
    }

    /// Asks, and waits for the answer as long as the connection lives.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn request<B: Serialize>(
        &self,
        body: &B,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answered, LinkError> {
        let (_, answered) = self.begin(body, fds)?;
        answered.recv().unwrap_or(Err(LinkError::Closed))
    }

    /// Asks, and waits for the answer as long as the connection lives, but no longer than `patience`.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn request_within<B: Serialize>(
        &self,
        patience: Duration,
        body: &B,
    ) -> Result<Reply, LinkError> {
        let (id, answered) = self.begin(body, &[])?;
        match answered.recv_timeout(patience) {
            Ok(answer) => answer.map(|(reply, _)| reply),
            Err(RecvTimeoutError::Disconnected) => Err(LinkError::Closed),
            Err(RecvTimeoutError::Timeout) => {
                if let Some(waiting) = lock(&self.0.0.waiting).as_mut() {
                    waiting.remove(&id);
                }
                Err(LinkError::Late(patience))
            }
        }
    }

    fn begin<B: Serialize>(
        &self,
        body: &B,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(u64, Receiver<Result<Answered, LinkError>>), LinkError> {
        let shared = &self.0.0;
        let body = to_raw_value(body).map_err(|error| LinkError::Send(error.into()))?;
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = channel();
        match lock(&shared.waiting).as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Err(LinkError::Closed),
        };
        let envelope = Envelope {
            id,
            version: VERSION,
            request: Some(&body),
            reply: None,
        };
        if let Err(error) = shared.send(&envelope, fds) {
            if let Some(waiting) = lock(&shared.waiting).as_mut() {
                waiting.remove(&id);
            }
            let gone = matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            );
            return Err(if gone {
                LinkError::Closed
            } else {
                LinkError::Send(error)
            });
        }
        Ok((id, answered))
    }

    /// Has the peer hung up?
    pub fn is_closed(&self) -> bool {
        self.0.0.closed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    fn new(stream: UnixStream, limits: (usize, usize)) -> Arc<Shared> {
        Arc::new(Shared {
            stream,
            sending: Mutex::new(()),
            limits,
            waiting: Mutex::new(Some(HashMap::new())),
            next_id: AtomicU64::new(1),
            answering: Places::new(AT_ONCE),
            closed: AtomicBool::new(false),
        })
    }

    fn send(&self, envelope: &Envelope<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = wire::encode(envelope, self.limits.0)?;
        let _turn = lock(&self.sending);
        let sent = wire::send(&self.stream, &frame, fds);
        // After half a frame the peer would take the next one for the rest of it.
        if let Err(error) = &sent
            && error.kind() != io::ErrorKind::InvalidInput
        {
            self.close();
        }
        sent
    }

    fn answer(&self, id: u64, reply: &Reply) {
        let sent = to_raw_value(reply)
            .map_err(io::Error::from)
            .and_then(|reply| {
                let envelope = Envelope {
                    id,
                    version: VERSION,
                    request: None,
                    reply: Some(&reply),
                };
                self.send(&envelope, &[])
            });
        // An answer that is too large must not leave the peer waiting.
        if let Err(error) = sent
            && error.kind() == io::ErrorKind::InvalidInput
            && let Ok(reply) = to_raw_value(&failed(format!("the answer cannot be sent: {error}")))
        {
            let envelope = Envelope {
                id,
                version: VERSION,
                request: None,
                reply: Some(&reply),
            };
            let _ = self.send(&envelope, &[]);
        }
    }

    /// Nobody waits in vain, on either side.
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _ = self.stream.shutdown(Shutdown::Both);
        lock(&self.waiting).take();
    }
}

fn failed(message: String) -> Reply {
    Reply::Failed { message }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map(drop)
}

/// Reads until the peer hangs up or sends what is no frame.
fn read(shared: &Arc<Shared>, serving: Option<(&Link, &Arc<Handler>)>) {
    while let Ok(Some((frame, fds))) = wire::receive(&shared.stream, shared.limits.1) {
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(&frame) else {
            break;
        };
        match (envelope.request, envelope.reply) {
            (Some(request), None) => take_question(shared, serving, &envelope, request, fds),
            (None, Some(reply)) => take_answer(shared, &envelope, reply, fds),
            _ => break,
        }
    }
    shared.close();
}

fn take_answer(shared: &Shared, envelope: &Envelope<'_>, reply: &RawValue, fds: Vec<OwnedFd>) {
    let waiting = lock(&shared.waiting)
        .as_mut()
        .and_then(|all| all.remove(&envelope.id));
    if let Some(waiting) = waiting {
        let answer = match serde_json::from_str(reply.get()) {
            Ok(reply) if envelope.version == VERSION => Ok((reply, fds)),
            _ => Err(LinkError::Answer),
        };
        // Whoever asked may have given up.
        let _ = waiting.send(answer);
    }
}

fn take_question(
    shared: &Arc<Shared>,
    serving: Option<(&Link, &Arc<Handler>)>,
    envelope: &Envelope<'_>,
    request: &RawValue,
    fds: Vec<OwnedFd>,
) {
    let id = envelope.id;
    let Some((link, handler)) = serving else {
        return shared.answer(id, &failed("this end answers no questions".to_owned()));
    };
    if envelope.version != VERSION {
        let version = envelope.version;
        let message =
            format!("version {version} of the inner link is not known here, {VERSION} is");
        return shared.answer(id, &failed(message));
    }
    let Some(place) = shared.answering.take() else {
        return shared.answer(id, &failed("too many questions at once".to_owned()));
    };
    let asked = Arc::clone(shared);
    let (link, handler, request) = (link.clone(), Arc::clone(handler), request.to_owned());
    let started = start("answer", move || {
        let answer = std::panic::catch_unwind(AssertUnwindSafe(|| handler(&link, &request, fds)));
        let answer = answer.unwrap_or_else(|_| failed("an internal error; see the log".to_owned()));
        asked.answer(id, &answer);
        drop(place);
    });
    if let Err(error) = started {
        shared.answer(id, &failed(format!("no thread for the question: {error}")));
    }
}

#[cfg(test)]
mod tests;
