//! Plays a sequence on a pair of its own, beside the model.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::reader::{Reader, Seen};
use tests::{Pair, Varlink};

use crate::model::{FILES, Held, How, May, Model, READERS, SECRETS, SERVICES, Watched};

/// As much as a reader holds at once.
const MOST: usize = 8;

#[derive(Debug, Clone, Copy)]
pub enum Died {
    Secretsd,
    Injector,
    Both,
}

/// What is done. Places in the model's tables; what is held is counted around.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    Set(usize),
    Grant(usize, usize),
    Revoke(usize, usize),
    Open(usize, usize),
    Fork(usize, usize),
    Map(usize, usize),
    Look(usize, usize),
    Close(usize, usize),
    Names(usize),
    Size(usize, usize),
    Watch(usize, usize),
    Kill(Died),
    /// Secretsd is killed so many microseconds after it was asked.
    TornSet(usize, u64),
    TornGrant(usize, usize, u64),
    TornRevoke(usize, usize, u64),
    /// A service aborts the connection of all views.
    Lose(usize),
}

pub type Done = Result<(), String>;

pub struct World {
    pub model: Model,
    pub readers: Vec<Reader>,
    /// No injector has shown since one was killed that it rings.
    pub away: bool,
    looks: u64,
    number: u32,
    pub pair: Pair,
}

/// How many looks there were, or what was wrong.
pub fn play(ops: &[Op]) -> Result<u64, String> {
    // What the harness finds wrong, a call that hangs say, is a panic.
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new();
        let done = ops
            .iter()
            .enumerate()
            .try_for_each(|(at, op)| {
                let done = world.act(*op);
                done.map_err(|wrong| format!("operation {at}, {op:?}: {wrong}"))
            })
            .and_then(|()| world.look_at_all());
        let World {
            readers,
            pair,
            looks,
            ..
        } = world;
        drop(readers);
        let log = pair.log_text();
        pair.leaves_nothing();
        let last: Vec<&str> = log.lines().rev().take(20).collect();
        done.map_err(|wrong| {
            format!(
                "{wrong}\nthe last of the log, backwards:\n{}",
                last.join("\n")
            )
        })?;
        Ok(looks)
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| "the harness panicked".to_owned()))
    })
}

pub fn value(secret: usize, version: u64) -> Value {
    let files = FILES.iter().filter(|file| file.secret == secret);
    let contents: BTreeMap<_, _> = files
        .map(|file| (file.field, file.content(version)))
        .collect();
    match contents.get(&None) {
        Some(one) => json!({"name": SECRETS[secret], "value": one}),
        None => {
            let fields: BTreeMap<_, _> = contents
                .iter()
                .map(|(field, content)| (field.unwrap(), content))
                .collect();
            json!({"name": SECRETS[secret], "data": fields})
        }
    }
}

pub fn one_grant(service: usize, secret: usize) -> Value {
    json!({"service": SERVICES[service], "names": [SECRETS[secret]]})
}

pub fn call(pair: &Pair, method: &str, parameters: &Value) -> Result<Value, String> {
    let method = format!("io.deploy.{method}");
    match Varlink::once(pair, &method, parameters) {
        Some(Ok(answer)) => Ok(answer),
        other => Err(format!("{method}: {other:?}")),
    }
}

impl World {
    fn new() -> World {
        let pair = Pair::start();
        let mut model = Model::default();
        for (secret, name) in SECRETS.iter().enumerate() {
            call(&pair, "Secrets.Set", &value(secret, 1)).unwrap();
            model.newest[secret] = 1;
            for (service, of) in SERVICES.iter().enumerate() {
                pair.grant(of, &[name]);
                model.granted.insert((service, secret));
            }
        }
        let user = ClaimedUser::claim();
        let readers = READERS.map(|service| {
            let asked = Asked::service(SERVICES[service]).user(user.uid());
            Reader::start(&pair, &asked.secrets(&SECRETS))
        });
        World {
            model,
            readers: readers.into(),
            away: false,
            looks: 0,
            number: 0,
            pair,
        }
    }

    fn act(&mut self, op: Op) -> Done {
        match op {
            Op::Set(secret) => self.set(secret),
            Op::Grant(service, secret) => self.grant(service, secret),
            Op::Revoke(service, secret) => self.revoke(service, secret),
            Op::Open(reader, file) => self.open(reader, file),
            Op::Fork(reader, pick) => self.second(reader, pick, How::Inherited),
            Op::Map(reader, pick) => self.second(reader, pick, How::Mapped),
            Op::Look(reader, pick) => match self.pick(reader, pick) {
                Some((number, held)) => self.look(reader, number, held),
                None => Ok(()),
            },
            Op::Close(reader, pick) => {
                if let Some((number, _)) = self.pick(reader, pick) {
                    self.close(reader, number);
                }
                Ok(())
            }
            Op::Names(reader) => {
                let names = self.readers[reader].names("/secret");
                let right = self.model.names(reader);
                right_if(names.as_ref().is_ok_and(|names| *names == right), || {
                    format!("{names:?}, not {right:?}")
                })
            }
            Op::Size(reader, file) => {
                let size = self.readers[reader].size(&FILES[file].path());
                let may = self.model.size(reader, FILES[file]);
                let right = match (&size, &may) {
                    (Ok(size), May::Give(versions)) => versions
                        .iter()
                        .any(|version| FILES[file].content(*version).len() == *size),
                    (Err(why), May::Refuse(reasons)) => reasons.contains(&&**why),
                    _ => false,
                };
                let torn = self.model.is_torn(reader, FILES[file].secret);
                right_if(right || torn, || format!("{size:?}, not {may:?}"))
            }
            Op::Watch(reader, file) => self.watch(reader, file),
            Op::Kill(died) => {
                self.kill(died);
                Ok(())
            }
            Op::TornSet(secret, micros) => self.torn_set(secret, micros),
            Op::TornGrant(service, secret, micros) => {
                self.torn_grant(true, service, secret, micros)
            }
            Op::TornRevoke(service, secret, micros) => {
                self.torn_grant(false, service, secret, micros)
            }
            Op::Lose(reader) => self.lose(reader),
        }
    }

