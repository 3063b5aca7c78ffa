//! What a read of a view costs a service, beside the same read of a file on tmpfs.

use std::process::Command;
use std::time::Duration;

use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Pair, Service};

use crate::pin;
use crate::reader::{Act, Order};
use crate::report::Report;

const PAIRS: usize = 21;
const ACTS: u32 = 2_000;

/// 64 bytes, as a password with some settings around it.
const VALUE: [u8; 64] = [b'x'; 64];

pub fn measure(report: &mut Report) {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("secret", VALUE);
    pair.grant("reader", &["secret"]);
    let tmpfs = pair.folder().join("tmpfs");
    std::fs::create_dir(&tmpfs).unwrap();
    // Below the pair's folder, so that it goes with it.
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "tmpfs"]).arg(&tmpfs);
    run(mount, b"").ok();
    std::fs::write(tmpfs.join("file"), VALUE).unwrap();
    let yardstick = tmpfs.join("file").display().to_string();

    let program = pair.for_services("bench");
    let text = String::from_utf8(VALUE.to_vec()).unwrap();
    let asked = Asked::service("reader")
        .user(user.uid())
        .secrets(&["secret"])
        .config(&[("key", &text)])
        .command(&[program.to_str().unwrap(), "reader"]);
    let mut service = pair.run(&asked);
    let secretsd = pair.secretsd();

    let mut ask = |what: &str, goal: &str, act: Act, ours: &str, processor: usize| {
        let order = Order {
            act,
            ours: ours.into(),
            yardstick: yardstick.clone(),
            processor,
            pairs: PAIRS,
            acts: ACTS,
        };
        report.pairs(what, goal, &answer(&mut service, &order));
    };
    pin::process(secretsd, 0);
    let same = "secret: open, read, close; reader and secretsd on one processor, against tmpfs";
    ask(same, "8", Act::Open, "/secret/secret", 0);
    if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        let two = "secret: the same, on two processors";
        ask(two, "", Act::Open, "/secret/secret", 1);
    }
    ask(
        "secret: pread on a held descriptor",
        "1.0",
        Act::Pread,
        "/secret/secret",
        0,
    );
    ask(
        "config: open, read, close",
        "1.8",
        Act::Open,
        "/config/key",
        0,
    );
    ask(
        "config: pread on a held descriptor",
        "1.0",
        Act::Pread,
        "/config/key",
        0,
    );
}

fn answer(service: &mut Service, order: &Order) -> Vec<(Duration, Duration)> {
    service.write(&serde_json::to_string(order).unwrap());
    serde_json::from_str(&service.line()).unwrap()
}
