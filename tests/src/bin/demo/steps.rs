//! The six steps.

use std::sync::Arc;
use std::time::Duration;

use tests::claim::ClaimedUser;
use tests::redis::Redis;
use tests::traces::Left;
use tests::{Answer, Ask, Probe, Service, wait};

use crate::shell::Shell;
use crate::stage::{Stage, answers};

const PASSWORD: &str = "correct-horse-battery-staple";
/// The secrets that are there beside db_password and api_key when the key is rotated.
const READ: usize = 30;

/// Plays all of it.
pub fn play() {
    let targets = ["/secret", "/config"].map(|path| (path, std::path::Path::new(path).exists()));
    let mut stage = Stage::prepare(PASSWORD);
    start(&mut stage);
    step_1(&stage);
    step_2(&stage);
    let user = ClaimedUser::claim();
    let (web, redis) = step_3(&stage, &user);
    let mut shell = step_4(&stage, &web, &user);
    step_5(&stage, &mut shell);
    drop(shell);
    let reader = step_6(&stage, &user);
    end(stage, web, redis, reader);
    for (path, was_there) in targets {
        if !was_there {
            goes_again(path);
        }
    }
    println!("Nothing of it is left: no mount, process, cgroup, key, folder or file.");
}

fn start(stage: &mut Stage) {
    stage.heading("Before: a store, and the two programs that run");
    let (folder, uid) = (stage.folder().display().to_string(), stage.pair.uid());
    stage.remarks(&format!(
        "Everything is in {folder}; secretsd's user is number {uid}, which nobody else has."
    ));
    stage.shows(&format!("cd {folder}"));
    stage.shows("export DEPLOY_STATE_DIR=$PWD/state DEPLOY_RUN_DIR=$PWD/run");
    stage.types(&format!("deploy init --user {uid}"), 0);
    stage.shows(&format!("deploy-inject up --user {uid} &"));
    stage.pair.up();
    answers("ready");
    let secretsd = stage.pair.secretsd();
    stage.remarks("secretsd, which holds the keys, has no capability, whatever happens to it:");
    let line = format!("grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/{secretsd}/status");
    let said = stage.types(&line, 0).out();
    for right in [
        format!("Uid:\t{uid}\t"),
        "CapEff:\t0000000000000000".into(),
        "CapBnd:\t0000000000000000".into(),
        "NoNewPrivs:\t1".into(),
    ] {
        assert!(said.contains(&right), "secretsd is not {right:?}");
    }
}

fn step_1(stage: &Stage) {
    stage.heading("1. A secret is typed in at a terminal: a prompt without echo, twice");
    stage.remarks("redis will include it in its configuration, so it is a line of that:");
    stage.remarks("`requirepass` and a password.");
    let typed = format!("requirepass {PASSWORD}");
    let mut terminal = stage.at_a_terminal("deploy secret set db_password");
    terminal.shows("db_password", 1);
    terminal.type_hidden(&typed);
    wait::until("the second prompt", || {
        (terminal.screen().trim_end().lines().count() >= 2).then_some(())
    });
    terminal.type_hidden(&typed);
    let (code, screen) = terminal.end();
    answers(&screen.replace('\r', ""));
    assert_eq!(code, 0, "`deploy secret set` failed");
    assert!(!screen.contains(PASSWORD), "the terminal echoed the value");
    let kept = stage.pair.deploy(&["secret", "get", "db_password"]).ok();
    assert_eq!(
        kept.out(),
        typed,
        "another value than the typed one was kept"
    );
    let list = stage.types("deploy secret list", 0);
    assert!(list.out().contains("db_password"), "it is not listed");
}

fn step_2(stage: &Stage) {
    stage.heading("2. A service is granted it");
    stage.types("deploy secret grant web db_password", 0);
    let readers = stage.types("deploy secret readers db_password", 0);
    assert!(readers.out().contains("web"), "web is no reader");
}

