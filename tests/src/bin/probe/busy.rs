//! Calls of every kind on a view, on threads, again and again: what fails, and which took longest.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::probe::{Answer, Coming};

/// The threads.
#[derive(Default)]
pub struct Busy {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// What one thread saw.
#[derive(Default)]
struct Seen {
    calls: u64,
    failures: Vec<String>,
    longest: (Duration, String),
}

impl Busy {
    /// A thread for reads, one for the rest, one for descriptors that are held.
    pub fn start(&mut self, files: Vec<String>, coming: Vec<String>) {
        let ways: [fn(&mut Seen, &Files); 3] = [read_by_name, look_around, hold];
        let files = Arc::new(Files { files, coming });
        for way in ways {
            let (files, ended) = (Arc::clone(&files), Arc::clone(&self.ended));
            self.threads.push(std::thread::spawn(move || {
                let mut seen = Seen::default();
                while !ended.load(Ordering::SeqCst) && seen.failures.len() < 10 {
                    way(&mut seen, &files);
                }
                seen
            }));
        }
    }

    /// Ends them; what all of them saw.
    pub fn end(&mut self) -> Answer {
        self.ended.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for thread in self.threads.drain(..) {
            let seen = thread.join().unwrap();
            all.calls += seen.calls;
            all.failures.extend(seen.failures);
            if seen.longest > all.longest {
                all.longest = seen.longest;
            }
        }
        self.ended.store(false, Ordering::SeqCst);
        Answer::Busy {
            calls: all.calls,
            failures: all.failures,
            longest_ms: u64::try_from(all.longest.0.as_millis()).unwrap(),
            longest: all.longest.1,
        }
    }
}

struct Files {
    /// Always there.
    files: Vec<String>,
    /// Granted and revoked meanwhile.
    coming: Vec<String>,
}

impl Files {
    fn all(&self) -> impl Iterator<Item = (&String, bool)> {
        let stay = self.files.iter().map(|path| (path, false));
        stay.chain(self.coming.iter().map(|path| (path, true)))
    }
}

impl Seen {
    /// One call, with its time.
    fn call<T>(
        &mut self,
        what: &str,
        path: &str,
        comes: bool,
        call: impl FnOnce() -> std::io::Result<T>,
    ) -> Option<T> {
        let start = Instant::now();
        let result = call();
        let took = start.elapsed();
        self.calls += 1;
        if took > self.longest.0 {
            self.longest = (took, format!("{what} {path}"));
        }
        match result {
            Ok(got) => Some(got),
            Err(e) => {
                let revoked = [libc::ENOENT, libc::EKEYREVOKED, libc::EIO];
                if !comes
                    || !e
                        .raw_os_error()
                        .is_some_and(|errno| revoked.contains(&errno))
                {
                    self.failures.push(format!("{what} {path}: {e}"));
                }
                None
            }
        }
    }

    fn whole(&mut self, path: &str, bytes: &[u8]) {
        if !Coming::is_whole(bytes) {
            self.failures
                .push(format!("{path}: {} bytes of no one version", bytes.len()));
        }
    }
}

fn read_by_name(seen: &mut Seen, files: &Files) {
    for (path, comes) in files.all() {
        let Some(mut file) = seen.call("open", path, comes, || File::open(path)) else {
            continue;
        };
        let mut bytes = Vec::new();
        let read = || file.read_to_end(&mut bytes);
        if seen.call("read", path, comes, read).is_some() {
            seen.whole(path, &bytes);
        }
        seen.call("close", path, comes, || {
            drop(file);
            Ok(())
        });
    }
}

fn look_around(seen: &mut Seen, files: &Files) {
    for (path, comes) in files.all() {
        seen.call("stat", path, comes, || std::fs::metadata(path));
        let folder = std::path::Path::new(path).parent().unwrap();
        let list = || std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>();
        let folder = folder.display().to_string();
        if let Some(names) = seen.call("readdir", &folder, false, list)
            && !comes
            && !names
                .iter()
                .any(|entry| entry.path().to_str() == Some(path))
        {
            seen.failures.push(format!("{path} is not listed"));
        }
    }
}

fn hold(seen: &mut Seen, files: &Files) {
    for (path, comes) in files.all() {
        let Some(file) = seen.call("open", path, comes, || File::open(path)) else {
            continue;
        };
        let mut first = None;
        for _ in 0..20 {
            let mut head = vec![0; 64];
            let read = || file.read_at(&mut head, 0);
            let Some(count) = seen.call("pread", path, comes, read) else {
                break;
            };
            head.truncate(count);
            if first.get_or_insert_with(|| head.clone()) != &head {
                seen.failures
                    .push(format!("{path}: a held descriptor changes"));
            }
            seen.call("fstat", path, comes, || file.metadata());
        }
    }
}
