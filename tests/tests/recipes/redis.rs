//! redis, with an ACL file and with an included file.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use tests::{Host, Pair, wait};

use super::{revoke, rotate, runs_on_and_does_not_start_again, value};

pub const TITLES: [&str; 2] = ["redis with users", "redis with one password"];

/// What redis answers to a command after a login.
fn says(host: &Host<'_>, login: &[&str], words: &[&str]) -> String {
    let client = ["redis-cli", "--no-auth-warning"];
    let said = host.run([&client, login, words].concat());
    said.out() + &said.err()
}

#[test]
fn redis_takes_new_users_while_it_runs() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let recipe = host.sets_up(TITLES[0]);
    let redis = host.starts("redis");
    let password = || {
        let users = value(&host, "redis_users");
        let (_, after) = users.split_once('>').unwrap();
        after.split(' ').next().unwrap().to_owned()
    };
    let ping = |password: &str| says(&host, &["--user", "app", "--pass", password], &["PING"]);
    let first = password();
    wait::until("redis to answer", || {
        ping(&first).contains("PONG").then_some(())
    });
    assert!(says(&host, &[], &["PING"]).contains("NOAUTH"));
    assert!(ping("wrong").contains("WRONGPASS"));

    let stream = UnixStream::connect(host.path("/run/redis/redis.sock")).unwrap();
    let mut answers = BufReader::new(&stream).lines();
    let login = format!("AUTH app {first}\r\n");
    (&stream).write_all(login.as_bytes()).unwrap();
    assert_eq!(answers.next().unwrap().unwrap(), "+OK");

    rotate(&host, &recipe);
    let second = password();
    assert_ne!(first, second);
    wait::until("the new password", || {
        ping(&second).contains("PONG").then_some(())
    });
    assert!(
        ping(&first).contains("WRONGPASS"),
        "the old password still works"
    );
    assert!(
        answers.next().is_none(),
        "who was logged in is not any more"
    );

    revoke(&host, &recipe);
    let reload = ["--user", "reload", "--pass", "any"];
    let said = says(&host, &reload, &["ACL", "LOAD"]);
    assert!(!said.starts_with("OK") && said.contains("ERR"), "{said}");
    assert!(ping(&second).contains("PONG"));
    let said = says(&host, &reload, &["PING"]);
    assert!(
        said.contains("NOPERM"),
        "it may do more than reload: {said}"
    );
    runs_on_and_does_not_start_again(&host, redis, "redis", "redis_users");
    drop(host);
    pair.leaves_nothing();
}

#[test]
fn redis_with_an_included_password_is_restarted() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let recipe = host.sets_up(TITLES[1]);
    let cache = host.starts("cache");
    let password = || {
        let line = value(&host, "cache_conf");
        line.strip_prefix("requirepass ").unwrap().trim().to_owned()
    };
    let ping = |login: &[&str]| says(&host, &[&["-p", "6380"], login].concat(), &["PING"]);
    let first = password();
    wait::until("redis to answer", || {
        ping(&["-a", &first]).contains("PONG").then_some(())
    });
    assert!(ping(&[]).contains("NOAUTH"));
    let pid = cache.instance().pid;

    rotate(&host, &recipe);
    let second = password();
    wait::until("the new password", || {
        ping(&["-a", &second]).contains("PONG").then_some(())
    });
    assert!(ping(&["-a", &first]).contains("WRONGPASS"));
    assert_ne!(cache.instance().pid, pid, "a life of its own");

    revoke(&host, &recipe);
    assert!(ping(&["-a", &second]).contains("PONG"));
    runs_on_and_does_not_start_again(&host, cache, "cache", "cache_conf");
    drop(host);
    pair.leaves_nothing();
}
