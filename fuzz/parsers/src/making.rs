//! The first files of `fuzz/corpus`: good ones as the code of today writes them, and broken ones of
//! each. What cargo-fuzz finds is put beside them by hand, and all of it stays: a later version has to
//! take the good ones too, or say in docs/format.md since when it does not.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use audit::{Access, Change, Event, Log, Outcome, Verdict};
use control::calls::{self, Method};
use control::frame::{write_call, write_error, write_reply};
use control::inner::{
    FromInjector, InstanceRecord, Link, Origin, Reply, RingTarget, ToInjector, VERSION,
};
use control::{ControlError, SecretText};
use model::Manifest;
use serde::Serialize;
use serde_json::json;

use crate::folder::Folder;
use crate::{audit_log, backups, records_files, store_folder};

/// A file of the corpus: `good-…` is taken, `bad-…` is refused.
pub struct Made {
    /// Of which target.
    pub target: &'static str,
    /// Its name.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

struct Corpus(Vec<Made>);

impl Corpus {
    fn put(&mut self, target: &'static str, name: &str, bytes: impl AsRef<[u8]>) {
        self.0.push(Made {
            target,
            name: name.to_owned(),
            bytes: bytes.as_ref().to_vec(),
        });
    }

    /// A good one, and one that is cut in the middle.
    fn good(&mut self, target: &'static str, name: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.put(target, &format!("good-{name}"), bytes);
        let half = &bytes[..bytes.len() / 2];
        self.put(target, &format!("bad-cut-{name}"), half);
    }

