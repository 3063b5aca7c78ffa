//! What an acknowledged write costs inside secretsd, beside one append and fdatasync of the same
//! size to a file of the same disk.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use store::{
    Cipher, InitOptions, NewSlot, Operator, SecretBytes, SetOptions, Store, Unlock, Value,
};

use crate::report::Report;

const PAIRS: usize = 201;

pub fn measure(report: &mut Report) {
    // Beside the programs: /tmp may be a tmpfs, where a sync costs nothing.
    let folder = tempfile::tempdir_in(tests::programs::build_folder()).unwrap();
    let (store, operator) = fresh_store(&folder.path().join("store"));
    let name = "db_password".parse().unwrap();
    let value = || Value::Single(SecretBytes::new(vec![b'x'; 64]));
    let set = || {
        let start = Instant::now();
        store
            .set(&operator, &name, value(), SetOptions::default())
            .unwrap();
        start.elapsed()
    };
    set();
    let frame = vec![b'x'; frame_bytes(&store, || _ = set())];

    // Preallocated and synced, as the journal is: the sync then writes data alone.
    let mut file = File::create(folder.path().join("yardstick")).unwrap();
    file.write_all(&vec![0; (PAIRS + 1) * frame.len()]).unwrap();
    file.sync_all().unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut append = || {
        let start = Instant::now();
        file.write_all(&frame).unwrap();
        file.sync_data().unwrap();
        start.elapsed()
    };
    append();
    let pairs: Vec<(Duration, Duration)> = (0..PAIRS).map(|_| (set(), append())).collect();
    let what = format!(
        "`secret set`, acknowledged, against append and fdatasync of {} bytes",
        frame.len()
    );
    report.pairs(&what, "1.5", &pairs);
}

/// A store in `folder` that is unsealed, and root as its operator.
pub fn fresh_store(folder: &std::path::Path) -> (Store, Operator) {
    let options = InitOptions {
        cipher: Cipher::default(),
        slot: NewSlot::File {
            path: None,
            label: String::new(),
        },
    };
    Store::init(folder, options).unwrap();
    let store = Store::open(folder).unwrap();
    store.unseal(Unlock::FileSlots).unwrap();
    let root = sys::peer::PeerCredentials {
        pid: 1,
        uid: 0,
        gid: 0,
    };
    (store, Operator::authenticate(&root, &[], None).unwrap())
}

/// How far one `set` moves the end of the journal.
fn frame_bytes(store: &Store, set: impl FnOnce()) -> usize {
    let end = || store.status().records.unwrap().journal_bytes;
    let before = end();
    set();
    usize::try_from(end() - before).unwrap()
}
