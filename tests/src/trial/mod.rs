//! A store on a disk that fails: changes, what must be there after them, and the process that has the
//! store, so that it can be killed.

mod cuts;
mod failing;
mod op;
mod rounds;
mod tally;
mod worker;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::powercut::{Disk, Image};

pub use failing::scenario;
pub use op::{ADMIN, Bytes, Op, describe, group_of};
pub use rounds::{Ending, FLOOD};
pub use tally::Tally;
pub use worker::{Event, Worker};
pub use world::{Lines, World};

/// What the worker holds on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A store.
    Store,
    /// Records alone: the lower half of a store, which can be told to make a snapshot.
    Records,
    /// sled alone, with flush() after each change: what we must be better than.
    Sled,
}

/// What the worker is told, one line of JSON each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Makes what is to be held. `Done` with lane 0.
    Init(String, Target),
    /// Opens it. `Opened` or `Refused`.
    Open(String, Target),
    /// Does a change, in a thread of this lane. `Done` or `Failed`.
    Do(u32, Op),
    /// Says all that it holds. `Lines`.
    Tell,
    /// Says how it is. `Health`.
    Health,
    /// Closes it. `Closed`.
    Close,
}

/// What the worker says, one line of JSON each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// It is open; how it was found, and the store's id.
    Opened {
        /// As `Opened` and the warnings display it.
        found: String,
        /// The store's, where there is one.
        id: String,
    },
    /// It does not open.
    Refused(String),
    /// The change of this lane is acknowledged.
    Done(u32),
    /// The change of this lane failed.
    Failed(u32, String),
    /// What it holds.
    Lines(Lines),
    /// What its status says is wrong.
    Health(Vec<String>),
    /// It is closed.
    Closed,
    /// Somebody panicked; where, and what it said. sled's own panics are caught by the index.
    Panicked {
        /// In sled.
        sled: bool,
        /// Place and words.
        text: String,
    },
}

/// A disk at one moment, and what it must hold.
#[derive(Debug)]
pub struct Start {
    image: Image,
    groups: Groups,
}

/// What each group of names may hold: more than one thing where it is not known whether a change
/// came about.
type Groups = BTreeMap<String, Vec<World>>;

/// A store on a disk, and what it must hold.
#[derive(Debug)]
pub struct Trial {
    /// The disk.
    pub disk: Disk,
    /// What happened so far.
    pub tally: Tally,
    target: Target,
    groups: Groups,
    /// By lane: what nobody has heard the end of.
    under_way: BTreeMap<u32, Op>,
    /// A number that was never given.
    fresh: u64,
    id: String,
}