fn step_3(stage: &Stage, user: &ClaimedUser) -> (Service, Redis) {
    stage.heading("3. The service starts: Debian's own redis-server, unchanged");
    let uid = user.uid();
    let redis = Redis::prepare(&stage.pair, uid, "/secret/db_password");
    // It finds its libraries in the folder that its package was unpacked into.
    let command = redis.command();
    let (server, settings) = (command[..3].join(" "), command[3].clone());
    let server = stage.script("redis-server", &format!("exec {server} \"$@\""));
    let client = redis.client(None, &[]);
    let mut words = vec!["exec /usr/bin/env".to_owned()];
    for (name, value) in client.get_envs() {
        if let Some(value) = value {
            words.push(format!(
                "{}={}",
                name.to_string_lossy(),
                value.to_string_lossy()
            ));
        }
    }
    words.push(client.get_program().to_string_lossy().into_owned());
    stage.script("redis-cli", &format!("{} \"$@\"", words.join(" ")));
    stage.pair.file(
        "web.yaml",
        format!(
            "service: web\nuser: \"{uid}\"\ncommand: [{}, {settings}]\nsecrets: [db_password]\n\
             config: {{log_level: debug}}\n",
            server.display()
        ),
    );
    stage.types("cat web.yaml", 0);
    let settings = stage.types("tail -n 1 redis/redis.conf", 0);
    assert_eq!(settings.out(), "include /secret/db_password\n");
    stage.shows("deploy run web.yaml &");
    let web = stage.pair.run_file("web", "web.yaml".as_ref());
    redis.say(None, "PING");

    let socket = "redis/data/redis.sock";
    let said = stage.types(&format!("redis-cli -s {socket} ping"), 0);
    let both = said.out() + &said.err();
    assert!(both.contains("NOAUTH"), "redis asks for no password");
    let login = format!("REDISCLI_AUTH=\"$PASSWORD\" redis-cli -s {socket} ping");
    assert_eq!(stage.types(&login, 0).out(), "PONG\n", "the login failed");

    let pid = web.instance().pid;
    let said = stage
        .types(&format!("grep ^Uid: /proc/{pid}/status"), 0)
        .out();
    assert_eq!(
        said,
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n"),
        "another user"
    );
    let read = web.inside(uid, &["cat", "/config/log_level"]);
    let level = stage.types(&tests::command::line_of(&read), 0);
    assert_eq!(level.out(), "debug", "another log level");
    let running = stage.types("deploy ps", 0);
    assert!(running.out().contains("web"), "web is not listed");
    (web, redis)
}

fn step_4(stage: &Stage, web: &Service, user: &ClaimedUser) -> Shell {
    stage.heading("4. What was not granted is refused, before the start and after");
    stage.types("deploy secret set api_key --generate", 0);
    stage.pair.file(
        "api.yaml",
        "service: api\nuser: nobody\ncommand: [touch, started]\nsecrets: [api_key]\n",
    );
    stage.types("cat api.yaml", 0);
    let refused = stage.types("deploy run api.yaml", 3);
    for word in ["api_key", "deploy secret grant api api_key"] {
        assert!(refused.err().contains(word), "{word:?} is not said");
    }
    stage.remarks("(exit code 3)");
    stage.remarks("And within web, which was granted something else:");
    let mut shell = Shell::open(stage, web, user.uid());
    let (listed, code) = shell.types("ls /secret");
    assert_eq!(
        (listed.as_str(), code),
        ("db_password\n", 0),
        "another listing"
    );
    let (said, code) = shell.types("cat /secret/api_key");
    assert!(
        code != 0 && said.contains("No such file or directory"),
        "not ENOENT"
    );
    shell
}

fn step_5(stage: &Stage, shell: &mut Shell) {
    stage.heading("5. The secret is taken back while the service runs");
    stage.remarks("The same shell within web opens it, and reads a part:");
    let (_, code) = shell.types("exec 3< /secret/db_password");
    assert_eq!(code, 0, "it does not open");
    let (read, _) = shell.types("head -c 11 <&3");
    assert_eq!(read, "requirepass", "other bytes");
    stage.types("deploy secret revoke web db_password", 0);
    stage.remarks("The command has returned. A new open, and the descriptor from before:");
    let (said, code) = shell.types("cat /secret/db_password");
    assert!(
        code != 0 && said.contains("No such file or directory"),
        "the name is not ENOENT"
    );
    let (said, code) = shell.types("cat <&3");
    let revoked = said.contains("Key has been revoked") || said.contains("Input/output error");
    assert!(
        code != 0 && revoked && !said.contains("horse"),
        "the open descriptor is neither EKEYREVOKED nor EIO"
    );
    let (listed, code) = shell.types("ls /secret");
    assert_eq!((listed.as_str(), code), ("", 0), "it is listed still");
}

