//! Entries as lines of JSON, for people and their tools.
//!
//! What others chose, such as the name that a process calls itself, is shown so that it can be
//! nothing but itself: a line stays one line, and neither a terminal nor a reader of the line is told
//! anything by it.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::entry::{Access, Change, Entry, Event, Merged, Record};

/// Bytes as text of printable characters: `\` is `\\`, a byte that is not UTF-8 is `\xNN`, a
/// character that is not printable (control, direction, width none) is `\u{NN}`. No two byte strings
/// give the same text.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' | '\'' => text.push(c),
                // Nothing that puts itself over the character before it, either.
                _ if c.escape_debug().len() > 1 || !is_printable(c) => {
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(c));
                }
                _ => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// `escape_debug` leaves the space that breaks no line, and wide ones, as they are.
fn is_printable(c: char) -> bool {
    c == ' ' || !c.is_whitespace()
}

/// The unit of systemd that a cgroup is of.
pub(crate) fn unit(cgroup: &[u8]) -> Option<&[u8]> {
    cgroup
        .rsplit(|byte| *byte == b'/')
        .find(|part| part.ends_with(b".service") || part.ends_with(b".scope"))
}

impl Entry<'_> {
    /// One line of JSON, without the line's end. Keys that have nothing to say are left out.
    pub fn json(&self) -> String {
        let mut line = Line::default();
        line.number("seq", self.seq);
        line.text("time", &self.time.to_string());
        line.number("uptime_us", self.uptime);
        line.text("kind", self.record.kind().as_str());
        line.record(&self.record);
        if self.cut {
            line.0.insert("cut".into(), true.into());
        }
        line.text("hash", &self.hash.to_string());
        Value::Object(line.0).to_string()
    }
}

#[derive(Default)]
struct Line(Map<String, Value>);

impl Line {
    fn number(&mut self, key: &str, number: impl Into<u64>) {
        self.0.insert(key.into(), number.into().into());
    }

    fn number_if(&mut self, key: &str, number: impl Into<u64>) {
        let number = number.into();
        if number != 0 {
            self.number(key, number);
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        self.bytes(key, text.as_bytes());
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.insert(key.into(), shown(bytes).into());
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(Event::Open(access) | Event::Read(access)) => self.access(access),
            Record::Event(Event::Change(change) | Event::Seal(change) | Event::Unseal(change)) => {
                self.change(change);
            }
            Record::Start(start) => {
                self.boot(&start.boot);
                self.number("pid", start.pid);
                self.text("program", start.program);
                self.text("found", start.found);
            }
            Record::Stop => {}
            Record::Segment(switch) => {
                self.boot(&switch.boot);
                self.number("segment", switch.number);
                self.number("oldest", switch.oldest);
                self.text("note", switch.note);
            }
            Record::Merged(merged) => self.merged(merged),
        }
    }

    fn boot(&mut self, boot: &[u8; 16]) {
        if *boot != [0; 16] {
            let digits = boot.iter().map(|byte| format!("{byte:02x}"));
            self.text("boot", &digits.collect::<String>());
        }
    }

    fn access(&mut self, access: &Access<'_>) {
        self.text("service", access.service);
        self.number_if("instance", access.instance);
        self.text("secret", access.secret);
        self.text("field", access.field.unwrap_or_default());
        self.number_if("version", access.version);
        self.text("verdict", access.verdict.as_str());
        self.text("why", access.why);
        self.number_if("pid", access.pid);
        self.number("tid", access.tid);
        self.number("uid", access.uid);
        self.bytes("comm", access.comm);
        self.bytes("cgroup", access.cgroup);
        self.bytes("unit", unit(access.cgroup).unwrap_or_default());
        self.number("connection", access.connection);
        self.number("unique", access.unique);
    }

    fn change(&mut self, change: &Change<'_>) {
        self.text("operator", change.operator);
        self.number("uid", change.uid);
        self.number_if("pid", change.pid);
        self.text("act", change.act);
        self.text("what", change.what);
        self.text("detail", change.detail);
        self.text("outcome", change.outcome.as_str());
        self.text("why", change.why);
    }

