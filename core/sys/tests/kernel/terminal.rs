//! The foreground of a terminal.

use std::os::fd::AsFd;

use rustix::process::{Pid, getpgrp};
use rustix::pty::OpenptFlags;
use rustix::termios::tcgetpgrp;
use sys::process::{ExitStatus, set_foreground};

use crate::common::{sleeper, start};
use crate::helper::spawn;

/// A session leader hands the foreground to a group, and takes it back from the background.
pub fn helper() {
    let tty = std::io::stdin();
    rustix::process::setsid().unwrap();
    rustix::process::ioctl_tiocsctty(&tty).unwrap();
    let mut child = start(sleeper().new_process_group());
    let group = Pid::from_raw(child.pid()).unwrap();
    set_foreground(tty.as_fd(), group).unwrap();
    assert_eq!(tcgetpgrp(&tty).unwrap(), group);
    set_foreground(tty.as_fd(), getpgrp()).unwrap();
    assert_eq!(tcgetpgrp(&tty).unwrap(), getpgrp());
    child.signal(libc::SIGKILL).unwrap();
    child.wait().unwrap();
    // The group is gone.
    assert!(set_foreground(tty.as_fd(), group).is_err());
}

#[test]
fn the_foreground_is_taken_back_from_the_background_without_a_stop() {
    let main = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&main).unwrap();
    rustix::pty::unlockpt(&main).unwrap();
    let name = rustix::pty::ptsname(&main, Vec::new()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let tty = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
    let nowhere = crate::helper::nowhere();
    let spawn = spawn("terminal").stdin(tty.as_fd()).stdout(nowhere.as_fd());
    let mut child = start(spawn);
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}
