//! Configs: plain pairs, merged in order.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::*;
use model::ConfigName;
use store::{ConfigError, MergedConfigs, WriteError};

fn config(name: &str) -> ConfigName {
    name.parse().unwrap()
}

#[test]
fn an_update_sets_several_keys_at_once_and_keeps_the_others() {
    let store = memory();
    let (op, name) = (operator(), config("app.settings"));
    let updated = store.config_update(&op, &name, pairs(&[("a", "1")]));
    assert!(matches!(updated, Err(WriteError::NotFound(text)) if text.contains("app.settings")));
    let made = store
        .config_create(&op, &name, pairs(&[("a", "1"), ("b", "2")]), false)
        .unwrap();
    assert_eq!((made.version, made.keys, made.immutable), (1, 2, false));
    let meta = store
        .config_update(&op, &name, pairs(&[("b", ""), ("c", "3")]))
        .unwrap();
    assert_eq!((meta.version, meta.keys), (2, 3));
    let config = store.config_get(&op, &name).unwrap();
    assert_eq!(config.data, pairs(&[("a", "1"), ("b", ""), ("c", "3")]));
    assert_eq!(config.meta, meta);
    let again = store.config_create(&op, &name, pairs(&[]), false);
    assert!(matches!(again, Err(WriteError::Conflict(_))));
}

#[test]
fn an_immutable_one_can_only_be_deleted() {
    let store = memory();
    let (op, name) = (operator(), config("fixed"));
    store
        .config_create(&op, &name, pairs(&[("a", "1")]), true)
        .unwrap();
    let updated = store.config_update(&op, &name, pairs(&[("a", "2")]));
    assert!(matches!(updated, Err(WriteError::Conflict(_))));
    store.config_delete(&op, &name).unwrap();
    assert!(matches!(
        store.config_delete(&op, &name),
        Err(WriteError::NotFound(_))
    ));
    assert!(matches!(
        store.config_get(&op, &name),
        Err(ConfigError::Missing(_))
    ));
    assert!(store.config_list(&op, "").unwrap().is_empty());
    assert_eq!(store.status().configs, 0);
    let deleted = store.config_update(&op, &name, pairs(&[("a", "2")]));
    assert!(matches!(deleted, Err(WriteError::NotFound(_))));
}

#[test]
fn the_version_counts_on_after_a_delete() {
    let store = memory();
    let (op, name) = (operator(), config("app"));
    let create = || {
        store
            .config_create(&op, &name, pairs(&[]), false)
            .unwrap()
            .version
    };
    assert_eq!(create(), 1);
    assert_eq!(
        store
            .config_update(&op, &name, pairs(&[("a", "1")]))
            .unwrap()
            .version,
        2
    );
    store.config_delete(&op, &name).unwrap();
    // No two states have one number, that without it neither.
    let gone = store.configs_for(std::slice::from_ref(&name)).unwrap();
    assert_eq!((gone.version, gone.missing), (3, vec![name.clone()]));
    assert_eq!(create(), 4);
    store.config_delete(&op, &name).unwrap();
    store.seal();
    store.unseal(store::Unlock::FileSlots).unwrap();
    assert_eq!(create(), 6);
    let there = store.configs_for(std::slice::from_ref(&name)).unwrap();
    assert_eq!((there.version, there.missing), (6, vec![]));
}

#[test]
fn several_are_merged_in_order_and_all_that_are_missing_are_named() {
    let store = memory();
    let op = operator();
    store
        .config_create(&op, &config("one"), pairs(&[("a", "1"), ("b", "1")]), false)
        .unwrap();
    store
        .config_create(&op, &config("two"), pairs(&[("b", "2"), ("c", "2")]), false)
        .unwrap();
    let merge = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| config(name)).collect();
        store.configs_for(&names)
    };
    for (names, data, version, missing) in [
        (
            &["one", "two"][..],
            &[("a", "1"), ("b", "2"), ("c", "2")][..],
            2,
            &[][..],
        ),
        (
            &["two", "one"],
            &[("a", "1"), ("b", "1"), ("c", "2")],
            2,
            &[],
        ),
        (&[], &[], 0, &[]),
        (
            &["x", "one", "y"],
            &[("a", "1"), ("b", "1")],
            1,
            &["x", "y"],
        ),
    ] {
        let expected = MergedConfigs {
            data: pairs(data),
            version,
            missing: missing.iter().map(|name| config(name)).collect(),
        };
        assert_eq!(merge(names).unwrap(), expected);
    }
    let names: Vec<_> = store.config_list(&op, "t").unwrap();
    assert_eq!(
        names
            .iter()
            .map(|meta| meta.name.as_str())
            .collect::<Vec<_>>(),
        ["two"]
    );
    store.seal();
    assert!(matches!(merge(&["one"]), Err(ConfigError::Sealed)));
    assert!(matches!(
        store.config_get(&op, &config("one")),
        Err(ConfigError::Sealed)
    ));
}

#[test]
fn limits_are_told_and_nothing_is_half_done() {
    let store = memory();
    let (op, name) = (operator(), config("app"));
    store
        .config_create(&op, &name, pairs(&[("a", "1")]), false)
        .unwrap();
    let large = "x".repeat(1 << 20);
    let updated = store.config_update(&op, &name, pairs(&[("b", &large)]));
    assert!(matches!(updated, Err(WriteError::TooLarge(_))));
    let many: Vec<String> = (0..4097).map(|number| format!("k{number}")).collect();
    let many: Vec<_> = many.iter().map(|key| (key.as_str(), "")).collect();
    let updated = store.config_update(&op, &name, pairs(&many));
    assert!(matches!(updated, Err(WriteError::TooLarge(_))));
    assert_eq!(
        store.config_get(&op, &name).unwrap().data,
        pairs(&[("a", "1")])
    );
}
