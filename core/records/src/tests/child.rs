//! What needs a process of its own: a kill, a umask. The test binary starts itself.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::fs::Mode;
use rustix::process::umask;

use super::*;

const FOLDER: &str = "RECORDS_TEST_FOLDER";
const UMASK: &str = "RECORDS_TEST_UMASK";
const WRITERS: u32 = 3;
const NAMES: u32 = 7;

fn start(test: &str, folder: &Path, variables: &[(&str, &str)]) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", test])
        .env(FOLDER, folder)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The `round`-th transaction of a writer.
fn transaction(writer: u32, round: u32) -> Vec<Change> {
    let own = |number: u32| writer * 100 + number % NAMES;
    let record = |salt: u32| {
        (round ^ salt)
            .to_le_bytes()
            .repeat((round as usize * 37) % 500)
    };
    vec![
        put(own(round), &record(1)),
        put(own(round + 3), &record(2)),
        remove(own(round + 5)),
    ]
}

#[test]
#[ignore = "started by the test below"]
fn writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let (records, opened) = Records::open(Path::new(&folder), STORE, &KEY).unwrap();
    let tell = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    };
    tell(format!("\nopened: {opened}"));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (records, tell) = (&records, &tell);
            scope.spawn(move || {
                let round = get(records, 9000 + writer);
                let from = round.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
                for round in from + 1.. {
                    let mut changes = transaction(writer, round);
                    changes.push(put(9000 + writer, &round.to_le_bytes()));
                    records.commit(changes).unwrap();
                    tell(format!("acknowledged {writer} {round}"));
                }
            });
        }
        scope.spawn(|| {
            loop {
                records.snapshot().unwrap();
            }
        });
    });
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let folder = Folder::on_disk();
    drop(Records::create(folder.path(), STORE, &KEY).unwrap());
    let twin = Records::in_memory();
    let mut done = [0; WRITERS as usize];
    for kill in 0..40u32 {
        let mut child = start(
            "tests::child::writes_until_it_is_killed",
            folder.path(),
            &[],
        );
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A moment that differs each time: so many acknowledgements after opening, and a little.
        let mut acknowledged = done;
        let (mut opened, mut count, mut killed) = (false, 0, false);
        while let Some(Ok(line)) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            opened |= words[0] == "opened:";
            if let ["acknowledged", writer, round] = words[..] {
                acknowledged[writer.parse::<usize>().unwrap()] = round.parse().unwrap();
                count += 1;
            }
            if opened && count >= kill * 7 % 40 && !killed {
                killed = true;
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let (records, opened) = folder.open().unwrap();
        assert!(opened.unclean, "{opened}");
        for writer in 0..WRITERS {
            let was = &mut done[writer as usize];
            let found = get(&records, 9000 + writer)
                .map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
            let least = acknowledged[writer as usize];
            // One more may have been durable before anybody was told.
            assert!(
                found == least || found == least + 1,
                "kill {kill}: {found} for {least}"
            );
            for round in *was + 1..=found {
                twin.commit(transaction(writer, round)).unwrap();
            }
            *was = found;
            for number in (0..NAMES).map(|number| writer * 100 + number) {
                assert_eq!(
                    get(&records, number),
                    get(&twin, number),
                    "kill {kill}: {number}"
                );
            }
        }
    }
    assert!(
        done.iter().sum::<u32>() > 200,
        "too little was written to show anything: {done:?}"
    );
}

#[test]
#[ignore = "started by the test below"]
fn makes_files_under_a_umask() {
    let (Some(folder), Ok(mask)) = (env::var_os(FOLDER), env::var(UMASK)) else {
        return;
    };
    umask(Mode::from_raw_mode(mask.parse().unwrap()));
    let folder = Path::new(&folder);
    let records = Records::create(folder, STORE, &KEY).unwrap();
    records
        .commit(vec![put(1, b"one"), put(2, &vec![2; 1 << 20])])
        .unwrap();
    records.snapshot().unwrap();
    records.commit(vec![put(3, &vec![2; 1 << 20])]).unwrap();
    settled(&records);
    drop(records);
    drop(Records::open(folder, STORE, &KEY).unwrap());
}

#[test]
fn nobody_else_can_open_a_file_under_any_umask() {
    for mask in [0u32, 0o022, 0o777] {
        let folder = Folder::on_disk();
        let test = "tests::child::makes_files_under_a_umask";
        let done = start(test, folder.path(), &[(UMASK, &mask.to_string())])
            .wait_with_output()
            .unwrap();
        assert!(done.status.success(), "{mask:o}");
        let mut seen = 0;
        crate::files::walk(folder.path(), &mut |path, found| {
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            let mode = found.permissions().mode() & 0o7777;
            assert_eq!(
                mode,
                expected,
                "{} is {mode:o} under {mask:o}",
                path.display()
            );
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert!(seen >= 7, "{seen}");
    }
}
