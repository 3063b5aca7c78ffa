//! A service that opens, holds, maps and watches what it is told to, and says what it sees.
//! `python/reader.py` is the other end, and says what each verb does.

use serde_json::{Value, json};

use crate::manifest::Asked;
use crate::{Pair, Service};

/// The service.
pub struct Reader(Service);

/// What was seen, or why nothing was: an errno's name, or a signal's.
pub type Seen<T> = Result<T, String>;

impl Reader {
    /// Starts it, and waits until it answers.
    #[track_caller]
    pub fn start(pair: &Pair, asked: &Asked) -> Reader {
        let script = include_str!("python/reader.py");
        let asked = asked.clone().command(&["/usr/bin/python3", "-c", script]);
        let mut reader = Reader(pair.run(&asked));
        reader.names("/secret").unwrap();
        reader
    }

    #[track_caller]
    fn ask(&mut self, question: &Value) -> Seen<Value> {
        self.0.write(&question.to_string());
        let answer: Value = serde_json::from_str(&self.0.line()).unwrap();
        match answer["refused"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(answer),
        }
    }

    /// Opens, and holds a descriptor under a number; gives its content.
    #[track_caller]
    pub fn open(&mut self, number: u32, path: &str) -> Seen<String> {
        self.ask(&json!(["open", number, path])).map(text)
    }

    /// Holds a child under a number, which has a held descriptor too; gives what it reads.
    #[track_caller]
    pub fn fork(&mut self, number: u32, of: u32) -> Seen<String> {
        self.ask(&json!(["fork", number, of])).map(text)
    }

    /// Holds a child under a number, which has mapped a held descriptor; gives what it reads.
    #[track_caller]
    pub fn map(&mut self, number: u32, of: u32) -> Seen<String> {
        self.ask(&json!(["map", number, of])).map(text)
    }

    /// What one of these three gives now.
    #[track_caller]
    pub fn look(&mut self, number: u32) -> Seen<String> {
        self.ask(&json!(["look", number])).map(text)
    }

    /// Holds a watch of a file and its folder under a number.
    #[track_caller]
    pub fn watch(&mut self, number: u32, path: &str) -> Seen<()> {
        self.ask(&json!(["watch", number, path])).map(drop)
    }

    /// Passes over what a watch has heard so far.
    #[track_caller]
    pub fn forgets(&mut self, number: u32) {
        self.ask(&json!(["forgets", number])).unwrap();
    }

    /// Which of these a watch has not heard, after waiting for them.
    #[track_caller]
    pub fn does_not_hear(&mut self, number: u32, wanted: &[&str]) -> Vec<String> {
        let left = self.ask(&json!(["waits", number, wanted])).unwrap();
        serde_json::from_value(left).unwrap()
    }

    /// Holds it no more.
    #[track_caller]
    pub fn close(&mut self, number: u32) {
        self.ask(&json!(["close", number])).unwrap();
    }

    /// The names in a folder.
    #[track_caller]
    pub fn names(&mut self, folder: &str) -> Seen<Vec<String>> {
        let names = self.ask(&json!(["names", folder]))?;
        Ok(serde_json::from_value(names).unwrap())
    }

    /// What stat(2) says.
    #[track_caller]
    pub fn size(&mut self, path: &str) -> Seen<usize> {
        let size = self.ask(&json!(["size", path]))?;
        Ok(serde_json::from_value(size).unwrap())
    }

    /// The service.
    pub fn service(&self) -> &Service {
        &self.0
    }
}

#[track_caller]
fn text(answer: Value) -> String {
    serde_json::from_value(answer).unwrap()
}