    /// The same, and one with a bit flipped, which is refused where every bit counts.
    fn sealed(&mut self, target: &'static str, name: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.good(target, name, bytes);
        let mut flipped = bytes.to_vec();
        flipped[bytes.len() / 4 * 3] ^= 0x10;
        self.put(target, &format!("bad-bit-{name}"), flipped);
    }
}

/// All of them.
pub fn files() -> Vec<Made> {
    let mut to = Corpus(Vec::new());
    manifests(&mut to);
    records(&mut to);
    store(&mut to);
    control(&mut to);
    inner(&mut to);
    for (name, line) in [
        ("good-set", "set db_password s3cret\n"),
        ("good-set-empty", "set a "),
        ("good-set-bytes", "set a.b  \u{0}\u{ff}\n\n"),
        ("good-delete", "delete api_key\n"),
        ("good-rotate", "rotate-key"),
        ("bad-name", "set ../a b\n"),
        ("bad-two", "delete a\ndelete b\n"),
        ("bad-more", "rotate-key now\n"),
        ("bad-none", "\n"),
    ] {
        to.put("ctl", name, line);
    }
    audit(&mut to);
    to.0
}

const WHOLE: &str = "service: web\nuser: www-data\ncommand: [nginx, -g, daemon off;]\nsecrets:\n  \
    - db_password\n  - {name: tls, previous: true}\n  - name: api_key\n    env: API_KEY\n    \
    audit: every-read\nconfig: {log_level: debug, max_conn: 1.10, text: \"a\\u00e9\\nb\"}\n\
    config_from: [app.settings]\non_change: {signal: HUP}\nrestart: on-failure\n\
    targets: {secret: /run/secrets, config: /etc/app}\nfile_mode: \"0440\"\nfolder_mode: \"0550\"\n";
const LINES: &str = "# web\nservice web\nuser 33:33\ncommand nginx -g \"daemon off;\"\n\
    secret db_password\nsecret api_key env=API_KEY audit=every-read\nsecret tls previous=true\n\
    config log_level=debug\nconfig text=\"a \\\"b\\\"\"\nconfig_from app.settings\n\
    on_change command /bin/reload --now\nrestart always\nfile_mode 0444\n";

fn manifests(to: &mut Corpus) {
    for (name, text) in [
        ("good-whole.yaml", WHOLE),
        ("good-whole-lines", LINES),
        ("good-least.yaml", "secrets: [db_password]\n"),
        ("good-least-lines", "secret db_password\n"),
        (
            "good-json.yaml",
            "{\"service\": \"a\", \"config\": {\"k\": \"\\u2028 \\ud7ff\"}}",
        ),
        ("good-alias.yaml", "config: {a: &a x, b: *a}\n"),
        (
            "good-block.yaml",
            "config:\n  a: |+\n    x\n\n  b: >-\n    y\n    z\n",
        ),
        ("good-mark.yaml", "\u{feff}service: a\n"),
        ("bad-key.yaml", "service: web\nsecret: [a]\n"),
        ("bad-twice.yaml", "config: {a: 1, a: 2}\n"),
        ("bad-twice-lines", "service a\nservice b\n"),
        ("tag.yaml", "config: {a: !!binary aGk=}\n"),
        ("bad-two.yaml", "service: a\n---\nservice: b\n"),
        ("bad-path.yaml", "targets: {secret: /a, config: /a/b}\n"),
        ("bad-mode-lines", "service a\nfile_mode 0666\n"),
        ("bad-name-lines", "secret ../etc/passwd\n"),
        (
            "bad-bomb.yaml",
            "a: &a [x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\n\
             d: &d [*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d]\nsecrets: *e\n",
        ),
    ] {
        to.put("manifest", name, text);
    }
    to.put("manifest", "bad-deep.yaml", "[".repeat(300));
    to.put("manifest", "bad-latin1.yaml", b"service: a\xe9\n");
}

fn records(to: &mut Corpus) {
    let written = records_files::written();
    for (name, journal) in ["first", "second", "closed"].iter().zip(&written.journals) {
        to.put("journal", &format!("good-{name}"), journal);
        let mut wrong = journal.clone();
        wrong[700] ^= 1;
        to.put("journal", &format!("bad-bit-{name}"), wrong);
    }
    let [first, second, closed] = &written.journals;
    // Only the last frame can be torn; here one in the middle lost a sector, or stands twice.
    let mut lost = closed.clone();
    lost[1024..1536].fill(0);
    to.put("journal", "bad-sector", lost);
    to.put(
        "journal",
        "bad-spliced",
        [&first[..1024], &second[1024..]].concat(),
    );
    to.put(
        "journal",
        "good-cut-before-the-last-frame",
        &closed[..closed.len() / 512 * 512],
    );
    let (_, snapshot) = &written.snapshots[1];
    to.sealed("snapshot", "folded", snapshot);
    to.put("snapshot", "bad-other", &written.snapshots[0].1);
    to.put(
        "snapshot",
        "bad-longer",
        [snapshot.as_slice(), &[0]].concat(),
    );
    let mut huge = snapshot.clone();
    huge[64 + 41..64 + 45].fill(0xff);
    to.put("snapshot", "bad-length", huge);
}

fn store(to: &mut Corpus) {
    let vectors = backups::vectors();
    for (number, (_, record)) in vectors.records.iter().enumerate() {
        to.put(
            "record",
            &format!("good-kind-{}-{number}", record[1]),
            record,
        );
    }
    let (_, record) = &vectors.records[1];
    to.sealed("record", "head", record);
    for (name, at, byte) in [
        ("format", 0, 2),
        ("cipher", 2, 2),
        ("reserved", 3, 1),
        ("generation", 4, 8),
    ] {
        let mut other = record.clone();
        other[at] = byte;
        to.put("record", &format!("bad-{name}"), other);
    }
    let known = store_folder::known();
    to.sealed("keys_file", "slots", &known.keys);
    to.sealed("keys_file", "backup", &vectors.keys);
    let wrong = |from: &str, by: &str| {
        let text = known.keys.replacen(from, by, 1);
        assert_ne!(text, known.keys);
        text
    };
    to.put(
        "keys_file",
        "bad-format",
        wrong("\"format\":1", "\"format\":2"),
    );
    to.put("keys_file", "bad-path", wrong("file-slot.key", "/dev/zero"));
    to.put("keys_file", "bad-line", wrong("\nslot 1", "\nslot 7"));
    to.sealed("slot_file", "comments", store_folder::good_slot_file());
    let line = store_folder::good_slot_file()
        .lines()
        .last()
        .unwrap()
        .to_owned();
    to.put("slot_file", "good-bare", &line);
    to.put("slot_file", "bad-twice", format!("{line}\n{line}\n"));
    to.sealed("store_files", "STORE", &known.store);
    to.sealed("store_files", "CURRENT", "gen-00000007\n");
    to.put(
        "store_files",
        "bad-format",
        known.store.replace("format 1", "format 2"),
    );
    to.put("store_files", "bad-other", "gen-00000008\n");
    to.put("store_files", "bad-path", "gen-../../etc\n");
    to.sealed("backup", "text", &vectors.text);
    let header = |from: &str, by: &str| {
        let at = vectors
            .text
            .windows(from.len())
            .position(|here| here == from.as_bytes());
        let (before, after) = vectors.text.split_at(at.unwrap());
        [before, by.as_bytes(), &after[from.len()..]].concat()
    };
    to.put(
        "backup",
        "bad-format",
        header("\"format\":1", "\"format\":2"),
    );
    to.put(
        "backup",
        "bad-count",
        header("\"records\":7", "\"records\":18446744073709551615"),
    );
    to.put(
        "backup",
        "bad-fewer",
        header("\"records\":7", "\"records\":6"),
    );
    to.put(
        "backup",
        "bad-longer",
        [vectors.text.as_slice(), b"x"].concat(),
    );
    let mut huge = vectors.text[..vectors.text.len() - 182].to_vec();
    huge.extend((16_u32 << 20).to_le_bytes());
    to.put("backup", "bad-length", huge);
    to.sealed("backup_file", "age", &vectors.file);
    to.sealed("restore", "text", &vectors.text);
}

fn call<M: Method>(parameters: &M) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_call(&mut bytes, M::NAME, parameters, false).unwrap();
    bytes
}

