//! Signals as something to poll(2) for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that this process takes itself, from here on and for good.
#[derive(Debug)]
pub(crate) struct Signals {
    came: Vec<(i32, Arc<AtomicBool>)>,
    wake: UnixStream,
}

impl Signals {
    /// Takes `numbers`.
    pub fn take_over(numbers: &[i32]) -> io::Result<Signals> {
        let (wake, end) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut came = Vec::new();
        for &number in numbers {
            let flag = Arc::new(AtomicBool::new(false));
            // In this order: once the pipe is readable, the flag is set.
            signal_hook::flag::register(number, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(number, end.try_clone()?)?;
            came.push((number, flag));
        }
        Ok(Signals { came, wake })
    }

    /// Those that came since the last call, each once.
    pub fn came(&mut self) -> Vec<i32> {
        let mut buffer = [0; 64];
        while matches!(self.wake.read(&mut buffer), Ok(n) if n > 0) {}
        let mut numbers = Vec::new();
        for (number, flag) in &self.came {
            if flag.swap(false, Ordering::SeqCst) {
                numbers.push(*number);
            }
        }
        numbers
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signal_is_told_once_and_wakes_a_poll() {
        let mut signals = Signals::take_over(&[libc::SIGUSR1, libc::SIGUSR2]).unwrap();
        signal_hook::low_level::raise(libc::SIGUSR2).unwrap();
        let mut fds = [rustix::event::PollFd::new(
            &signals,
            rustix::event::PollFlags::IN,
        )];
        assert_eq!(rustix::event::poll(&mut fds, None).unwrap(), 1);
        assert_eq!(signals.came(), [libc::SIGUSR2]);
        assert!(signals.came().is_empty());
    }
}