impl Trial {
    /// A new store.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn begin(target: Target) -> Self {
        let disk = Disk::new();
        let mut worker = Worker::start();
        worker.order(&Order::Init(folder(&disk), target));
        match worker.event() {
            Event::Said(Answer::Done(0)) => {}
            other => panic!("no store: {other:?}"),
        }
        // Once, so that its id is known, and its keys are found in the keyring however a round ends.
        worker.order(&Order::Open(folder(&disk), target));
        let id = match worker.event() {
            Event::Said(Answer::Opened { id, .. }) => id,
            other => panic!("no store: {other:?}"),
        };
        drop(worker);
        disk.go_on();
        let admin = match target {
            Target::Store => World::of_new_store(),
            Target::Records | Target::Sled => World::default(),
        };
        Self {
            disk,
            tally: Tally::default(),
            target,
            groups: Groups::from([(ADMIN.into(), vec![admin])]),
            under_way: BTreeMap::new(),
            fresh: 0,
            id,
        }
    }

    fn now(&self) -> Start {
        Start {
            image: self.disk.image(),
            groups: self.groups.clone(),
        }
    }

    fn reopen(&mut self) -> Result<(), String> {
        let mut worker = Worker::start();
        let opened = self.open(&mut worker);
        self.kill(worker).and(opened.map(drop))
    }

    fn worlds(&mut self, group: &str) -> &mut Vec<World> {
        let nothing = || vec![World::default()];
        self.groups.entry(group.to_owned()).or_insert_with(nothing)
    }

    /// Opens, and compares with what was acknowledged; `false`: the power went meanwhile.
    fn open(&mut self, worker: &mut Worker) -> Result<bool, String> {
        worker.order(&Order::Open(folder(&self.disk), self.target));
        match self.answer(worker)? {
            Some(Answer::Opened { found, .. }) => self.count_found(&found),
            None | Some(Answer::Refused(_)) if self.disk.is_off() => {
                self.tally.one("cut while it was opened");
                return Ok(false);
            }
            other => return Err(format!("it does not open: {other:?}")),
        }
        let Some(lines) = self.told(worker)? else {
            return Ok(false);
        };
        self.compare(lines).map(|()| true)
    }

    /// What the worker says that it holds; `None`: the power went.
    fn told(&mut self, worker: &mut Worker) -> Result<Option<Lines>, String> {
        worker.order(&Order::Tell);
        match self.answer(worker)? {
            None => Ok(None),
            Some(Answer::Lines(lines)) => Ok(Some(lines)),
            Some(other) => Err(format!("it does not tell: {other:?}")),
        }
    }

    /// The next answer; `None`: the power went.
    fn answer(&mut self, worker: &Worker) -> Result<Option<Answer>, String> {
        loop {
            match worker.event() {
                Event::Said(Answer::Panicked { sled: true, .. }) => self.tally.one("sled panicked"),
                Event::Said(Answer::Panicked { text, .. }) => {
                    return Err(format!("somebody panicked: {text}"));
                }
                Event::Said(answer) => return Ok(Some(answer)),
                Event::Cut => return Ok(None),
                Event::Ended => return Err("the worker ended".into()),
                Event::Silence => return Err("the worker hangs".into()),
            }
        }
    }

    fn count_found(&mut self, found: &str) {
        self.tally.one("opened");
        for (words, what) in [
            ("cut short", "a torn frame was dropped"),
            ("the index lacked", "the index was behind"),
            ("filled anew", "the index was filled anew"),
            ("no index", "opened without an index"),
            ("written anew from the index", "the snapshot was rewritten"),
            ("not closed cleanly", "not closed cleanly"),
            ("leftovers", "a generation was left over"),
            ("nothing can be written", "opened read-only"),
        ] {
            if found.contains(words) {
                self.tally.one(what);
            }
        }
    }

    /// Compares with everything that was acknowledged, and settles what was under way.
    fn compare(&mut self, lines: Lines) -> Result<(), String> {
        let mut by_group: BTreeMap<String, Lines> = BTreeMap::new();
        for (name, how) in lines {
            let group = by_group.entry(group_of(&name).to_owned()).or_default();
            group.insert(name, how);
        }
        for (group, worlds) in &mut self.groups {
            let there = by_group.remove(group).unwrap_or_default();
            let fits = |world: &World| world.lines() == there;
            let Some(first) = worlds.iter().position(fits) else {
                let may_be: Vec<Lines> = worlds.iter().map(World::lines).collect();
                return Err(difference(group, &there, &may_be));
            };
            if worlds.len() > 1 {
                self.tally.one(match first {
                    0 => "a change under way was not there, not half of it",
                    _ => "a change under way was there, whole",
                });
            }
            worlds.retain(fits);
        }
        match by_group.keys().next() {
            Some(group) => Err(format!("nobody wrote what is in {group}")),
            None => {
                self.tally.one("compared in full");
                Ok(())
            }
        }
    }

    fn begin_change(&mut self, worker: &mut Worker, lane: u32, op: Op) {
        worker.order(&Order::Do(lane, op.clone()));
        self.under_way.insert(lane, op);
    }

    /// Takes what was acknowledged.
    fn hear(&mut self, answer: Answer) -> Result<(), String> {
        match answer {
            Answer::Done(lane) => {
                let op = self.under_way.remove(&lane);
                let op = op.ok_or("nobody asked for that")?;
                for world in self.worlds(op.group()) {
                    *world = world.after(&op);
                }
                self.tally.one(&format!("acknowledged: {}", op.kind()));
                Ok(())
            }
            Answer::Panicked { sled: false, text } => Err(format!("somebody panicked: {text}")),
            _ => Ok(()),
        }
    }

    /// Nobody knows whether it came about.
    fn doubt(&mut self, op: &Op) {
        self.tally.one("under way when it ended");
        let worlds = self.worlds(op.group());
        for number in 0..worlds.len() {
            let after = worlds[number].after(op);
            if !worlds.contains(&after) {
                worlds.push(after);
            }
        }
    }

    /// Kills the worker, and takes what it had said before.
    fn kill(&mut self, worker: Worker) -> Result<(), String> {
        let said = worker.kill();
        let heard = said.into_iter().try_for_each(|answer| self.hear(answer));
        for op in std::mem::take(&mut self.under_way).into_values() {
            self.doubt(&op);
        }
        self.forget_keys();
        heard
    }

    /// A worker that was killed has left its root keys in the keyring.
    fn forget_keys(&self) {
        let store = format!("deploy-secrets:{}:", self.id);
        let keys = std::fs::read_to_string("/proc/keys").unwrap_or_default();
        for words in keys.lines().flat_map(str::split_whitespace) {
            if words.starts_with(&store) {
                let _ = sys::keyring::remove(words.trim_end_matches(':'));
            }
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.forget_keys();
    }
}

fn folder(disk: &Disk) -> String {
    disk.folder().join("state").display().to_string()
}

/// What differs from the nearest that may be.
fn difference(group: &str, there: &Lines, may_be: &[Lines]) -> String {
    let differs = |expected: &Lines| -> Vec<String> {
        let names: BTreeSet<&String> = expected.keys().chain(there.keys()).collect();
        let names = names.into_iter();
        names
            .filter(|name| expected.get(*name) != there.get(*name))
            .map(|name| format!("{name}: {:?} for {:?}", there.get(name), expected.get(name)))
            .collect()
    };
    let nearest = may_be.iter().map(differs).min_by_key(Vec::len);
    let nearest = nearest.unwrap_or_default();
    format!("{group} is not as acknowledged: {nearest:?}")
}
