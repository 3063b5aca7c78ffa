//! A connection whose first server was killed before the kernel had its answer to INIT.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use fuse_fs::Handover;
use harness::{Host, text};
use model::Tree;
use rustix::fs::MemfdFlags;
use rustix::mount::{MoveMountFlags, UnmountFlags};

/// A connection that is mounted, and whose INIT somebody has taken.
struct Begun {
    at: PathBuf,
    device: OwnedFd,
    memfd: OwnedFd,
    init: Vec<u8>,
}

impl Begun {
    fn new() -> Begun {
        let at = tempfile::Builder::new().prefix("dv-").tempdir().unwrap();
        let at = at.keep();
        let (device, mount) = sys::fuse::connect("deploy-secrets:test").unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", rustix::fs::CWD, &at, flags).unwrap();
        let mut init = vec![0; 64 * 1024];
        let length = rustix::io::read(&device, &mut init[..]).unwrap();
        init.truncate(length);
        let memfd = rustix::fs::memfd_create("init", MemfdFlags::CLOEXEC).unwrap();
        Begun {
            at,
            device,
            memfd,
            init,
        }
    }

    /// Takes it over, and reads a secret by it.
    fn read(&self, host: &Host) -> Result<String, i32> {
        let handover = Handover {
            fresh: rustix::fs::fstat(&self.memfd).unwrap().st_size == 0,
            memfd: self.memfd.try_clone().unwrap(),
            sweep: false,
        };
        let device = self.device.try_clone().unwrap();
        let apart = harness::apart();
        fuse_fs::serve(Tree::Secret, device, &host.views, &handover, &apart).unwrap();
        text(&self.at.join("7/a"))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::FORCE);
        while rustix::mount::unmount(&self.at, UnmountFlags::DETACH).is_ok() {}
        let _ = std::fs::remove_dir(&self.at);
    }
}

fn host() -> Host {
    let host = Host::start();
    host.set("a", "one");
    host.grant(&["a"]);
    host.make(&["a"], &[]);
    host
}

/// Needs NOTIFY_RESEND: before Linux 6.9 the connection has to be made anew.
#[test]
fn init_is_asked_for_again_if_it_was_not_kept() {
    let (host, begun) = (host(), Begun::new());
    assert_eq!(begun.read(&host), Ok("one".into()));
}

#[test]
fn init_is_answered_by_the_next_if_it_was_kept_and_not_answered() {
    let (host, begun) = (host(), Begun::new());
    let kept = [&b"DSF2"[..], &7_u32.to_ne_bytes(), &begun.init].concat();
    rustix::io::pwrite(&begun.memfd, &kept, 0).unwrap();
    assert_eq!(begun.read(&host), Ok("one".into()));
}
