//! A small store as bytes, what of it must be read, and what is asked of each damage to it.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

pub mod journal;
mod life;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use store::{Store, Unlock, UnsealReport};

use crate::common::*;
pub use life::{Picture, by_file, life};

/// All files of a folder.
#[derive(Clone, PartialEq, Eq)]
pub struct Image(pub BTreeMap<PathBuf, Vec<u8>>);

impl Image {
    pub fn of(dir: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![dir.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(dir).unwrap().to_path_buf();
                    files.insert(name, fs::read(path).unwrap());
                }
            }
        }
        Self(files)
    }

    pub fn write(&self, dir: &Path) {
        for (name, bytes) in &self.0 {
            put(&dir.join(name), bytes);
        }
    }

    /// The only file whose path has this in it.
    pub fn name(&self, part: &str) -> PathBuf {
        let mut found = self
            .0
            .keys()
            .filter(|name| name.to_str().unwrap().contains(part));
        let name = found.next().unwrap_or_else(|| panic!("no {part}"));
        assert_eq!(found.next(), None, "{part}");
        name.clone()
    }

    pub fn bytes(&mut self, part: &str) -> &mut Vec<u8> {
        let name = self.name(part);
        self.0.get_mut(&name).unwrap()
    }

    /// Takes away what has this in its path, and gives it.
    pub fn take(&mut self, part: &str) -> Self {
        let all = std::mem::take(&mut self.0);
        let (taken, left) = all
            .into_iter()
            .partition(|(name, _)| name.to_str().unwrap().contains(part));
        self.0 = left;
        Self(taken)
    }

    /// With the files of another that have this in their path in place of its own.
    pub fn with(&self, part: &str, of: &Self) -> Self {
        let mut mixed = self.clone();
        mixed.take(part);
        mixed.0.extend(of.clone().take(part).0);
        mixed
    }
}

/// Zeros at the end are not written: a journal is mostly those.
fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(&bytes[..used]).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// A folder for tries, in memory where there is room; the keyring forgets what they left in it.
pub struct Work(pub tempfile::TempDir);

impl Work {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
        Self(made.unwrap())
    }
}

/// How a damaged folder was met.
#[derive(Debug)]
pub enum Met {
    /// It is open, and this is what it gave.
    Open(Box<Picture>, Box<UnsealReport>),
    Refused(String),
}

/// Opens what lies in a folder; closes it again.
pub fn meet(dir: &Path, unlock: Unlock, when: &str) -> Met {
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let store = match Store::open(dir) {
            Ok(store) => store,
            Err(error) => return Met::Refused(error.to_string()),
        };
        match store.unseal(unlock) {
            Ok(report) => {
                let picture = Picture::of(&store, report.generation);
                store.seal();
                Met::Open(Box::new(picture), Box::new(report))
            }
            Err(error) => Met::Refused(error.to_string()),
        }
    }));
    // Also what a thread of an earlier try did since.
    let panics = PANICS.lock().unwrap().clone();
    assert!(panics.is_empty(), "until {when}: {panics:?}");
    tried.unwrap_or_else(|_| panic!("{when}: it panicked"))
}

/// Panics anywhere but in a test's own text: in the store, and in threads of sled.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info
                .location()
                .is_some_and(|at| at.file().contains("/tests/"))
            {
                PANICS.lock().unwrap().push(info.to_string());
            }
            before(info);
        }));
    });
}

/// Tries damages of one image, and counts.
pub struct Tries<'a> {
    work: Work,
    good: &'a Image,
    truth: &'a Picture,
    passphrase: Option<&'a str>,
    number: u32,
    pub whole: u32,
    pub refused: u32,
}

impl<'a> Tries<'a> {
    pub fn of((good, truth): (&'a Image, &'a Picture)) -> Self {
        let (whole, refused, number) = (0, 0, 0);
        let work = Work::new();
        Self {
            work,
            good,
            truth,
            passphrase: None,
            number,
            whole,
            refused,
        }
    }

    pub fn by_passphrase(self, passphrase: &'a str) -> Self {
        let passphrase = Some(passphrase);
        Self { passphrase, ..self }
    }

    fn unlock(&self) -> Unlock {
        self.passphrase.map_or(Unlock::FileSlots, by)
    }

    /// Opens a damaged folder as it is; gives where it lies.
    pub fn open(&mut self, bad: &Image, when: &str) -> (PathBuf, Met) {
        // A folder of its own: sled's threads may be at the last one still.
        let dir = self.work.0.path().join(self.number.to_string());
        self.number += 1;
        bad.write(&dir);
        let met = meet(&dir, self.unlock(), when);
        (dir, met)
    }

    /// What is asked of every damage: all of the truth, or a refusal that names the file and the way
    /// back, and that has destroyed nothing. Gives the refusal.
    pub fn damage(&mut self, bad: &Image, when: &str) -> Option<String> {
        let truth = self.truth;
        self.damage_to(bad, when, &mut |picture, report| {
            assert_eq!(picture, truth, "{when}: {report:?}");
        })
    }