    fn merged(&mut self, merged: &Merged<'_>) {
        self.text("of", merged.of.as_str());
        self.number("count", merged.count);
        self.text("first", &merged.first.to_string());
        self.text("last", &merged.last.to_string());
        self.text("service", merged.service);
        self.number_if("instance", merged.instance);
        self.text("secret", merged.secret);
        self.number_if("version", merged.version);
        self.text("operator", merged.operator);
        self.text("act", merged.act);
        self.text("verdict", merged.verdict.as_str());
        self.text("why", merged.why);
        self.number_if("pid", merged.pid);
        self.number_if("tid", merged.tid);
        self.number("uid", merged.uid);
        self.bytes("comm", merged.comm);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::anchor::Hash;
    use crate::time::Time;

    fn entry<'a>(record: Record<'a>) -> Entry<'a> {
        Entry {
            seq: 9,
            time: Time(1_764_000_000_000_001),
            uptime: 5,
            cut: false,
            hash: Hash::default(),
            record,
        }
    }

    #[test]
    fn an_open_is_a_line_that_names_everything() {
        let access = crate::frame::tests::access();
        let line = entry(Record::Event(Event::Open(access))).json();
        assert_eq!(
            line,
            format!(
                r#"{{"seq":9,"time":"2025-11-24T16:00:00.000001Z","uptime_us":5,"kind":"open","service":"web","instance":7,"secret":"tls","field":"key.pem","version":3,"verdict":"allowed","why":"granted","pid":12,"tid":13,"uid":33,"comm":"nginx","cgroup":"/system.slice/web.service","unit":"web.service","connection":5,"unique":1099511627776,"hash":"{}"}}"#,
                "0".repeat(64)
            )
        );
    }

    #[test]
    fn each_kind_is_one_object_with_its_kind() {
        for record in crate::frame::tests::records() {
            let line = entry(record).json();
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["kind"], record.kind().as_str(), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn a_name_that_would_forge_a_line_forges_none() {
        for (comm, text) in [
            (&b"a\n{\"seq\":10}"[..], r#"a\u{a}{"seq":10}"#),
            (b"\x1b[2K\r", r"\u{1b}[2K\u{d}"),
            (b"\xff\xfe", r"\xff\xfe"),
            (br"\xff", r"\\xff"),
            (
                "\u{202e}txt\u{200b}\u{2028}".as_bytes(),
                r"\u{202e}txt\u{200b}\u{2028}",
            ),
            (
                "e\u{301}\u{a0}\u{3000}".as_bytes(),
                r"e\u{301}\u{a0}\u{3000}",
            ),
            ("größe 'x'".as_bytes(), "größe 'x'"),
        ] {
            assert_eq!(shown(comm), text);
            let access = crate::entry::Access {
                comm,
                ..crate::frame::tests::access()
            };
            let line = entry(Record::Event(Event::Open(access))).json();
            assert_eq!(line.lines().count(), 1);
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["comm"], text);
            assert_eq!(value["seq"], 9);
        }
    }

    #[test]
    fn a_unit_is_found_in_its_cgroup() {
        for (cgroup, found) in [
            ("/system.slice/web.service", Some("web.service")),
            ("/system.slice/web.service/worker", Some("web.service")),
            (
                "/user.slice/user-1.slice/user@1.service/app.slice/a.scope",
                Some("a.scope"),
            ),
            ("/deploy-secrets/web.7", None),
            ("", None),
        ] {
            assert_eq!(
                unit(cgroup.as_bytes()),
                found.map(str::as_bytes),
                "{cgroup}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_printable_and_says_which_bytes_it_was(
            one in proptest::collection::vec(any::<u8>(), 0..20),
            text in any::<String>(),
        ) {
            for bytes in [&one[..], text.as_bytes()] {
                let shown = shown(bytes);
                prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
                prop_assert_eq!(read_back(&shown), bytes);
            }
        }
    }

    /// The way back, so that no two byte strings can be shown alike.
    fn read_back(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(c) = text.chars().next() {
            text = &text[c.len_utf8()..];
            if c != '\\' {
                bytes.extend(c.to_string().bytes());
            } else if let Some(rest) = text.strip_prefix('\\') {
                bytes.push(b'\\');
                text = rest;
            } else if let Some(rest) = text.strip_prefix('x') {
                bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                text = &rest[2..];
            } else {
                let (digits, rest) = text.strip_prefix("u{").unwrap().split_once('}').unwrap();
                let c = char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap();
                bytes.extend(c.to_string().bytes());
                text = rest;
            }
        }
        bytes
    }
}
