//! Users as the host knows them.

use std::path::Path;

use sys::users::{account, group_id, name_of};

#[test]
fn root_is_found_by_name_and_by_number() {
    let root = account("root").unwrap().unwrap();
    assert_eq!(
        (root.uid, root.gid, root.name.as_deref()),
        (0, 0, Some("root"))
    );
    assert_eq!(root.home, Path::new("/root"));
    assert!(root.groups.contains(&0));
    assert_eq!(account("0").unwrap().unwrap(), root);
    assert_eq!(
        (group_id("root"), name_of(0).as_deref()),
        (Some(0), Some("root"))
    );
}

#[test]
fn a_number_that_nobody_has_is_a_user_without_a_name() {
    let nobody = account("54321").unwrap().unwrap();
    assert_eq!((nobody.uid, nobody.gid, nobody.name), (54321, 54321, None));
    assert_eq!(
        (nobody.groups.as_slice(), nobody.home.as_path()),
        (&[][..], Path::new("/"))
    );
    assert_eq!(name_of(54321), None);
}

#[test]
fn uid_and_gid_together_are_taken_as_they_are_and_bring_no_other_group() {
    let pair = account("54321:7").unwrap().unwrap();
    assert_eq!(
        (pair.uid, pair.gid, pair.groups.as_slice()),
        (54321, 7, &[][..])
    );
    let root = account("0:54321").unwrap().unwrap();
    assert_eq!((root.gid, root.groups.as_slice()), (54321, &[][..]));
    assert_eq!(
        (root.name.as_deref(), root.home.as_path()),
        (Some("root"), Path::new("/root"))
    );
}

#[test]
fn what_is_no_user_is_none() {
    for text in [
        "",
        "no-such-user",
        "a\0b",
        "+0",
        "-1",
        "4294967295",
        "4294967296",
        "0:",
        ":0",
        "0:root",
        "0:4294967295",
        "0:0:0",
    ] {
        assert_eq!(account(text).unwrap(), None, "{text:?}");
    }
    assert_eq!(group_id("no-such-group"), None);
}
