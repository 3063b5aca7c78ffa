//! Manifests as a test writes them.

use serde_json::{Value, json};

/// A manifest under construction. It is written as JSON, which is YAML too.
#[derive(Debug, Clone)]
pub struct Asked {
    service: String,
    fields: serde_json::Map<String, Value>,
}

impl Asked {
    /// A service that asks for nothing yet.
    pub fn service(name: &str) -> Asked {
        let mut fields = serde_json::Map::new();
        fields.insert("service".into(), json!(name));
        Asked {
            service: name.into(),
            fields,
        }
    }

    /// The user it runs as, by number.
    pub fn user(self, uid: u32) -> Asked {
        self.with("user", json!(uid.to_string()))
    }

    /// The command it runs.
    pub fn command(self, words: &[&str]) -> Asked {
        self.with("command", json!(words))
    }

    /// The command is a Python program, with `check(what, call)` to print what came of a call: what
    /// it gave, in JSON, or the name of its errno.
    pub fn python(self, script: &str) -> Asked {
        let head = "import os, sys, mmap, fcntl, termios, select, errno, json\n\
            def check(what, call):\n    \
            try: got = call()\n    \
            except OSError as e: got = errno.errorcode[e.errno]\n    \
            print(what, json.dumps(got), flush=True)\n";
        self.command(&["/usr/bin/python3", "-c", &format!("{head}{script}")])
    }

    /// The secrets it asks for.
    pub fn secrets(self, names: &[&str]) -> Asked {
        self.with("secrets", json!(names))
    }

    /// Its own settings.
    pub fn config(self, pairs: &[(&str, &str)]) -> Asked {
        let pairs: serde_json::Map<String, Value> = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        self.with("config", Value::Object(pairs))
    }

    /// Any other key of a manifest.
    pub fn with(mut self, key: &str, value: Value) -> Asked {
        self.fields.insert(key.into(), value);
        self
    }

    /// Whether a key is there already.
    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.service
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.fields).unwrap();
        text.push('\n');
        text
    }
}
