//! Who has ended, and whether the connections still live.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Injector;
use crate::process;

/// How often a lost connection is looked for: it is to be there again within a second. Polling
/// /dev/fuse itself would be woken by each request that secretsd gets.
const PULSE: Duration = Duration::from_millis(200);

/// Wakes the thread that watches.
#[derive(Debug)]
pub(super) struct Watch {
    wake: UnixStream,
    woken: UnixStream,
}

impl Watch {
    /// Not watching yet.
    pub fn new() -> io::Result<Watch> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Watch { wake, woken })
    }

    /// There is an instance more.
    pub fn look_again(&self) {
        // Full is as good as written.
        let _ = (&self.wake).write(&[0]);
    }
}

/// What there is to do about an instance.
enum Due {
    End(u32),
    Kill(u32),
    /// Wait for one of the two.
    Wait(Vec<Arc<OwnedFd>>),
}

/// Watches until the process ends.
pub(super) fn watch(injector: &Arc<Injector>) -> io::Result<()> {
    loop {
        let mut waiting = Vec::new();
        let due = injector.instances.look(|one| {
            let number = one.record.number;
            let supervisor = one.supervisor.iter().filter(|s| !process::has_ended(s));
            let mut alive: Vec<_> = supervisor.cloned().collect();
            match (process::has_ended(&one.service), alive.is_empty()) {
                (true, true) => Some(Due::End(number)),
                (false, true) => Some(Due::Kill(number)),
                // A supervisor that lives ends its instance itself.
                (true, false) => Some(Due::Wait(alive)),
                (false, false) => {
                    alive.push(Arc::clone(&one.service));
                    Some(Due::Wait(alive))
                }
            }
        });
        for one in due {
            match one {
                Due::End(number) => injector.end(number),
                Due::Kill(number) => {
                    injector.kill(number);
                    // Until it is dead it is looked at in each turn; not in a tight loop.
                    injector.watch.look_again();
                    std::thread::sleep(Duration::from_millis(10));
                }
                Due::Wait(fds) => waiting.extend(fds),
            }
        }
        injector.mend_connections();
        wait(&injector.watch, &waiting)?;
    }
}

fn wait(watch: &Watch, waiting: &[Arc<OwnedFd>]) -> io::Result<()> {
    let pulse = Timespec::try_from(PULSE).map_err(io::Error::other)?;
    let mut fds = vec![PollFd::new(&watch.woken, PollFlags::IN)];
    fds.extend(
        waiting
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
    );
    match poll(&mut fds, Some(&pulse)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut buffer = [0; 64];
    while matches!((&watch.woken).read(&mut buffer), Ok(n) if n > 0) {}
    Ok(())
}