/// Parameters by their JSON, as somebody types them.
fn typed<M: Method>(parameters: serde_json::Value) -> Vec<u8> {
    call::<M>(&serde_json::from_str(&parameters.to_string()).unwrap())
}

fn control(to: &mut Corpus) {
    let set = calls::Set {
        name: "db".parse().unwrap(),
        value: Some(SecretText::new("aHVzaA==".to_owned())),
        data: None,
        encoding: Some(control::Encoding::Base64),
        keep: Some(3),
        reshape: false,
    };
    let calls = [
        ("set", call(&set)),
        (
            "create",
            typed::<calls::Create>(
                json!({"name": "tls", "data": {"cert.pem": "c", "key.pem": "k\n"}, "allowed_workloads": ["web"]}),
            ),
        ),
        (
            "rotate",
            typed::<calls::Rotate>(json!({"name": "db", "newValue": "n", "grace": 60})),
        ),
        (
            "grant",
            typed::<calls::Grant>(
                json!({"service": "web", "names": ["db", "tls"], "pins": {"user": "www-data"}}),
            ),
        ),
        (
            "config",
            typed::<calls::ConfigUpdate>(
                json!({"name": "app", "data": {"a": 1.10, "b": true, "c": "x"}}),
            ),
        ),
        (
            "slot",
            typed::<calls::SlotAdd>(json!({"kind": "passphrase", "passphrase": "correct horse"})),
        ),
        (
            "query",
            typed::<calls::AuditQuery>(json!({"service": "web", "last": 10})),
        ),
        ("status", typed::<calls::Status>(json!({}))),
    ];
    for (name, bytes) in &calls {
        to.put("control_call", &format!("good-{name}"), bytes);
    }
    to.put(
        "control_call",
        "good-all",
        calls.map(|(_, bytes)| bytes).concat(),
    );
    for (name, text) in [
        ("info", "{\"method\":\"org.varlink.service.GetInfo\"}\0"),
        (
            "unknown",
            "{\"method\":\"io.deploy.Secrets.Steal\",\"parameters\":{}}\0",
        ),
        (
            "twice",
            "{\"method\":\"io.deploy.Secrets.Create\",\"parameters\":{\"name\":\"a\",\"data\":{\"x\":\"1\",\"x\":\"2\"}}}\0",
        ),
        (
            "list",
            "{\"method\":\"io.deploy.Secrets.Delete\",\"parameters\":[\"a\"]}\0",
        ),
        (
            "name",
            "{\"method\":\"io.deploy.Secrets.Delete\",\"parameters\":{\"name\":\"../\\u001b[2J\"}}\0",
        ),
        (
            "member",
            "{\"method\":\"io.deploy.Secrets.Delete\",\"parameters\":{\"name\":\"a\",\"if\":1}}\0",
        ),
        ("cut", "{\"method\":\"io.deploy.Daemon.Status\"}"),
        ("empty", "\0\0\0"),
    ] {
        to.put("control_call", &format!("bad-{name}"), text);
    }
    to.put(
        "control_call",
        "bad-deep",
        ["{\"parameters\":", &"[".repeat(4000), "\0"].concat(),
    );
    let written = calls::Written {
        name: "db".parse().unwrap(),
        version: 7,
        created: model::Timestamp(1_764_000_000),
        late: vec![calls::Late {
            instance: 3,
            service: "web".parse().unwrap(),
        }],
    };
    let mut bytes = Vec::new();
    write_reply(&mut bytes, &written, false).unwrap();
    to.good("control_reply", "written", &bytes);
    bytes.clear();
    write_reply(&mut bytes, &calls::Done {}, true).unwrap();
    to.put("control_reply", "good-done", &bytes);
    let mut bytes = Vec::new();
    write_error(&mut bytes, &ControlError::invalid("no")).unwrap();
    to.put("control_reply", "bad-refused", bytes);
    to.put(
        "control_reply",
        "bad-error",
        "{\"error\":\"x\\u001b[2J\",\"parameters\":{\"message\":7}}\0",
    );
}

