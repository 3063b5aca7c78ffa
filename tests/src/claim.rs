//! User ids for tests: numbers without a name, each used by one pair at a time.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// systemd's range for dynamic users (systemd.io/UIDS-GIDS): no package has a user in it.
const FIRST: u32 = 61184;
const COUNT: u32 = 65519 - FIRST + 1;

/// A user id that no other test on this host has, as long as this value lives.
#[derive(Debug)]
pub struct ClaimedUser {
    uid: u32,
    /// A name that the kernel lets only one process bind, and frees with that process.
    _claim: UnixListener,
}

impl ClaimedUser {
    /// Claims the next free one.
    pub fn claim() -> ClaimedUser {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(37);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let uid = FIRST + start.wrapping_add(step) % COUNT;
            let name = format!("deploy-secrets-tests-uid-{uid}");
            let address = SocketAddr::from_abstract_name(name).unwrap();
            if let Ok(claim) = UnixListener::bind_addr(&address)
                && !in_use(uid)
            {
                return ClaimedUser { uid, _claim: claim };
            }
        }
        panic!("every user id of {FIRST}..{} is taken", FIRST + COUNT);
    }

    /// The number; the group of the same number goes with it.
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

/// Whether some process of the host runs as that user, say one of systemd's.
fn in_use(uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .any(|meta| meta.uid() == uid)
}
