#![allow(clippy::unwrap_used)]
use super::*;

use std::io::Write;

fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn inode(fd: &OwnedFd) -> u64 {
    look_at(fd).unwrap().ino()
}

#[test]
fn a_connection_that_nobody_has_begun_is_fresh() {
    // Held with an INIT in it; held, but empty; not held.
    let fds = ["", "", "", "INIT", ""]
        .map(file)
        .into_iter()
        .collect::<Vec<_>>();
    let inodes: Vec<_> = fds.iter().map(inode).collect();
    let names = words(&["config", "secret", "operator"]);
    let sorted = sort(&names, &words(&["secret", "config"]), fds).unwrap();
    let seen: Vec<_> = sorted.iter().map(|one| (one.name, one.fresh)).collect();
    assert_eq!(
        seen,
        [("secret", false), ("config", true), ("operator", true)]
    );
    assert_eq!(inode(&sorted[0].device), inodes[1]);
    assert_eq!(inode(&sorted[0].memfd), inodes[3]);
    assert_eq!(inode(&sorted[1].memfd), inodes[4]);
}

#[test]
fn a_connection_is_known_again_by_what_is_held_for_it() {
    let held = ["a", "b", "c"].map(file);
    let copies = held.iter().map(|fd| fd.try_clone().unwrap());
    let fds = ["", "", ""].map(file).into_iter().chain(copies).collect();
    let brought = sort(&words(&CONNECTIONS), &words(&CONNECTIONS), fds).unwrap();
    let serving = |memfd| Serving { memfd, begun: true };
    let mut served: BTreeMap<_, _> = CONNECTIONS.into_iter().zip(held.map(serving)).collect();
    assert!(brought.iter().all(|one| is_known(&served, one)));
    // One was lost, and made anew: it alone is to be served.
    served.insert("config", serving(file("b")));
    let known: Vec<_> = brought.iter().map(|one| is_known(&served, one)).collect();
    assert_eq!(known, [true, false, true]);
    assert!(!is_known(&BTreeMap::new(), &brought[0]));
}

#[test]
fn a_take_over_that_lacks_something_is_refused() {
    let none: &[String] = &[];
    assert!(
        sort(
            &words(&["secret", "config"]),
            none,
            ["", ""].map(file).into()
        )
        .is_err()
    );
    assert!(sort(&words(&CONNECTIONS), none, vec![file("")]).is_err());
}

#[test]
fn every_missing_grant_says_why() {
    let name: SecretName = "a".parse().unwrap();
    let unknown = missing_grant((name.clone(), Denied::UnknownSecret));
    assert!(unknown.reason.contains("deploy secret set a"));
    assert_eq!(
        missing_grant((name, Denied::NotGranted)).reason,
        "not granted"
    );
}
