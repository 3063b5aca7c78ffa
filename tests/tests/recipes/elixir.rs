//! A release of Elixir, whose `config/runtime.exs` is as projects have it.

use tests::{Host, Pair};

use super::{revoke, rotate, runs_on_and_does_not_start_again, value};

pub const TITLES: [&str; 1] = ["Elixir"];

#[test]
fn an_elixir_release_reads_variables_and_files_at_its_start() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let recipe = host.sets_up(TITLES[0]);
    let mut app = host.starts("app");
    let expected = || {
        let text =
            value(&host, "database_url").trim().to_owned() + &value(&host, "secret_key_base");
        std::fs::write(host.path("/root/work/text"), text).unwrap();
        let digest = host.types("sha256sum <text").ok().out();
        format!("ready {}", digest.split(' ').next().unwrap())
    };
    // Others are the runtime's, of its end.
    let mut ready = || loop {
        let line = app.line();
        if line.starts_with("ready ") {
            return line;
        }
    };
    let first = expected();
    assert_eq!(ready(), first);
    rotate(&host, &recipe);
    let second = expected();
    assert_ne!(first, second);
    assert_eq!(ready(), second);
    revoke(&host, &recipe);
    runs_on_and_does_not_start_again(&host, app, "app", "database_url");
    // In clear on no disk: neither as text nor as Erlang prints bytes.
    let url = value(&host, "database_url");
    let bytes: Vec<String> = url.trim().bytes().map(|byte| byte.to_string()).collect();
    for form in [url.trim(), &bytes.join(",")] {
        std::fs::write(host.path("/root/work/form"), form).unwrap();
        host.types("! grep -rqFf form /opt/app /srv/app").ok();
    }
    drop(host);
    pair.leaves_nothing();
}
