//! Programs of one's own that read the file when they need it.

use tests::{Host, Pair};

use super::{revoke, rotate, value};

pub const TITLES: [&str; 3] = ["A shell script", "Python", "Node"];

#[test]
fn a_shell_script_reads_the_new_version_and_ends_after_a_revoke() {
    let digest = "printf '%s%s' \"$(cat key)\" hello | sha256sum";
    reads(TITLES[0], "sign-sh", digest, "No such file or directory");
}

#[test]
fn python_reads_the_new_version_and_ends_after_a_revoke() {
    reads(TITLES[1], "sign-py", HMAC, "FileNotFoundError");
}

#[test]
fn node_reads_the_new_version_and_ends_after_a_revoke() {
    reads(TITLES[2], "sign-js", HMAC, "ENOENT");
}

/// Its words are `hello`, `= ` and the digest.
const HMAC: &str = "printf hello | openssl dgst -sha256 -hmac \"$(cat key)\" | sed 's/.* //'";

/// What the service prints for a line is what `digest` prints for the key of the store.
fn reads(title: &str, service: &str, digest: &str, error: &str) {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let recipe = host.sets_up(title);
    let mut sign = host.starts(service);
    let expected = |host: &Host<'_>| {
        std::fs::write(host.path("/root/work/key"), value(host, "api_key")).unwrap();
        host.types(digest).ok().out()
    };
    let first = expected(&host);
    sign.write("hello");
    assert_eq!(sign.line() + "\n", first);
    rotate(&host, &recipe);
    let second = expected(&host);
    assert_ne!(first, second);
    sign.write("hello");
    assert_eq!(sign.line() + "\n", second);
    revoke(&host, &recipe);
    sign.write("hello");
    let ended = sign.wait().code(1).says(&[error]);
    assert_eq!(ended.out(), "");
    host.deploys(service).code(3).says(&["api_key"]);
    drop(host);
    pair.leaves_nothing();
}
