//! What operators and misfortune do, and what has to come of it at once.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::command::run;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Varlink, process, wait};

use crate::model::{READERS, SECRETS, SERVICES, Watched};
use crate::play::{Died, Done, World, call, one_grant, right_if, value};

impl World {
    pub fn set(&mut self, secret: usize) -> Done {
        let watches = self.listens(secret);
        let version = self.model.newest[secret] + 1;
        let said = call(&self.pair, "Secrets.Set", &value(secret, version))?;
        self.model.newest[secret] = version;
        let granted = &self.model.granted;
        self.model
            .torn
            .retain(|one| one.1 != secret || !granted.contains(one));
        right_if(said["version"] == version, || format!("{said}"))?;
        for (reader, number, watched) in watches {
            let mut wanted = vec!["folder modified", "folder written"];
            if watched.has_file {
                wanted.extend(["file modified", "file written"]);
            }
            self.hears(reader, number, &wanted)?;
        }
        Ok(())
    }

    pub fn grant(&mut self, service: usize, secret: usize) -> Done {
        call(&self.pair, "Secrets.Grant", &one_grant(service, secret))?;
        self.model.granted.insert((service, secret));
        Ok(())
    }

    pub fn revoke(&mut self, service: usize, secret: usize) -> Done {
        let watches = self.listens(secret);
        call(&self.pair, "Secrets.Revoke", &one_grant(service, secret))?;
        self.model.revoked(service, secret);
        self.model.watched(service, secret, |one| {
            (one.has_file, one.has_name) = (false, false);
        });
        for (reader, number, watched) in watches {
            if READERS[reader] == service && watched.has_name {
                self.hears(reader, number, &["folder deleted"])?;
            }
        }
        Ok(())
    }

    /// The watches that are to hear of the next change of a secret, made ready for it.
    fn listens(&mut self, secret: usize) -> Vec<(usize, u32, Watched)> {
        let watches = self.model.watches(secret);
        if self.away && !watches.is_empty() {
            // Nobody rings while the injector is away; one that starts a service is there.
            let asked = Asked::service("nothing").command(&["/bin/true"]);
            wait::until("an injector that answers", || {
                (self.pair.run_to_end(&asked).code == 0).then_some(())
            });
            self.away = false;
        }
        for (reader, number, _) in &watches {
            self.readers[*reader].forgets(*number);
        }
        watches
    }

    fn hears(&mut self, reader: usize, number: u32, wanted: &[&str]) -> Done {
        let left = self.readers[reader].does_not_hear(number, wanted);
        right_if(left.is_empty(), || {
            let path = self.model.sights[reader].watched[&number].file.path();
            format!("reader {reader} does not hear {left:?} of {path}")
        })
    }

    pub fn kill(&mut self, died: Died) {
        let secretsd = self.pair.secretsd();
        // The keeper is the parent of both.
        let keeper = process::stat(secretsd).map_or(0, |stat| stat.parent);
        let mut injectors = self.pair.traces().running("deploy-inject").into_iter();
        let is_kept = |pid: &i32| process::stat(*pid).is_some_and(|stat| stat.parent == keeper);
        let injector = injectors.rfind(is_kept);
        let both = [Some(secretsd), injector];
        let ended = match died {
            Died::Secretsd => &both[..1],
            Died::Injector => &both[1..],
            Died::Both => &both[..],
        };
        for pid in ended.iter().flatten() {
            signal(*pid, Signal::KILL, Duration::ZERO);
        }
        for pid in ended.iter().flatten() {
            process::goes(*pid);
        }
        if ended.contains(&Some(secretsd)) {
            self.model.no_pins();
        }
        self.away = true;
    }

    /// Asks, and kills secretsd meanwhile; whether it was answered.
    fn torn(&mut self, method: &str, parameters: &Value, micros: u64) -> Result<bool, String> {
        let method = format!("io.deploy.Secrets.{method}");
        let answer = std::thread::scope(|threads| {
            let pair = &self.pair;
            let asked = threads.spawn(|| Varlink::once(pair, &method, parameters));
            std::thread::park_timeout(Duration::from_micros(micros));
            let secretsd = pair.secretsd();
            signal(secretsd, Signal::KILL, Duration::ZERO);
            process::goes(secretsd);
            asked.join().unwrap()
        });
        self.model.no_pins();
        self.away = true;
        match answer {
            Some(Err(refused)) => Err(format!("{refused:?}")),
            Some(Ok(_)) => Ok(true),
            None => Ok(false),
        }
    }

    pub fn torn_set(&mut self, secret: usize, micros: u64) -> Done {
        let before = self.model.newest[secret];
        let done = self.torn("Set", &value(secret, before + 1), micros)?;
        let prefix = json!({"prefix": SECRETS[secret]});
        let said = call(&self.pair, "Secrets.List", &prefix)?;
        let version = said["secrets"][0]["version"].as_u64().unwrap();
        let right = version == before + 1 || version == before && !done;
        right_if(right, || format!("version {version}, answered: {done}"))?;
        self.model.newest[secret] = version;
        for service in 0..SERVICES.len() {
            self.model.torn.insert((service, secret));
            self.model
                .watched(service, secret, |one| one.has_name = false);
        }
        Ok(())
    }

    pub fn torn_grant(&mut self, grant: bool, service: usize, secret: usize, micros: u64) -> Done {
        let before = self.model.granted.contains(&(service, secret));
        let method = if grant { "Grant" } else { "Revoke" };
        let done = self.torn(method, &one_grant(service, secret), micros)?;
        let of = json!({"service": SERVICES[service]});
        let said = call(&self.pair, "Secrets.Grants", &of)?;
        let grants = said["grants"].as_array().unwrap().iter();
        let granted = grants
            .into_iter()
            .any(|one| one["secret"] == SECRETS[secret]);
        let right = granted == grant || granted == before && !done;
        right_if(right, || format!("granted: {granted}, answered: {done}"))?;
        if granted {
            self.model.granted.insert((service, secret));
        } else {
            self.model.revoked(service, secret);
        }
        self.model.torn.insert((service, secret));
        self.model.watched(service, secret, |one| {
            one.has_file &= grant;
            one.has_name = false;
        });
        Ok(())
    }

    pub fn lose(&mut self, reader: usize) -> Done {
        let abort = ["umount", "--force", "/secret"];
        // Says that it is busy, if a file is open; aborts all the same.
        run(self.readers[reader].service().inside(0, &abort), b"");
        self.model.lost();
        for reader in 0..self.readers.len() {
            let right = self.model.names(reader);
            let mut names = Err("nothing".to_owned());
            wait::within(wait::LONG, || {
                names = self.readers[reader].names("/secret");
                names
                    .as_ref()
                    .is_ok_and(|names| *names == right)
                    .then_some(())
            })
            .ok_or_else(|| {
                format!("reader {reader} has no view again: {names:?}, not {right:?}")
            })?;
        }
        Ok(())
    }
}