fn inner(to: &mut Corpus) {
    let manifest = Manifest::parse(WHOLE.as_bytes(), Path::new("web.yaml")).unwrap();
    let record = InstanceRecord {
        format: 1,
        number: 7,
        service: "web".parse().unwrap(),
        uid: 33,
        gid: 33,
        pid: 4711,
        start_time: 1 << 40,
        mount_ns: 4_026_531_840,
        cgroup: Some("/system.slice/web.service".to_owned()),
        unit: Some("web.service".to_owned()),
        image: None,
        origin: Origin::Unit { cgroup_id: 4711 },
        targets: manifest.targets.clone(),
        manifest_path: "/etc/deploy/web.yaml".into(),
        manifest: manifest.clone(),
        entries: Vec::new(),
        reloads: 0,
    };
    let ring = ToInjector::Ring {
        targets: vec![RingTarget {
            tree: "secret".to_owned(),
            path: ".inode/123145571020801".into(),
        }],
    };
    let make = ToInjector::MakeInstance {
        manifest,
        manifest_path: "/etc/deploy/web.yaml".into(),
        uid: 33,
        gid: 33,
        cgroup: None,
        root: Some("/var/lib/web/rootfs".into()),
        container: Some("web-1".to_owned()),
        image: None,
        again: false,
    };
    let instances = FromInjector::Instances {
        instances: vec![record.clone()],
    };
    let take_over = FromInjector::TakeOver {
        connections: vec!["secret".to_owned(), "config".to_owned()],
        held: Vec::new(),
        lost: Vec::new(),
        ended: vec![record.clone()],
    };
    let text = |message: &dyn erased::Message| message.text();
    to.good("inner_message", "ring", text(&ring));
    to.good("inner_message", "make", text(&make));
    to.good("inner_message", "instances", text(&instances));
    to.good("inner_message", "take-over", text(&take_over));
    to.good("inner_message", "record", text(&record));
    to.put(
        "inner_message",
        "good-reply",
        text(&Reply::Late {
            numbers: vec![1, 2],
        }),
    );
    to.put(
        "inner_message",
        "bad-member",
        "{\"end_instance\":{\"number\":1,\"force\":true}}",
    );
    to.put(
        "inner_message",
        "bad-rules",
        text(&record).replace("/run/secrets", "/proc/1"),
    );
    let asked = sent(&[&ring, &make, &take_over]);
    to.put("inner_link", "good-asked", &asked);
    let (length, rest) = asked.split_at(4);
    to.put("inner_link", "bad-length", [&[0xff; 4], rest].concat());
    let version = String::from_utf8(rest.to_vec())
        .unwrap()
        .replace(&format!("\"version\":{VERSION}"), "\"version\":9");
    to.put(
        "inner_link",
        "bad-version",
        [length, version.as_bytes()].concat(),
    );
    to.put(
        "inner_link",
        "bad-both",
        frame(format!("{{\"id\":1,\"version\":{VERSION},\"request\":1,\"reply\":1}}").as_bytes()),
    );
}

