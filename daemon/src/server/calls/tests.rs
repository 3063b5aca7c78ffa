#![allow(clippy::unwrap_used)]
use super::*;

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use control::{Client, ClientError, ErrorKind};
use store::{Cipher, Store};

/// A control socket with a store in memory behind it. Tests run as root, who is an operator.
struct Served {
    dir: tempfile::TempDir,
    host: Arc<Host>,
}

fn served() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let audit = crate::audit::Audit::open(dir.path(), false);
    let store = Store::in_memory(Cipher::default());
    let host = Host::new(store, audit, crate::apart::of_nobody(), dir.path());
    let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
    super::super::start(listener, host.clone()).unwrap();
    Served { dir, host }
}

impl Served {
    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("control.sock")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn call(&self, method: &str, parameters: &str) -> Result<String, (ErrorKind, String)> {
        let long = calls::long_name(method).unwrap_or(method);
        match self.client().call_raw(long, parameters) {
            Ok(reply) => Ok(reply.to_string()),
            Err(ClientError::Refused(error)) => Err((error.kind, error.message)),
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn ok(&self, method: &str, parameters: &str) -> serde_json::Value {
        let reply = self
            .call(method, parameters)
            .unwrap_or_else(|error| panic!("{error:?}"));
        serde_json::from_str(&reply).unwrap()
    }

    #[track_caller]
    fn refused(&self, method: &str, parameters: &str) -> ErrorKind {
        self.call(method, parameters).unwrap_err().0
    }
}

#[test]
fn every_method_that_the_interface_names_is_answered() {
    let served = served();
    for (long, short) in calls::METHODS {
        if *short == "seal" {
            continue;
        }
        let answer = served.call(long, "{}");
        assert!(
            !matches!(&answer, Err((ErrorKind::NoMethod, _))),
            "{short} is not served"
        );
        if let Err((_, message)) = answer {
            assert!(!message.contains("no method"), "{short}: {message}");
        }
    }
    let info = served.ok("org.varlink.service.GetInfo", "{}");
    assert!(info["interfaces"].as_array().unwrap().len() > 4);
    assert!(served.call("io.deploy.Secrets.Nonsense", "{}").is_err());
}

#[test]
fn a_value_and_fields_come_back_as_they_were() {
    let served = served();
    served.ok("secret.set", r#"{"name":"a","value":"one"}"#);
    let rotated = served.ok("secret.rotate", r#"{"name":"a","newValue":"two"}"#);
    assert_eq!(rotated["version"], 2);
    assert_eq!(served.ok("secret.get", r#"{"name":"a"}"#)["value"], "two");
    assert_eq!(
        served.ok("secret.get", r#"{"name":"a","version":1}"#)["value"],
        "one"
    );
    served.ok("secret.rollback", r#"{"name":"a","version":1}"#);
    assert_eq!(served.ok("secret.get", r#"{"name":"a"}"#)["value"], "one");
    let history = served.ok("secret.history", r#"{"name":"a"}"#);
    assert_eq!(history["versions"].as_array().unwrap().len(), 3);

    let create = r#"{"name":"db.password","data":{"username":"admin","password":"s3cret"},"allowed_workloads":["api-server"]}"#;
    served.ok("secret.create", create);
    assert_eq!(served.refused("secret.create", create), ErrorKind::Conflict);
    let got = served.ok("secret.get", r#"{"name":"db.password"}"#);
    assert_eq!(got["data"]["password"], "s3cret");
    let field = served.ok("secret.get", r#"{"name":"db.password","field":"username"}"#);
    assert_eq!(field["value"], "admin");
    let list = served.ok("secret.list", r#"{"prefix":"db."}"#);
    assert_eq!(list["secrets"].as_array().unwrap().len(), 1);
    assert!(!list.to_string().contains("s3cret"));
    let grants = served.ok("secret.grants", "{}");
    assert_eq!(grants["grants"][0]["service"], "api-server");
}

#[test]
fn bytes_that_are_no_text_are_given_as_base64_alone() {
    let served = served();
    served.ok(
        "secret.set",
        r#"{"name":"a","value":"/w==","encoding":"base64"}"#,
    );
    let (kind, _) = served.call("secret.get", r#"{"name":"a"}"#).unwrap_err();
    assert_eq!(kind, ErrorKind::Invalid);
    let got = served.ok("secret.get", r#"{"name":"a","encoding":"base64"}"#);
    assert_eq!(got["value"], "/w==");
}

#[test]
fn what_is_not_there_is_named() {
    let served = served();
    for (method, parameters) in [
        ("secret.get", r#"{"name":"nothing"}"#),
        ("secret.history", r#"{"name":"nothing"}"#),
        ("secret.delete", r#"{"name":"nothing"}"#),
        ("secret.readers", r#"{"name":"nothing"}"#),
        ("secret.rotate", r#"{"name":"nothing","value":"1"}"#),
        ("secret.rollback", r#"{"name":"nothing","version":1}"#),
        ("secret.grant", r#"{"service":"web","names":["nothing"]}"#),
        ("config.get", r#"{"name":"nothing"}"#),
        ("config.delete", r#"{"name":"nothing"}"#),
        ("config.update", r#"{"name":"nothing","data":{"a":"1"}}"#),
    ] {
        let (kind, message) = served.call(method, parameters).unwrap_err();
        assert_eq!(kind, ErrorKind::NotFound, "{method}: {message}");
        assert!(message.contains("nothing"), "{method}: {message}");
    }
}

#[test]
fn a_revoke_tells_what_was_not_granted() {
    let served = served();
    for name in ["a", "b"] {
        served.ok("secret.set", &format!(r#"{{"name":"{name}","value":"1"}}"#));
    }
    served.ok("secret.grant", r#"{"service":"web","names":["a"]}"#);
    let readers = served.ok("secret.readers", r#"{"name":"a"}"#);
    assert_eq!(readers["services"][0]["service"], "web");
    let revoked = served.ok("secret.revoke", r#"{"service":"web","names":["a","b"]}"#);
    assert_eq!(revoked["revoked"], serde_json::json!(["a"]));
    assert_eq!(revoked["not_granted"], serde_json::json!(["b"]));
    assert_eq!(
        served.ok("secret.readers", r#"{"name":"a"}"#)["services"],
        serde_json::json!([])
    );
    assert_eq!(
        served.refused("secret.revoke", r#"{"service":"web","names":[]}"#),
        ErrorKind::Invalid
    );
    served.ok("secret.delete", r#"{"name":"a"}"#);
    assert_eq!(
        served.refused("secret.get", r#"{"name":"a"}"#),
        ErrorKind::NotFound
    );
}

#[test]
fn configs_are_made_changed_and_deleted() {
    let served = served();
    served.ok(
        "config.create",
        r#"{"name":"app","data":{"level":"debug","max":1.10}}"#,
    );
    served.ok("config.update", r#"{"name":"app","data":{"level":"info"}}"#);
    let got = served.ok("config.get", r#"{"name":"app"}"#);
    assert_eq!(
        got["data"],
        serde_json::json!({"level": "info", "max": "1.10"})
    );
    served.ok(
        "config.create",
        r#"{"name":"fixed","data":{"a":"1"},"immutable":true}"#,
    );
    let change = r#"{"name":"fixed","data":{"a":"2"}}"#;
    assert_eq!(served.refused("config.update", change), ErrorKind::Conflict);
    assert_eq!(
        served.ok("config.list", "{}")["configs"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    served.ok("config.delete", r#"{"name":"fixed"}"#);
    assert_eq!(
        served.ok("config.list", "{}")["configs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_sealed_store_says_so_and_a_status_is_still_given() {
    let served = served();
    served.ok("secret.set", r#"{"name":"a","value":"1"}"#);
    served.ok("seal", "{}");
    for (method, parameters) in [
        ("secret.get", r#"{"name":"a"}"#),
        ("secret.list", "{}"),
        ("secret.set", r#"{"name":"a","value":"1"}"#),
        ("config.list", "{}"),
        ("key.rotate", "{}"),
    ] {
        assert_eq!(
            served.refused(method, parameters),
            ErrorKind::Sealed,
            "{method}"
        );
    }
    let status = served.ok("status", "{}");
    assert_eq!(status["state"], "sealed");
    assert_eq!(status["injector"], false);
    served.ok("unseal", "{}");
    assert_eq!(served.ok("secret.get", r#"{"name":"a"}"#)["value"], "1");
    served.ok("unseal", "{}");
}

#[test]
fn a_key_rotation_tells_how_far_it_is_to_whoever_asks_for_it() {
    let served = served();
    for number in 0..20 {
        served.ok(
            "secret.set",
            &format!(r#"{{"name":"s{number}","value":"1"}}"#),
        );
    }
    let mut told = 0;
    let last = served
        .client()
        .call_more(&calls::KeyRotate {}, |_| told += 1)
        .unwrap();
    assert_eq!(last.generation, Some(2));
    assert_eq!(last.done, last.total);
    assert!(told > 0, "no word before the end");
    assert_eq!(served.ok("key.rotate", "{}")["generation"], 3);
}

fn say(served: &Served, frame: &[u8]) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(served.socket()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let _ = stream.write_all(frame);
    let mut answer = Vec::new();
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) && byte != [0] {
        answer.push(byte[0]);
    }
    (stream, String::from_utf8(answer).unwrap())
}

#[test]
fn frames_that_are_no_calls_are_refused_and_the_next_one_is_served() {
    let served = served();
    for frame in [
        &b"\0"[..],
        b"not json\0",
        b"[]\0",
        b"{\"method\":7}\0",
        b"\xff\xfe\0",
    ] {
        let (mut stream, answer) = say(&served, frame);
        assert!(answer.contains("io.deploy.Secrets.Invalid"), "{answer}");
        stream
            .write_all(b"{\"method\":\"io.deploy.Daemon.Status\"}\0")
            .unwrap();
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
    }
}

#[test]
fn a_call_that_is_too_large_ends_its_connection_and_no_other() {
    let served = served();
    let call = br#"{"method":"io.deploy.Secrets.Set","parameters":{"name":"a","value":""#;
    let (mut stream, _) = say(
        &served,
        &[call.as_slice(), &vec![b'x'; frame::MAX_CALL + 1]].concat(),
    );
    let mut byte = [0];
    assert!(!matches!(stream.read(&mut byte), Ok(1)), "it is served on");
    served.ok("status", "{}");
}

#[test]
fn a_call_that_wants_no_answer_gets_none() {
    let served = served();
    let calls = b"{\"method\":\"io.deploy.Secrets.Set\",\"parameters\":{\"name\":\"a\",\"value\":\"1\"},\"oneway\":true}\0\
        {\"method\":\"io.deploy.Secrets.List\",\"parameters\":{}}\0";
    let (_, answer) = say(&served, calls);
    assert!(
        answer.contains("secrets") && answer.contains("\"a\""),
        "{answer}"
    );
}

#[test]
fn no_answer_holds_a_value_that_it_was_not_asked_for() {
    let served = served();
    let hush = "hush-hush";
    for (method, parameters) in [
        ("secret.set", format!(r#"{{"name":"A","value":"{hush}"}}"#)),
        (
            "secret.set",
            format!(r#"{{"name":"a","value":"{hush}","data":{{"b":"{hush}"}}}}"#),
        ),
        ("secret.set", format!(r#"{{"name":"a","valeu":"{hush}"}}"#)),
        (
            "secret.set",
            format!(r#"{{"name":"a","value":["{hush}"]}}"#),
        ),
        ("unseal", format!(r#"{{"passphrase":["{hush}"]}}"#)),
    ] {
        let (_, message) = served.call(method, &parameters).unwrap_err();
        assert!(!message.contains(hush), "{message}");
    }
    let stored = served.ok("secret.set", &format!(r#"{{"name":"a","value":"{hush}"}}"#));
    assert!(!stored.to_string().contains(hush));
    assert!(!format!("{:?}", served.host.store).contains(hush));
    assert!(Path::new(&served.socket()).exists());
}
