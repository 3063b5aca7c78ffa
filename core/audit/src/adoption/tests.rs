#![allow(clippy::unwrap_used)]
use super::*;

fn at(seconds: u32) -> (Time, Time) {
    (time(seconds), time(seconds))
}

#[test]
fn each_instance_has_the_version_that_it_opened_last() {
    let adoption = Adoption::default();
    adoption.opened("db", "web", 7, 1, at(10), false);
    adoption.opened("db", "web", 7, 1, at(11), false);
    adoption.opened("db", "web", 8, 1, at(12), false);
    adoption.opened("db", "cron", 3, 1, at(13), false);
    adoption.opened("tls", "web", 7, 9, at(14), false);
    adoption.opened("db", "web", 7, 2, at(15), false);
    adoption.opened("db", "web", 7, 2, at(16), false);
    let found: Vec<_> = adoption
        .readers("db")
        .into_iter()
        .map(|r| {
            let times = [r.since, r.last, r.first].map(Time::seconds);
            (r.service.to_string(), r.instance, r.version, times)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("cron".into(), 3, 1, [13, 13, 13]),
            ("web".into(), 7, 2, [15, 16, 10]),
            ("web".into(), 8, 1, [12, 12, 12]),
        ]
    );
    assert_eq!(adoption.readers("none"), []);
}

#[test]
fn instances_that_end_and_secrets_that_go_are_forgotten() {
    let adoption = Adoption::default();
    for instance in 1..=4 {
        adoption.opened("db", "web", instance, 1, at(10), false);
        adoption.opened("tls", "web", instance, 1, at(10), false);
    }
    let left = |secret| -> Vec<u32> {
        adoption
            .readers(secret)
            .iter()
            .map(|r| r.instance)
            .collect()
    };
    adoption.ended(2);
    assert_eq!((left("db"), left("tls")), (vec![1, 3, 4], vec![1, 3, 4]));
    adoption.retain(&[4].into());
    assert_eq!(left("db"), [4]);
    adoption.deleted("db");
    assert_eq!((left("db"), left("tls")), (vec![], vec![4]));
    // The number was given to another one.
    adoption.opened("tls", "cron", 4, 1, at(20), false);
    let reader = adoption.readers("tls").remove(0);
    assert_eq!((&*reader.service, reader.first.seconds()), ("cron", 20));
}

#[test]
fn waiting_ends_when_all_have_the_new_version_and_not_before() {
    let adoption = Adoption::default();
    for instance in 1..=3 {
        adoption.opened("db", "web", instance, 1, at(10), false);
    }
    let all_have = |version| move |r: &[Reader]| r.iter().all(|r| r.version == version);
    let found = adoption.wait("db", Duration::ZERO, all_have(2));
    assert!(found.iter().all(|r| r.version == 1), "nobody has it");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| adoption.wait("db", Duration::from_secs(60), all_have(2)));
        for instance in 1..=2 {
            adoption.opened("db", "web", instance, 2, at(11), false);
        }
        // The last one ends instead.
        adoption.ended(3);
        let found = waits.join().unwrap();
        assert_eq!(found.iter().map(|r| r.version).collect::<Vec<_>>(), [2, 2]);
    });
}

#[test]
fn a_million_rows_take_few_bytes_each() {
    // 24 bytes and the control byte, at a load of 7/16 to 7/8.
    assert_eq!(size_of::<(u32, Seen)>(), 24);
}

#[test]
fn what_was_before_the_tail_is_waited_for_and_comes_before_it() {
    let history = Adoption::default();
    for instance in [1, 2, 3, 4] {
        history.opened("db", "web", instance, 1, at(10), false);
        history.opened("gone", "web", instance, 1, at(10), false);
    }
    let adoption = Adoption::default();
    adoption.awaits_history(true);
    adoption.opened("db", "web", 1, 1, at(20), false);
    adoption.opened("db", "web", 2, 2, at(20), false);
    adoption.retain(&[1, 2, 3].into());
    adoption.ended(3);
    adoption.deleted("gone");
    // Whoever has no time for that is told what is known.
    let known = adoption.wait("db", Duration::ZERO, |_| panic!("it is not all"));
    assert_eq!(known.len(), 2);
    let found = std::thread::scope(|threads| {
        let asking = threads.spawn(|| adoption.readers("db"));
        adoption.add_history(history);
        asking.join().unwrap()
    });
    let found: Vec<_> = found
        .iter()
        .map(|r| {
            (
                r.instance,
                r.version,
                [r.since, r.last, r.first].map(Time::seconds),
            )
        })
        .collect();
    assert_eq!(found, [(1, 1, [10, 20, 10]), (2, 2, [20, 20, 10])]);
    assert_eq!(adoption.readers("gone"), []);
}
