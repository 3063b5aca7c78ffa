//! Plays acts on a real pair, and asks the model of each what may come of it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Pair, Service, Varlink, process, wait};

use super::model::{Act, INSTANCES, Kept, Model, NAMES};

pub struct Stage {
    pair: Pair,
    actors: Vec<Service>,
    model: Model,
}

impl Stage {
    pub fn set() -> Stage {
        let pair = Pair::start();
        let mut stage = Stage {
            pair,
            actors: Vec::new(),
            model: Model::default(),
        };
        for name in 0..NAMES.len() {
            stage.set_value(name, 3).unwrap();
            stage.play(Act::Grant(name)).unwrap();
        }
        let script = include_str!("../../src/python/actor.py");
        let asked =
            Asked::service("web")
                .secrets(&NAMES)
                .command(&["/usr/bin/python3", "-c", script]);
        for instance in 0..INSTANCES {
            stage.actors.push(stage.pair.run(&asked));
            assert_eq!(stage.ask(instance, &json!(["watch"])), Value::Null);
        }
        stage
    }

    fn call(&self, method: &str, parameters: Value) {
        let method = format!("io.deploy.Secrets.{method}");
        // A secretsd that has just begun may have no injector yet.
        wait::until(&format!("{method} to be done"), || {
            Varlink::once(&self.pair, &method, &parameters)?.ok()
        });
    }

    fn ask(&mut self, instance: usize, words: &Value) -> Value {
        let actor = &mut self.actors[instance];
        actor.write(&words.to_string());
        serde_json::from_str(&actor.line()).unwrap()
    }

    /// Everybody who watches hears of it.
    fn is_heard(&mut self, name: usize, what: &str) -> Result<(), String> {
        for instance in 0..self.actors.len() {
            if self.ask(instance, &json!(["hear", NAMES[name], what])) != json!(true) {
                return Err(format!("instance {instance} does not hear it {what}"));
            }
        }
        Ok(())
    }

    fn set_value(&mut self, name: usize, lines: u64) -> Result<(), String> {
        self.model.version += 1;
        let line = format!("{} {:06}\n", NAMES[name], self.model.version);
        let value = line.repeat(usize::try_from(lines + 1).unwrap());
        self.call("Set", json!({"name": NAMES[name], "value": value}));
        self.model.values[name] = value;
        if self.model.granted[name] {
            self.is_heard(name, "written")?;
        }
        Ok(())
    }

    /// Both programs serve again.
    fn is_back(&mut self) -> Result<(), String> {
        wait::until("both programs to answer", || {
            let start = Asked::service("api").command(&["/bin/true"]);
            (self.pair.run_to_end(&start).code == 0).then_some(())
        });
        Ok(())
    }

    fn kill(&mut self, secretsd: bool, injector: bool) -> Result<(), String> {
        let daemon = self.pair.secretsd();
        let keeper = process::stat(daemon).map_or(0, |stat| stat.parent);
        let mut running = self.pair.traces().running("deploy-inject").into_iter();
        let other = running.rfind(|pid| process::stat(*pid).is_some_and(|s| s.parent == keeper));
        let all = [secretsd.then_some(daemon), other.filter(|_| injector)];
        for pid in all.iter().flatten() {
            signal(*pid, Signal::KILL, Duration::ZERO);
        }
        for pid in all.iter().flatten() {
            process::goes(*pid);
        }
        self.is_back()
    }

    /// Root in a mount namespace ends the connection of all.
    fn lose(&mut self) -> Result<(), String> {
        let mut command = self.actors[0].inside(0, &["umount", "-f", "/secret"]);
        command.output().unwrap();
        for kept in &mut self.model.kept {
            kept.is_lost = true;
        }
        self.is_back()?;
        for instance in 0..self.actors.len() {
            wait::until("the view to be there again", || {
                let shown = json!({"names": self.model.shown()});
                (self.ask(instance, &json!(["list"])) == shown).then_some(())
            });
            self.ask(instance, &json!(["watch"]));
        }
        Ok(())
    }

    fn keep(&mut self, verb: &str, instance: usize, name: usize) -> Result<(), String> {
        let seen = self.ask(instance, &json!([verb, NAMES[name]]));
        if !self.model.granted[name] {
            return is(&seen, &json!({"errno": "ENOENT"}));
        }
        is(&seen, &Value::Null)?;
        let of_it = self
            .model
            .kept
            .iter()
            .filter(|kept| kept.instance == instance);
        let number = of_it.map(|kept| kept.number).max().unwrap_or(0) + 1;
        self.model.kept.push(Kept {
            instance,
            number,
            name,
            value: self.model.values[name].clone(),
            is_map: verb == "map",
            was_taken: false,
            is_lost: false,
        });
        Ok(())
    }

    fn look(&mut self, verb: &str, thing: usize) -> Result<(), String> {
        if self.model.kept.is_empty() {
            return Ok(());
        }
        let kept = self.model.kept[thing % self.model.kept.len()].clone();
        let seen = self.ask(kept.instance, &json!([verb, kept.number]));
        if self.model.allows(&kept, &seen) {
            Ok(())
        } else {
            Err(format!("{kept:?} shows {seen}"))
        }
    }

    pub fn play(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Set(name, lines) => self.set_value(name, lines),
            Act::Grant(name) => {
                self.call("Grant", json!({"service": "web", "names": [NAMES[name]]}));
                self.model.granted[name] = true;
                Ok(())
            }
            Act::Revoke(name) if self.model.granted[name] => {
                // The kernel tells of a name that it knows.
                for instance in 0..self.actors.len() {
                    self.ask(instance, &json!(["read", NAMES[name]]));
                }
                self.call("Revoke", json!({"service": "web", "names": [NAMES[name]]}));
                self.model.granted[name] = false;
                for kept in self.model.kept.iter_mut().filter(|kept| kept.name == name) {
                    kept.was_taken = true;
                }
                self.is_heard(name, "deleted")
            }
            Act::Revoke(_) => Ok(()),
            Act::Read(instance, name) => {
                let seen = self.ask(instance, &json!(["read", NAMES[name]]));
                let right = if self.model.granted[name] {
                    json!({"bytes": self.model.values[name]})
                } else {
                    json!({"errno": "ENOENT"})
                };
                is(&seen, &right)
            }
            Act::Open(instance, name) => self.keep("open", instance, name),
            Act::Map(instance, name) => self.keep("map", instance, name),
            Act::Look(thing) => self.look("look", thing),
            Act::Fork(thing) => self.look("fork", thing),
            Act::Close(thing) => {
                if !self.model.kept.is_empty() {
                    let kept = self.model.kept.remove(thing % self.model.kept.len());
                    self.ask(kept.instance, &json!(["close", kept.number]));
                }
                Ok(())
            }
            Act::List(instance) => {
                let seen = self.ask(instance, &json!(["list"]));
                is(&seen, &json!({"names": self.model.shown()}))
            }
            Act::KillSecretsd => self.kill(true, false),
            Act::KillInjector => self.kill(false, true),
            Act::KillBoth => self.kill(true, true),
            Act::Lose => self.lose(),
        }
    }

    pub fn leaves_nothing(self) {
        drop(self.actors);
        self.pair.leaves_nothing();
    }
}

fn is(seen: &Value, right: &Value) -> Result<(), String> {
    if seen == right {
        Ok(())
    } else {
        Err(format!("{seen} and not {right}"))
    }
}
