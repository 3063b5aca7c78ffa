//! PostgreSQL with a key of the view, and psql with a passfile.

use std::time::Duration;

use rustix::process::Signal;
use tests::host::this_release;
use tests::traces::signal;
use tests::{Host, Pair, wait};

use super::{revoke, rotate, runs_on_and_does_not_start_again, says};

pub const TITLES: [&str; 2] = ["PostgreSQL", "psql and other libpq clients"];

/// The common name in the certificate that the server shows.
fn serves(host: &Host<'_>) -> Option<String> {
    let words = "openssl s_client -starttls postgres -connect localhost:5432 </dev/null";
    let said = host.types(words);
    let out = said.out();
    let subject = out.lines().find(|line| line.starts_with("subject"))?;
    Some(subject.rsplit_once('=')?.1.trim().to_owned())
}

#[test]
fn postgresql_and_psql() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    let server_recipe = host.sets_up(TITLES[0]);
    let server = host.starts("postgres");
    says(&server, "ready to accept connections");
    assert_eq!(serves(&host).as_deref(), Some("first"));

    let client_recipe = host.sets_up(TITLES[1]);
    assert_eq!(host.deploys("report").ok().out(), "app\n");
    let psql = "/usr/lib/postgresql/15/bin/psql -w -h localhost -U app -d app -Atc 'SELECT 6 * 7'";
    let many = this_release(&format!(
        "while read -r line; do {psql} 2>&1 | tail -n 1; done"
    ));
    let mut clients = host.starts_with("report", &["/bin/sh", "-c", &many]);
    let held =
        this_release("exec /usr/lib/postgresql/15/bin/psql -w -h localhost -U app -d app -At");
    let mut held = host.starts_with("report", &["/bin/sh", "-c", &held]);
    let mut client = || {
        clients.write("go");
        clients.line()
    };
    assert_eq!(client(), "42");
    held.write("SELECT 1;");
    assert_eq!(held.line(), "1");

    host.types("deploy secret get db_app >first; chmod 600 first")
        .ok();
    rotate(&host, &client_recipe);
    assert_eq!(client(), "42", "at the next connection");
    let old = format!("PGPASSFILE=/root/work/first {psql}");
    host.types(&old)
        .code(2)
        .says(&["password authentication failed"]);
    revoke(&host, &client_recipe);
    let said = client();
    assert!(said.contains("no password supplied"), "{said}");
    held.write("SELECT 2;");
    assert_eq!(held.line(), "2", "what is connected stays so");
    drop((clients, held));
    host.deploys("report").code(3).says(&["db_app"]);

    // What the page says of a passfile's permissions.
    host.types(
        "deploy secret grant report db_app; \
         sed -i 's/env_file: PGPASSFILE/&, mode: \"0440\"/' /etc/deploy/report.yaml",
    )
    .ok();
    host.deploys("report")
        .code(2)
        .says(&["group or world access", "no password supplied"]);

    rotate(&host, &server_recipe);
    wait::until("the new certificate", || {
        (serves(&host)? == "second").then_some(())
    });
    revoke(&host, &server_recipe);
    signal(server.instance().pid, Signal::HUP, Duration::ZERO);
    says(&server, "could not load server certificate file");
    assert_eq!(
        serves(&host).as_deref(),
        Some("second"),
        "the pair that it has"
    );
    runs_on_and_does_not_start_again(&host, server, "postgres", "db_tls");
    drop(host);
    pair.leaves_nothing();
}

#[test]
fn postgresql_takes_a_key_with_the_permissions_that_the_page_says_and_no_other() {
    let pair = Pair::start();
    let host = Host::of(&pair);
    host.sets_up(TITLES[0]);
    let with = |permissions: &str| {
        let text = format!(
            "cp /etc/deploy/postgres.yaml kept.yaml; \
             sed -i 's/- db_tls/- {{name: db_tls, {permissions}}}/' /etc/deploy/postgres.yaml"
        );
        host.types(&text).ok();
    };
    let back = || host.types("mv kept.yaml /etc/deploy/postgres.yaml").ok();
    let group = host.run(["id", "-g", "postgres"]).ok().out();
    let roots = |mode: &str| format!("owner: \"0:{}\", mode: \"{mode}\"", group.trim());
    let cases = [
        ("mode: \"0400\"".to_owned(), true),
        ("mode: \"0440\"".to_owned(), false),
        ("mode: \"0404\"".to_owned(), false),
        (roots("0440"), true),
        (roots("0444"), false),
    ];
    host.types("echo 'folder_mode: \"0550\"' >>/etc/deploy/postgres.yaml")
        .ok();
    for (permissions, taken) in cases {
        with(&permissions);
        if taken {
            let server = host.starts("postgres");
            says(&server, "ready to accept connections");
            assert_eq!(serves(&host).as_deref(), Some("first"), "{permissions}");
            server.signal(Signal::TERM);
            server.wait();
        } else {
            let said = host.deploys("postgres").code(1);
            said.says(&["private key file", "access"]);
        }
        back();
    }
    drop(host);
    pair.leaves_nothing();
}
