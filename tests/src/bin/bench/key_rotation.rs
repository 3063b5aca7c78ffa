//! Root key rotation of 10,000 secrets, beside the time that sled alone takes to be filled with as
//! many records of the same size.

use std::time::{Duration, Instant};

use store::{SecretBytes, Value};

use crate::report::Report;
use crate::writes::fresh_store;

const SECRETS: u32 = 10_000;
const PAIRS: usize = 3;
/// Bytes of a sealed record of a 64-byte value, and of the secret's head.
const RECORDS: [usize; 2] = [164, 250];

pub fn measure(report: &mut Report) {
    let folder = tempfile::tempdir_in(tests::programs::build_folder()).unwrap();
    let (store, operator) = fresh_store(&folder.path().join("store"));
    // A sync for each write would take longer than all the rest; writers that wait together share.
    std::thread::scope(|threads| {
        for worker in 0..50 {
            let (store, operator) = (&store, &operator);
            threads.spawn(move || {
                for number in (worker..SECRETS).step_by(50) {
                    let name = format!("secret-{number}").parse().unwrap();
                    let value = Value::Single(SecretBytes::new(vec![b'x'; 64]));
                    store.create(operator, &name, value, None, &[]).unwrap();
                }
            });
        }
    });
    let mut round = 0;
    let mut pair = || {
        let start = Instant::now();
        store.rotate_root(&operator, &|_, _| {}).unwrap();
        let ours = start.elapsed();
        round += 1;
        (ours, filled(&folder.path().join(format!("sled-{round}"))))
    };
    let pairs: Vec<(Duration, Duration)> = (0..PAIRS).map(|_| pair()).collect();
    report.pairs(
        "`key rotate` of 10,000 secrets, against sled filled with them",
        "",
        &pairs,
    );
}

fn filled(folder: &std::path::Path) -> Duration {
    let start = Instant::now();
    let sled = sled::open(folder).unwrap();
    for number in 0..SECRETS {
        for (kind, bytes) in RECORDS.iter().enumerate() {
            let mut key = [0; 32];
            // Spread as name hashes are, not in order.
            let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            key[..8].copy_from_slice(&spread.to_be_bytes());
            key[8] = u8::try_from(kind).unwrap();
            sled.insert(key, vec![b'x'; *bytes]).unwrap();
        }
    }
    sled.flush().unwrap();
    start.elapsed()
}