fn step_6(stage: &Stage, user: &ClaimedUser) -> Probe {
    stage.heading("6. The root key is rotated while a service reads");
    stage.types(
        &format!(
            "for n in $(seq {READ}); do printf 'value %s' $n | deploy secret set key-$n --quiet \
             --file -; done"
        ),
        0,
    );
    let names: Vec<String> = (1..=READ).map(|n| format!("key-{n}")).collect();
    stage.types(
        &format!("deploy secret grant reader $(seq -f key-%g {READ})"),
        0,
    );
    let probe = stage.pair.for_services("probe");
    stage.pair.file(
        "reader.yaml",
        format!(
            "service: reader\nuser: \"{}\"\ncommand: [{}, serve]\nsecrets: [{}]\n\
             config: {{log_level: debug}}\n",
            user.uid(),
            probe.display(),
            names.join(", ")
        ),
    );
    stage.shows("deploy run reader.yaml &");
    let mut reader = Probe::of(stage.pair.run_file("reader", "reader.yaml".as_ref()));
    for n in [1, 2] {
        let right = vec![format!("value {n}")];
        let ask = Ask::Loop(format!("/secret/key-{n}"), right);
        assert_eq!(reader.ask(ask), Answer::Done);
    }
    let ask = Ask::Loop("/config/log_level".into(), vec!["debug".into()]);
    assert_eq!(reader.ask(ask), Answer::Done);
    stage.remarks("It opens, reads and compares two secrets and a setting, again and again.");

    stage.types("deploy key rotate", 0);
    let status = stage.types("deploy status --json", 0).json();
    assert_eq!(status["generation"], 2, "not the second generation");
    let (rounds, failures) = match reader.ask(Ask::LoopEnds) {
        Answer::Loops(rounds, failures) => (rounds, failures),
        other => panic!("the reader answers {other:?}"),
    };
    assert_eq!(failures, Vec::<String>::new(), "the reader saw this");
    assert!(rounds > 0, "the reader did not read");
    stage.remarks(&format!(
        "Meanwhile the reader has read {rounds} times: no error, no wrong byte."
    ));
    for n in 1..=READ {
        let read = reader.read(&format!("/secret/key-{n}")).text();
        assert_eq!(read, format!("value {n}"), "another value of key-{n}");
    }
    stage.remarks("Each sealed record begins with its key generation, at byte 4. All records:");
    let records = stage.types(
        "for record in run/secrets/store/*; do od --endian=little -An -t u4 -j 4 -N 4 $record; \
         done | sort | uniq -c",
        0,
    );
    let counted: Vec<String> = records
        .out()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        counted,
        [(READ + 2).to_string(), "2".into()],
        "count and generation"
    );
    // The old one is destroyed after the command has returned, when nothing uses it any more.
    wait::until("the old generation to go", || {
        let old = stage.pair.state().join("gen-00000001");
        (!old.exists()).then_some(())
    });
    let generations = stage.types("ls state | grep gen-", 0);
    assert_eq!(
        generations.out(),
        "gen-00000002\n",
        "another generation is there"
    );
    reader
}

fn end(mut stage: Stage, web: Service, redis: Redis, reader: Probe) {
    stage.heading("After: everything is stopped, and goes");
    stage.types("deploy stop web", 0);
    stage.types("deploy stop reader", 0);
    let _ = (web.wait(), reader.end());
    drop(redis);
    stage.shows("kill %1    # deploy-inject up");
    let code = stage.pair.down();
    assert_eq!(code, 0, "the keeper failed:\n{}", stage.pair.log_text());
    let folder = stage.folder().display().to_string();
    stage.shows(&format!("cd / && rm -r {folder}"));
    let traces = Arc::clone(stage.pair.traces());
    let before = traces.find();
    assert!(
        before.processes.is_empty() && before.mounts.is_empty() && before.cgroups.is_empty(),
        "the keeper left {before:#?}"
    );
    drop(stage);
    assert_eq!(traces.find(), Left::default(), "left on the host");
}

/// A folder that was made for the views; it stays only while another pair on this host uses it.
fn goes_again(path: &str) {
    let gone = || (!std::path::Path::new(path).exists()).then_some(());
    if wait::within(Duration::from_secs(5), gone).is_some() {
        return;
    }
    let others = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("comm"))
            .is_ok_and(|name| name.trim_end() == "deploy-inject")
    });
    assert!(others, "{path} was made and is left");
    println!("({path} stays: another deploy-inject runs on this host)");
}