    fn open(&mut self, reader: usize, file: usize) -> Done {
        let (file, number) = (FILES[file], self.next(reader));
        let start = Instant::now();
        let seen = self.readers[reader].open(number, &file.path());
        let may = self.model.open(reader, file, start);
        let version = self.right(file, &seen, &may)?;
        if let Some(version) = version {
            self.model.opened(reader, file, version, start);
            let held = Held {
                file,
                version,
                how: How::Open,
                lost: false,
            };
            let sight = &mut self.model.sights[reader];
            sight.held.insert(number, held);
            let watched = sight.watched.values_mut();
            watched
                .filter(|one| one.file == file)
                .for_each(|one| one.has_name = true);
        }
        Ok(())
    }

    /// Another holder of something that can be read.
    fn second(&mut self, reader: usize, pick: usize, how: How) -> Done {
        // First, as it may close what would be picked.
        let number = self.next(reader);
        let Some((of, held)) = self.pick(reader, pick) else {
            return Ok(());
        };
        if held.how != How::Open || matches!(self.model.look(reader, &held), May::Refuse(_)) {
            return Ok(());
        }
        let seen = match how {
            How::Mapped => self.readers[reader].map(number, of),
            _ => self.readers[reader].fork(number, of),
        };
        let second = Held { how, ..held };
        self.model.sights[reader].held.insert(number, second);
        let may = self.model.look(reader, &second);
        self.right(held.file, &seen, &may).map(drop)
    }

    fn look(&mut self, reader: usize, number: u32, held: Held) -> Done {
        let seen = self.readers[reader].look(number);
        let may = self.model.look(reader, &held);
        self.right(held.file, &seen, &may)
            .map_err(|wrong| format!("reader {reader}, {held:?}: {wrong}"))?;
        if held.how == How::Mapped && seen.is_err() {
            self.close(reader, number);
        }
        Ok(())
    }

    fn look_at_all(&mut self) -> Done {
        for reader in 0..self.readers.len() {
            for (number, held) in self.model.sights[reader].held.clone() {
                self.look(reader, number, held)
                    .map_err(|wrong| format!("at the end: {wrong}"))?;
            }
        }
        Ok(())
    }

    /// Which version was seen, if that was right.
    fn right(
        &mut self,
        file: crate::model::File,
        seen: &Seen<String>,
        may: &May,
    ) -> Result<Option<u64>, String> {
        self.looks += 1;
        let version = match (seen, may) {
            (Ok(text), May::Give(versions)) => {
                let seen = versions.iter().find(|one| file.content(**one) == *text);
                seen.map(|version| Some(*version))
            }
            (Err(why), May::Refuse(reasons)) => reasons.contains(&&**why).then_some(None),
            _ => None,
        };
        version.ok_or_else(|| {
            let seen = seen.as_ref().map(|text| text.get(..60).unwrap_or(text));
            format!("{}: {seen:?}, not {may:?}", file.path())
        })
    }

    fn watch(&mut self, reader: usize, file: usize) -> Done {
        let file = FILES[file];
        if self.model.sights[reader].watched.len() == MOST {
            return Ok(());
        }
        let number = self.next(reader);
        let seen = self.readers[reader].watch(number, &file.path());
        let may = self.model.may_read(reader, file.secret);
        let right = match &seen {
            Ok(()) => may,
            Err(why) => {
                let torn = self.model.is_torn(reader, file.secret) && why == "EKEYREVOKED";
                !may && (why == "ENOENT" || torn)
            }
        };
        right_if(right, || {
            format!("{}: {seen:?}, granted: {may}", file.path())
        })?;
        if seen.is_ok() {
            let watched = Watched {
                file,
                has_file: true,
                has_name: true,
            };
            self.model.sights[reader].watched.insert(number, watched);
        }
        Ok(())
    }

    fn pick(&self, reader: usize, pick: usize) -> Option<(u32, Held)> {
        let held = &self.model.sights[reader].held;
        let nth = pick.checked_rem(held.len())?;
        held.iter().nth(nth).map(|(number, held)| (*number, *held))
    }

    /// A number that nothing is held under, and a place.
    fn next(&mut self, reader: usize) -> u32 {
        let held = &self.model.sights[reader].held;
        if held.len() == MOST
            && let Some((oldest, _)) = held.first_key_value()
        {
            self.close(reader, *oldest);
        }
        self.number += 1;
        self.number
    }

    fn close(&mut self, reader: usize, number: u32) {
        self.readers[reader].close(number);
        self.model.sights[reader].held.remove(&number);
    }
}

pub fn right_if(right: bool, wrong: impl FnOnce() -> String) -> Done {
    if right { Ok(()) } else { Err(wrong()) }
}
