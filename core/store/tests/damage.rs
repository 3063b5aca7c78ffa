//! A damaged store is recovered whole or refused by name: never a wrong, old or missing value.
//!
//! In the long form (`SOAK=100`) every bit and every length; else a part that a seed chooses.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod damaged;

use damaged::*;

/// What a refusal may call the thing that is broken, by the file that is.
fn is_named(refusal: &str, file: &str) -> bool {
    let names: &[&str] = match file.rsplit('/').next().unwrap() {
        // Nothing in it says which of the two is wrong.
        "STORE" | "CURRENT" | "keys" => &["STORE", "CURRENT", "/keys"],
        name => &[name],
    };
    names.iter().any(|name| refusal.contains(name))
}

#[test]
fn a_flipped_bit_is_recovered_whole_or_refused_by_name() {
    let life = by_file();
    let mut random = Random::new();
    let (good, _) = life.last();
    for (name, bytes) in &good.0 {
        let mut tries = Tries::of(life.last());
        let file = name.to_str().unwrap();
        // Behind what is used there are zeros: a bit of each sector of those.
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let mut all: Vec<_> = (0..used)
            .flat_map(|at| (0..8).map(move |bit| (at, bit)))
            .collect();
        let beyond = (used..bytes.len()).step_by(512);
        all.extend(beyond.map(|at| {
            (
                at + random.below(512.min(bytes.len() - at)),
                random.below(8),
            )
        }));
        let many = rounds(if used < 512 { 60 } else { 150 }, all.len());
        for (at, bit) in random.pick(all, many) {
            let mut bad = good.clone();
            bad.0.get_mut(name).unwrap()[at] ^= 1 << bit;
            let when = format!("{file} byte {at} bit {bit}");
            if let Some(refusal) = tries.damage(&bad, &when) {
                assert!(is_named(&refusal, file), "{when}: {refusal}");
            }
        }
        eprintln!("{file} ({} bytes): {}", bytes.len(), tries.counts());
    }
}
