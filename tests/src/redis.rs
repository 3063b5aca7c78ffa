//! Debian's own redis-server, unpacked into the build folder and unchanged.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use crate::Pair;
use crate::manifest::Asked;
use crate::peers::{copy_folder, library_path, unpacked};
use crate::wait;

/// A redis that a service can run, with a folder of its own below the pair's.
pub struct Redis {
    folder: PathBuf,
    root: PathBuf,
}

impl Redis {
    /// Makes the folder, with a configuration that includes `included`, for user `uid`.
    pub fn prepare(pair: &Pair, uid: u32, included: &str) -> Redis {
        let folder = pair.folder().join("redis");
        let root = folder.join("debian");
        std::fs::create_dir(&folder).unwrap();
        // The build folder may be below /root, where the service's user cannot go.
        copy_folder(&unpacked(), &root);
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        chown(&data, Some(uid), Some(uid)).unwrap();
        let settings = format!(
            "port 0\nunixsocket {0}/redis.sock\nunixsocketperm 777\ndir {0}\nsave \"\"\n\
             appendonly no\ninclude {included}\n",
            data.display()
        );
        std::fs::write(folder.join("redis.conf"), settings).unwrap();
        Redis { folder, root }
    }

    /// The words of the manifest's command.
    pub fn command(&self) -> Vec<String> {
        vec![
            "/usr/bin/env".into(),
            format!("LD_LIBRARY_PATH={}", library_path(&self.root)),
            self.root.join("usr/bin/redis-server").display().to_string(),
            self.folder.join("redis.conf").display().to_string(),
        ]
    }

    /// A manifest of a service that runs it.
    pub fn manifest(&self, service: &str, uid: u32) -> Asked {
        let words = self.command();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Asked::service(service).user(uid).command(&words)
    }

    /// The socket that it listens on.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("data/redis.sock")
    }

    /// redis-cli, with the password where it reads it from.
    pub fn client(&self, password: Option<&str>, words: &[&str]) -> Command {
        let mut command = Command::new(self.root.join("usr/bin/redis-cli"));
        command
            .env("LD_LIBRARY_PATH", library_path(&self.root))
            .arg("-s")
            .arg(self.socket())
            .args(words);
        match password {
            Some(password) => command.env("REDISCLI_AUTH", password),
            None => command.env_remove("REDISCLI_AUTH"),
        };
        command
    }

    /// Sends one command as clients do, after AUTH if a password is given, and gives the line
    /// that redis answers last.
    #[track_caller]
    pub fn say(&self, password: Option<&str>, command: &str) -> String {
        let stream = wait::until("redis to listen", || {
            UnixStream::connect(self.socket()).ok()
        });
        let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut stream = stream;
        if let Some(password) = password {
            stream
                .write_all(format!("AUTH {password}\r\n").as_bytes())
                .unwrap();
            let answer = answers.next().unwrap().unwrap();
            if !answer.starts_with("+OK") {
                return answer;
            }
        }
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        answers.next().unwrap().unwrap()
    }
}
