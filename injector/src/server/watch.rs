//! Who has ended, and whether the connections still live.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Injector;
use super::live::Life;
use crate::notify;

/// How often a lost connection is looked for: it is to be there again within a second. Polling
/// /dev/fuse itself would be woken by each request that secretsd gets.
const PULSE: Duration = Duration::from_millis(200);
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

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
    let mut heartbeat = Heartbeat::default();
    loop {
        let mut waiting = Vec::new();
        // The kernel is asked once for all, and nobody waits for the list meanwhile.
        let live = injector
            .instances
            .look(|one| Some((one.record.number, one.life.clone())));
        let all = live.iter().flat_map(|(_, life)| life.processes());
        let mut ended = ended(all.clone().flatten())?.into_iter();
        let mut has_ended =
            |one: Option<&Arc<OwnedFd>>| one.is_none_or(|_| ended.next() == Some(true));
        let ended: Vec<bool> = all.map(&mut has_ended).collect();
        for ((number, life), ended) in live.into_iter().zip(ended.chunks_exact(2)) {
            let [service_ended, supervisor_ended] = [ended[0], ended[1]];
            let due = match life {
                // Looked at with each pulse: nothing tells of a cgroup that is removed.
                Life::Unit(cgroup) if cgroup.is_there() => Due::Wait(Vec::new()),
                Life::Unit(_) => Due::End(number),
                Life::Container(_) if service_ended => Due::End(number),
                Life::Container(service) => Due::Wait(vec![service]),
                Life::Supervised(service, supervisor) => {
                    let alive = supervisor.filter(|_| !supervisor_ended);
                    match (service_ended, alive) {
                        (true, None) => Due::End(number),
                        (false, None) => Due::Kill(number),
                        // A supervisor that lives ends its instance itself.
                        (true, Some(alive)) => Due::Wait(vec![alive]),
                        (false, Some(alive)) => Due::Wait(vec![alive, service]),
                    }
                }
            };
            match due {
                Due::End(number) => drop(injector.end(number)),
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
        heartbeat.beat();
        wait(&injector.watch, &waiting)?;
    }
}

/// Tells the keeper that the watching thread goes round: it takes the locks of registry and
/// instances, and waits for nobody. If it is stuck, so is every start and end of a service.
struct Heartbeat {
    every: Option<Duration>,
    next: Instant,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat {
            every: notify::watchdog(),
            next: Instant::now(),
        }
    }
}

impl Heartbeat {
    fn beat(&mut self) {
        if let Some(every) = self.every
            && Instant::now() >= self.next
        {
            self.next = Instant::now() + every;
            if let Err(error) = notify::alive() {
                log::warn!("the keeper does not listen: {error}");
            }
        }
    }
}

/// Which of these processes have ended.
fn ended<'a>(all: impl Iterator<Item = &'a Arc<OwnedFd>>) -> io::Result<Vec<bool>> {
    let ask = |fd: &'a Arc<OwnedFd>| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN);
    let mut fds: Vec<_> = all.map(ask).collect();
    loop {
        match poll(&mut fds, Some(&AT_ONCE)) {
            Ok(_) => return Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
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