    /// The same of one bit of a file, by its number; gives what was flipped, too.
    pub fn flip(&mut self, good: &Image, file: &str, bit: usize) -> (String, Option<String>) {
        let (at, bit) = (bit / 8, bit % 8);
        let mut bad = good.clone();
        bad.bytes(file)[at] ^= 1 << bit;
        let when = format!("{file} byte {at} bit {bit}");
        let refusal = self.damage(&bad, &when);
        (when, refusal)
    }

    /// The same where something else than the truth may be found; `judge` says whether it may.
    pub fn damage_to(
        &mut self,
        bad: &Image,
        when: &str,
        judge: &mut dyn FnMut(&Picture, &UnsealReport),
    ) -> Option<String> {
        let (dir, met) = self.open(bad, when);
        let refusal = match met {
            Met::Open(picture, report) => {
                judge(&picture, &report);
                self.whole += 1;
                // Of what was damaged nothing may come back later.
                if self.whole.is_multiple_of(8) {
                    self.goes_on(&dir, &picture, when);
                }
                None
            }
            Met::Refused(error) => {
                self.untouched(&dir, bad, &error, when);
                self.refused += 1;
                Some(error)
            }
        };
        fs::remove_dir_all(dir).unwrap();
        refusal
    }

    fn goes_on(&self, dir: &Path, before: &Picture, when: &str) {
        let store = Store::open(dir).unwrap();
        store.unseal(self.unlock()).unwrap();
        let written = store.config_create(
            &operator(),
            &"later".parse().unwrap(),
            pairs(&[("a", "1")]),
            false,
        );
        written.unwrap_or_else(|error| panic!("{when}: {error}"));
        store.seal();
        drop(store);
        let Met::Open(mut after, _) = meet(dir, self.unlock(), when) else {
            panic!("{when}: it does not open again");
        };
        assert_eq!(after.configs.pop().unwrap().0.name.as_str(), "later");
        assert_eq!(after.at.1, before.at.1 + 1, "{when}");
        after.at = before.at;
        assert_eq!(&*after, before, "{when}");
    }

    /// A refusal says where and what to do; and once the right bytes are back, all is there.
    fn untouched(&self, dir: &Path, bad: &Image, error: &str, when: &str) {
        assert!(error.contains("deploy restore"), "{when}: {error}");
        let index = |name: &Path| name.to_str().unwrap().contains("/index-");
        let left = Image::of(dir);
        for (name, bytes) in bad.0.iter().filter(|(name, _)| !index(name)) {
            assert!(
                left.0.get(name) == Some(bytes),
                "{when}: {} was changed: {error}",
                name.display()
            );
        }
        for (name, bytes) in &self.good.0 {
            if bad.0.get(name) != Some(bytes) {
                put(&dir.join(name), bytes);
            }
        }
        for name in bad.0.keys().filter(|name| !self.good.0.contains_key(*name)) {
            fs::remove_file(dir.join(name)).unwrap();
        }
        match meet(dir, self.unlock(), when) {
            Met::Open(picture, _) => assert_eq!(&*picture, self.truth, "{when}, mended"),
            Met::Refused(error) => panic!("{when}, mended: {error}"),
        }
    }

    pub fn counts(&self) -> String {
        format!("{} whole, {} refused", self.whole, self.refused)
    }
}

/// Says what was tried; `make soak` takes it into docs/reliability.md.
pub fn tell(counts: &str, seed: Option<u64>) {
    eprintln!("{counts}");
    if let Some(report) = std::env::var_os("SOAK_REPORT") {
        let seed = seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        let mut report = OpenOptions::new()
            .append(true)
            .create(true)
            .open(report)
            .unwrap();
        writeln!(report, "| damage | {counts} | {seed} |").unwrap();
    }
}

/// So many of a hundred of what there is are tried in the long form; in the short one, `short`.
pub fn rounds(short: usize, all: usize) -> usize {
    match std::env::var("SOAK") {
        Ok(percent) => (all * percent.parse::<usize>().unwrap() / 100).max(short),
        Err(_) => short,
    }
    .min(all)
}

/// Numbers that nobody chose, from a seed that is printed to be given again.
pub struct Random {
    pub seed: u64,
    state: u64,
}

impl Random {
    pub fn new() -> Self {
        let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed =
            std::env::var("DAMAGE_SEED").map_or_else(|_| now(), |text| text.parse().unwrap());
        eprintln!("DAMAGE_SEED={seed}");
        let state = seed | 1;
        Self { seed, state }
    }

    /// xorshift64*.
    pub fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    /// So many different ones, in no order.
    pub fn pick<T>(&mut self, mut from: Vec<T>, many: usize) -> Vec<T> {
        for at in 0..many.min(from.len()) {
            let other = at + self.below(from.len() - at);
            from.swap(at, other);
        }
        from.truncate(many);
        from
    }
}
