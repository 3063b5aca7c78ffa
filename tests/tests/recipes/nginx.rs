//! nginx, and curl as its client.

use std::time::Duration;

use rustix::process::Signal;
use tests::traces::signal;
use tests::{Finished, Host, Pair, wait};

use super::{revoke, rotate, runs_on_and_does_not_start_again};

pub const TITLES: [&str; 2] = ["nginx", "curl"];

#[test]
fn nginx_and_curl() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let nginx_recipe = host.sets_up("nginx");
    let curl_recipe = host.sets_up("curl");
    let nginx = host.starts("nginx");
    wait::until("nginx to serve", || {
        (host.deploys("fetch").code == 0).then_some(())
    });
    let page = host.deploys("fetch").ok().out();
    assert!(page.contains("nginx"), "{page}");
    // Trusts one certificate alone, so that it tells which one is served.
    let with = |certificate: &str, more: &[&str]| -> Finished {
        let words = [
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--cacert",
        ];
        host.run([&words, &[certificate, "https://localhost/"][..], more].concat())
    };
    assert_eq!(with("/etc/ssl/shop.pem", &[]).ok().out(), "401");
    host.types("cp /etc/ssl/shop.pem first.pem; deploy secret get netrc >first.netrc")
        .ok();

    rotate(&host, &nginx_recipe);
    wait::until("the new certificate", || {
        (with("/etc/ssl/shop.pem", &[]).code == 0).then_some(())
    });
    // Its workers of before take connections for a moment still.
    wait::until("the old certificate to go", || {
        (with("/root/work/first.pem", &[]).code == 60).then_some(())
    });
    host.deploys("fetch").ok();

    let mut fetching = host.starts_with(
        "fetch",
        &[
            "sh",
            "-c",
            "while read -r line; do curl -sf -o /dev/null --netrc-file /secret/netrc \
             --cacert /etc/ssl/shop.pem https://localhost/; echo $?; done",
        ],
    );
    let mut fetch = || {
        fetching.write("go");
        fetching.line()
    };
    assert_eq!(fetch(), "0");
    rotate(&host, &curl_recipe);
    assert_eq!(fetch(), "0", "the new password, by both, without a reload");
    let old = ["--netrc-file", "/root/work/first.netrc"];
    assert_eq!(with("/etc/ssl/shop.pem", &old).ok().out(), "401");
    revoke(&host, &curl_recipe);
    assert_ne!(fetch(), "0");
    fetching.end().ok();
    host.deploys("fetch").code(3).says(&["netrc"]);

    host.types("deploy secret get netrc >now.netrc").ok();
    let now = ["--netrc-file", "/root/work/now.netrc"];
    assert_eq!(with("/etc/ssl/shop.pem", &now).ok().out(), "200");
    revoke(&host, &nginx_recipe);
    assert_eq!(with("/etc/ssl/shop.pem", &now).ok().out(), "403");

    host.types("deploy secret revoke nginx tls").ok();
    signal(nginx.instance().pid, Signal::HUP, Duration::ZERO);
    wait::until("a reload that fails", || {
        let log = std::fs::read_to_string(host.path("/var/log/nginx/error.log")).ok()?;
        log.contains("[emerg]").then_some(())
    });
    assert_eq!(
        with("/etc/ssl/shop.pem", &now).ok().out(),
        "403",
        "the pair that it has"
    );
    runs_on_and_does_not_start_again(&host, nginx, "nginx", "tls");
    drop(host);
    pair.leaves_nothing();
}
