#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;
use crate::entry::{Access, Change, Event, Kind, Merged, Outcome, Start, Switch, Verdict};

const NOW: Now = Now {
    wall: Time(1_764_000_000_123_456),
    uptime: 42,
};

pub(crate) fn access<'a>() -> Access<'a> {
    Access {
        pid: 12,
        tid: 13,
        uid: 33,
        comm: b"nginx",
        cgroup: b"/system.slice/web.service",
        service: "web",
        instance: 7,
        secret: "tls",
        field: Some("key.pem"),
        version: 3,
        verdict: Verdict::Allowed,
        why: "granted",
        connection: 5,
        unique: 1 << 40,
    }
}

/// One of each kind, every number and text different.
pub(crate) fn records<'a>() -> Vec<Record<'a>> {
    let change = Change {
        operator: "alice",
        uid: 1000,
        pid: 99,
        act: "secret.rotate",
        what: "db_password",
        detail: "version 4",
        outcome: Outcome::Denied,
        why: "not in group deploy",
    };
    let boot = std::array::from_fn(|at| at as u8);
    vec![
        Record::Event(Event::Open(access())),
        Record::Event(Event::Read(Access {
            field: None,
            verdict: Verdict::Failed,
            ..access()
        })),
        Record::Event(Event::Change(change)),
        Record::Event(Event::Seal(Change {
            outcome: Outcome::Done,
            ..change
        })),
        Record::Event(Event::Unseal(Change {
            outcome: Outcome::Begun,
            ..change
        })),
        Record::Start(Start {
            boot,
            pid: 1,
            program: "secretsd 0.1.0",
            found: "it was not closed",
        }),
        Record::Stop,
        Record::Segment(Switch {
            boot,
            number: 8,
            oldest: 2,
            note: "damaged",
        }),
        Record::Merged(Merged {
            of: Kind::Open,
            count: 1_000_000,
            first: Time(1),
            last: Time(2),
            service: "web",
            instance: 7,
            secret: "tls",
            version: 3,
            verdict: Verdict::Denied,
            why: "sealed",
            pid: 4,
            tid: 5,
            uid: 6,
            comm: b"curl",
            operator: "bob",
            act: "secret.get",
            slot: 9,
            since: 10,
        }),
    ]
}

fn encoded(seq: u64, before: &Hash, record: &Record<'_>) -> Vec<u8> {
    let mut frame = [0xee; MAX_FRAME];
    let total = encode(&mut frame, seq, NOW, record);
    seal(&mut frame[..total], before);
    frame[..total].to_vec()
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let before = Hash([7; 32]);
    for (seq, record) in records().into_iter().enumerate() {
        let frame = encoded(seq as u64, &before, &record);
        assert_eq!(length(&frame), Ok(Some(frame.len())));
        let entry = decode(&frame, &before).unwrap();
        assert_eq!(entry.record, record);
        assert_eq!(
            (entry.seq, entry.time, entry.uptime),
            (seq as u64, NOW.wall, NOW.uptime)
        );
        assert!(!entry.cut);
        assert!(decode(&frame, &Hash([8; 32])).is_err(), "of another chain");
    }
}

#[test]
fn every_bit_counts() {
    for record in records() {
        let frame = encoded(1, &Hash::default(), &record);
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut other = frame.clone();
                other[at] ^= 1 << bit;
                assert!(
                    decode(&other, &Hash::default()).is_err(),
                    "byte {at} bit {bit}"
                );
            }
        }
    }
}

#[test]
fn the_longest_texts_fit_and_are_cut_at_a_character_with_a_word_about_it() {
    let long = "ä".repeat(5000);
    let bytes = long.as_bytes();
    let change = Change {
        operator: &long,
        uid: 0,
        pid: 0,
        act: &long,
        what: &long,
        detail: &long,
        outcome: Outcome::Done,
        why: &long,
    };
    let merged = Merged {
        of: Kind::Change,
        count: 1,
        first: Time(0),
        last: Time(0),
        service: &long,
        instance: 0,
        secret: &long,
        version: 0,
        verdict: Verdict::Denied,
        why: &long,
        pid: 0,
        tid: 0,
        uid: 0,
        comm: bytes,
        operator: &long,
        act: &long,
        slot: 0,
        since: 0,
    };
    let open = Access {
        comm: bytes,
        cgroup: bytes,
        service: &long,
        secret: &long,
        field: Some(&long),
        why: &long,
        ..access()
    };
    for record in [
        Record::Event(Event::Open(open)),
        Record::Event(Event::Change(change)),
        Record::Merged(merged),
        Record::Start(Start {
            boot: [0; 16],
            pid: 1,
            program: &long,
            found: &long,
        }),
        Record::Segment(Switch {
            boot: [0; 16],
            number: 1,
            oldest: 1,
            note: &long,
        }),
    ] {
        let frame = encoded(1, &Hash::default(), &record);
        let entry = decode(&frame, &Hash::default()).unwrap();
        assert!(entry.cut);
        assert_ne!(entry.record, record);
    }
    let frame = encoded(1, &Hash::default(), &Record::Event(Event::Open(open)));
    let entry = decode(&frame, &Hash::default()).unwrap();
    let Record::Event(Event::Open(cut)) = entry.record else {
        panic!("{entry:?}");
    };
    assert_eq!(cut.service, "ä".repeat(127));
    assert_eq!(cut.cgroup, &bytes[bytes.len() - 1024..]);
}

proptest! {
    #[test]
    fn any_bytes_are_an_entry_or_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = length(&bytes);
        let _ = decode(&bytes, &Hash::default());
        for kind in 0..11 {
            if bytes.len() > 8 {
                bytes[4] = kind;
            }
            if let Ok(entry) = fields(&bytes) {
                let mut frame = [0; MAX_FRAME];
                let now = Now { wall: entry.time, uptime: entry.uptime };
                let total = encode(&mut frame, entry.seq, now, &entry.record);
                prop_assert!(total <= bytes.len().next_multiple_of(8));
            }
        }
    }

    #[test]
    fn any_access_comes_back(
        numbers in any::<[u32; 6]>(),
        unique in any::<u64>(),
        texts in any::<(String, String, String, String)>(),
        comm in proptest::collection::vec(any::<u8>(), 0..64),
        cgroup in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let [pid, tid, uid, instance, version, connection] = numbers;
        let field = Some(texts.2.as_str()).filter(|field| !field.is_empty());
        let access = Access {
            pid, tid, uid, instance, version, connection, unique, field,
            comm: &comm, cgroup: &cgroup, service: &texts.0, secret: &texts.1,
            verdict: Verdict::Failed, why: &texts.3,
        };
        let record = Record::Event(Event::Read(access));
        let frame = encoded(unique, &Hash::default(), &record);
        let entry = decode(&frame, &Hash::default()).unwrap();
        prop_assert!(entry.record == record || entry.cut);
    }
}
