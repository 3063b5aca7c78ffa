//! A disk that does not answer a sync: who writes waits for it, and nobody who reads.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::powercut::Disk;
use tests::{Pair, wait};

#[test]
fn opens_are_answered_while_the_sync_of_a_write_is_held_and_a_revoke_denies_them() {
    let disk = Disk::new();
    let pair = Pair::start_on(&disk);
    let user = ClaimedUser::claim();
    let names = ["changing", "revoked", "quiet"];
    for name in names {
        pair.set(name, "one");
    }
    pair.grant("web", &names);
    let asked = Asked::service("web").user(user.uid()).secrets(&names);
    let mut probe = pair.probe(&asked);

    std::thread::scope(|scope| {
        // Ends before the writers are waited for, also where an assertion fails.
        let held = disk.hold_syncs(|path| path.ends_with("/journal"));
        let set = scope.spawn(|| pair.set("changing", "two"));
        held.wait();
        // Files of a view that no kernel has cached, opens that the daemon answers, and operators'.
        let mut fresh = pair.probe(&asked);
        for _ in 0..100 {
            for name in ["changing", "quiet"] {
                let path = format!("/secret/{name}");
                assert_eq!(probe.read(&path).text(), "one");
                assert_eq!(fresh.read(&path).text(), "one");
            }
        }
        assert_eq!(pair.get("quiet", &[]).ok().out(), "one");
        // First denied, then written.
        let revoke = scope.spawn(|| {
            let revoke = ["secret", "revoke", "web", "revoked"];
            pair.deploy(&revoke).ok();
        });
        wait::until("the revoke to deny", || {
            probe.read("/secret/revoked").errno()
        });
        // Only now does anything reach the disk: nobody was acknowledged.
        assert_eq!(held.count(), 1);
        assert!(!set.is_finished() && !revoke.is_finished());
        drop(held);
        set.join().unwrap();
        revoke.join().unwrap();
    });
    assert_eq!(probe.read("/secret/changing").text(), "two");
}
