//! A change that secretsd died in has come about or not; then that is what everybody sees, the
//! operator and every service, whatever the kernel had remembered.
//!
//! `TORN_SEED=` plays the same moments again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::probe::Coming;
use tests::soak::{Random, rounds};
use tests::traces::signal;
use tests::{Answer, Pair, Probe, Varlink, process};

/// A service with all that is changed below, and the moments.
fn stage() -> (Pair, Probe, Random) {
    let pair = Pair::start();
    pair.set("key", Coming::of(1));
    pair.grant("web", &["key"]);
    let data = json!({"name": "app", "data": {"level": "1"}});
    ask(&pair, "Configs.Create", &data);
    let user = ClaimedUser::claim();
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["key"])
        .with("config_from", json!(["app"]));
    let mut web = pair.probe(&asked);
    look(&mut web);
    (pair, web, Random::new("TORN_SEED"))
}

/// The kernel remembers what is there now.
fn look(web: &mut Probe) {
    for path in ["/secret/key", "/config/level"] {
        web.read(path);
        web.stat(path);
    }
}

fn ask(pair: &Pair, method: &str, parameters: &Value) -> Value {
    let method = format!("io.deploy.{method}");
    Varlink::once(pair, &method, parameters).unwrap().unwrap()
}

/// Asks, and kills secretsd a moment later.
fn tear(pair: &Pair, random: &mut Random, method: &str, parameters: &Value) {
    let method = format!("io.deploy.{method}");
    let moment = Duration::from_micros(random.below(4000));
    std::thread::scope(|threads| {
        threads.spawn(|| Varlink::once(pair, &method, parameters));
        std::thread::park_timeout(moment);
        let secretsd = pair.secretsd();
        signal(secretsd, Signal::KILL, Duration::ZERO);
        process::goes(secretsd);
    });
}

#[test]
fn the_size_of_a_secret_is_that_of_the_version_which_the_operator_sees() {
    let (pair, mut web, mut random) = stage();
    let mut version = 1;
    for _ in 0..rounds(20, 300) {
        let call = json!({"name": "key", "value": Coming::of(version + 1)});
        tear(&pair, &mut random, "Secrets.Set", &call);
        let got = ask(&pair, "Secrets.Get", &json!({"name": "key"}));
        version = got["version"].as_u64().unwrap();
        match web.stat("/secret/key") {
            Answer::Attributes { size, .. } => {
                assert_eq!(size, Coming::of(version).len() as u64, "version {version}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(web.read("/secret/key").text(), Coming::of(version));
        look(&mut web);
    }
}

#[test]
fn a_config_says_what_the_operator_sees() {
    let (pair, mut web, mut random) = stage();
    let mut level = 1;
    for _ in 0..rounds(20, 300) {
        let next = (level + 1).to_string();
        let call = json!({"name": "app", "data": {"level": next}});
        tear(&pair, &mut random, "Configs.Update", &call);
        let got = ask(&pair, "Configs.Get", &json!({"name": "app"}));
        let now = got["data"]["level"].as_str().unwrap();
        assert_eq!(web.read("/config/level").text(), now);
        level = now.parse().unwrap();
        look(&mut web);
    }
}

#[test]
fn a_name_that_is_revoked_is_gone() {
    let (pair, mut web, mut random) = stage();
    let parameters = json!({"service": "web", "names": ["key"]});
    for _ in 0..rounds(20, 300) {
        tear(&pair, &mut random, "Secrets.Revoke", &parameters);
        let got = ask(&pair, "Secrets.Grants", &json!({"service": "web"}));
        if got["grants"].as_array().unwrap().is_empty() {
            assert_eq!(web.stat("/secret/key"), Answer::Errno(libc::ENOENT));
            assert_eq!(web.read("/secret/key"), Answer::Errno(libc::ENOENT));
            ask(&pair, "Secrets.Grant", &parameters);
        }
        look(&mut web);
    }
}