/// Messages of different types, as JSON.
mod erased {
    pub(super) trait Message {
        fn text(&self) -> String;
        fn ask(&self, link: &super::Link);
    }

    impl<T: super::Serialize> Message for T {
        fn text(&self) -> String {
            serde_json::to_string(self).unwrap()
        }

        fn ask(&self, link: &super::Link) {
            let _ = link.request(self, &[]);
        }
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes(), body].concat()
}

/// What goes over the link for these questions.
fn sent(questions: &[&(dyn erased::Message + Sync)]) -> Vec<u8> {
    let folder = Folder::new();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let link = Link::connect(&path).unwrap();
            questions.iter().for_each(|question| question.ask(&link));
        });
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        for id in 1..=questions.len() {
            bytes.extend(received(&mut stream));
            let answer = format!("{{\"id\":{id},\"version\":{VERSION},\"reply\":\"ok\"}}");
            stream.write_all(&frame(answer.as_bytes())).unwrap();
        }
        bytes
    })
}

fn received(stream: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    frame(&body)
}

fn opened(verdict: Verdict, unique: u64) -> Event<'static> {
    Event::Open(Access {
        pid: 4711,
        tid: 4712,
        uid: 33,
        comm: b"nginx",
        cgroup: b"/system.slice/web.service",
        service: "web",
        instance: 7,
        secret: "db_password",
        field: Some("password"),
        version: 3,
        verdict,
        why: "",
        connection: 2,
        unique,
    })
}

fn audit(to: &mut Corpus) {
    let act = |log: &Log| {
        let change = Change {
            operator: "root",
            uid: 0,
            pid: 1,
            act: "revoke",
            what: "db_password",
            detail: "web",
            outcome: Outcome::Done,
            why: "",
        };
        for event in [
            opened(Verdict::Allowed, 1),
            Event::Change(change),
            Event::Seal(change),
            Event::Unseal(change),
            opened(Verdict::Denied, 2),
        ] {
            log.append(&event, false).unwrap();
        }
        for unique in 3..20 {
            log.append(&opened(Verdict::Denied, unique), false).unwrap();
        }
    };
    let segment = audit_log::written("segment-0000000001", act);
    to.put("audit_segment", "good-first", &segment);
    let mut kind = segment.clone();
    kind[128 + 4] = 3;
    to.put("audit_segment", "bad-first-kind", kind);
    to.put("audit_segment", "bad-header", &segment[1..]);
    to.put("audit_segment", "cut", &segment[..segment.len() - 40]);
    to.put("audit_segment", "bad-spare", [0; 8]);
    let merged = audit_log::written("merged", act);
    to.put("audit_merged", "good-counts", &merged[..]);
    let mut twice = merged.clone();
    twice.resize(twice.len().next_multiple_of(2048), 0);
    to.put(
        "audit_merged",
        "good-twice",
        [&twice[..], &twice[twice.len() - 2048..]].concat(),
    );
    to.put("audit_merged", "bad-none", []);
    to.put(
        "audit_merged",
        "bad-noise",
        (0..=255_u8).cycle().take(8192).collect::<Vec<_>>(),
    );
}
