//! What comes over the inner link: to the injector, to secretsd, and back.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::inner::{FromInjector, InstanceRecord, Link, Reply, RingTarget, ToInjector};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json_again;

/// What fits into a socket without anybody reading.
const FITS: usize = 64 << 10;
/// Half a frame, and then the end, is told at once; half a frame alone takes ten seconds.
const PATIENCE: Duration = Duration::from_secs(9);

/// The body of a message, either way; and the record of an instance, which is a file too.
pub fn inner_message(bytes: &[u8]) -> bool {
    let to = json_again::<ToInjector>(bytes);
    if let Some(ToInjector::Ring { targets } | ToInjector::Unlink { targets }) = &to {
        // A number that is not the instance's own would ring for another one.
        for target in targets {
            target.instance();
        }
    }
    let target = json_again::<RingTarget>(bytes).map(|target| target.instance());
    to.is_some()
        | target.is_some()
        | json_again::<FromInjector>(bytes).is_some()
        | json_again::<Reply>(bytes).is_some()
        | json_again::<InstanceRecord>(bytes).is_some()
}

/// A connection: whatever is sent, the other end answers questions alone, each once, and hangs up.
pub fn inner_link(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(FITS)];
    let at_injector = asked::<ToInjector>(bytes);
    let at_secretsd = asked::<FromInjector>(bytes);
    at_injector > 0 || at_secretsd > 0
}

/// How many questions are understood of these bytes.
fn asked<In: Serialize + DeserializeOwned + 'static>(bytes: &[u8]) -> usize {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let understood = Arc::new(Mutex::new(0));
    let wrong = Arc::new(Mutex::new(None));
    let (counted, told) = (Arc::clone(&understood), Arc::clone(&wrong));
    Link::serve(theirs, move |_, question: In, fds| {
        *counted.lock().unwrap() += 1;
        // A panic would end here in a refusal.
        let printed = serde_json::to_string(&question).unwrap_or_default();
        let again = serde_json::from_str::<In>(&printed).map(|one| serde_json::to_string(&one));
        if !matches!(again, Ok(Ok(again)) if again == printed) || !fds.is_empty() {
            *told.lock().unwrap() = Some(printed);
        }
        Reply::Ok
    })
    .unwrap();
    ours.write_all(bytes).unwrap();
    // What is no frame has the other end hang up at once, and then this end is closed already.
    let _ = ours.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    // Hung up on while bytes were left: that is an error of ours alone.
    let _ = ours.read_to_end(&mut answers);
    // Each question has a thread of its own, which may come to it when the other end has hung up.
    let until = Instant::now() + PATIENCE;
    while Arc::strong_count(&understood) > 1 {
        assert!(Instant::now() < until, "the link does not end");
        std::thread::yield_now();
    }
    let mut rest = answers.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((frame, after)) = after.split_at_checked(length) else {
            break;
        };
        let answer: serde_json::Value = serde_json::from_slice(frame).unwrap();
        let reply = serde_json::from_value::<Reply>(answer["reply"].clone()).unwrap();
        assert!(matches!(reply, Reply::Ok | Reply::Failed { .. }));
        rest = after;
    }
    assert_eq!(*wrong.lock().unwrap(), None, "another question comes back");
    *understood.lock().unwrap()
}
