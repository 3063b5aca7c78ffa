//! Rotation arrives as an atomic rename would: who watches hears of each, who reads reads one version
//! whole, and who has one open keeps it.
//!
//! `ROTATION_SEED=` plays the same sizes again; `make soak` rotates a thousand times.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::json;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::soak::{Random, rounds, tell};
use tests::watcher::{Heard, Watcher};
use tests::{Pair, Varlink};

/// The largest value here.
const MOST: u64 = 1 << 20;

/// As `python/versions.py` has it: each 16 bytes say seed, version and place.
fn content(seed: u64, version: u64, size: u64) -> String {
    let line = |line| format!("{:04x}{version:06}{line:05};", seed % 65536);
    let mut all: String = (0..=size / 16).map(line).collect();
    all.truncate(usize::try_from(size).unwrap());
    all
}

#[test]
fn every_rotation_is_heard_whole_and_leaves_what_is_open_as_it_was() {
    let pair = Pair::start();
    let mut calls = Varlink::connect(&pair);
    let mut random = Random::new("ROTATION_SEED");
    let seed = random.seed();
    let user = ClaimedUser::claim();
    let mut rotate = |version: u64, size: u64| {
        let value = json!({"name": "large", "value": content(seed, version, size)});
        let data = json!({"name": "tls", "data": {
            "cert": content(seed, version, size / 3),
            "key": version.to_string(),
        }});
        for parameters in [value, data] {
            calls.call("io.deploy.Secrets.Set", parameters).unwrap();
        }
    };
    rotate(0, 100);
    pair.grant("web", &["large", "tls"]);
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["large", "tls"]);
    let mut watchers =
        ["/secret/large", "/secret/tls/key"].map(|path| Watcher::start(&pair, &asked, path));
    let script = include_str!("../src/python/versions.py");
    let words = [
        "/usr/bin/python3",
        "-c",
        script,
        &seed.to_string(),
        "/secret/large",
    ];
    let mut reader = pair.run(&asked.command(&words));
    assert_eq!(reader.line(), "ready");

    let all = rounds(40, 1000);
    let mut bytes = 0;
    for version in 1..=all {
        // Of all sizes, and not most of them large.
        let most = 1 << (5 + random.below(16));
        let size = match version % 10 {
            0 => MOST,
            _ => (2 + random.below(most)).max(100),
        };
        rotate(version, size);
        bytes += size;
        for watcher in &mut watchers {
            watcher.hears_all(&Heard::ROTATION);
            watcher.forgets();
        }
        reader.write(&format!("{version} {size}"));
        assert_eq!(reader.line(), "right", "version {version} of {size} bytes");
    }
    tell(
        "rotation_rounds",
        Some(seed),
        &format!(
            "{all} rotations of a value and of fields, {bytes} bytes: each heard by watches set once, none torn"
        ),
    );
    drop((reader, watchers));
    pair.leaves_nothing();
}
