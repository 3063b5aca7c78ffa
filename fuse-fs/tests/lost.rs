//! A connection is lost together with the secretsd that served it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::fs::File;

use fuse_fs::{InstanceSpec, invalidate_lost};
use harness::{Host, head, pairs};
use model::Tree;

/// Files that are open and in the page cache: two versions of a secret, a field, and two of a config.
struct Cached {
    host: Host,
    secrets: Vec<File>,
    configs: Vec<File>,
    spec: InstanceSpec,
}

fn open(path: &std::path::Path) -> File {
    let file = File::open(path).unwrap();
    head(&file).unwrap();
    file
}

fn cached() -> Cached {
    let host = Host::start();
    host.set("a", "one");
    host.set_fields("tls", &[("cert", "C"), ("key", "K")]);
    host.grant(&["a", "tls"]);
    let mut spec = host.spec(&["a", "tls"], &[("level", "debug")]);
    spec.entries = host.views.make(spec.clone()).unwrap();
    let mut secrets = vec![open(&host.secret("a"))];
    host.set("a", "two");
    secrets.push(open(&host.secret("a")));
    secrets.push(open(&host.secret("tls/key")));
    let mut configs = vec![open(&host.config("level"))];
    spec.config = pairs(&[("level", "info")]);
    spec.reloads = 1;
    host.views
        .reload(7, spec.config.clone(), Vec::new(), spec.reloads)
        .unwrap();
    configs.push(open(&host.config("level")));
    Cached {
        host,
        secrets,
        configs,
        spec,
    }
}

/// How many of these files still give something.
fn readable(files: &[File]) -> usize {
    files.iter().filter(|file| head(file).is_ok()).count()
}

#[test]
fn nothing_of_it_is_readable_once_the_next_secretsd_has_invalidated_it() {
    let Cached {
        host,
        secrets,
        configs,
        spec,
    } = cached();
    let next = host.successor(spec);
    for (tree, files) in [(Tree::Secret, &secrets), (Tree::Config, &configs)] {
        let old = host.abort(tree);
        assert_eq!(readable(files), files.len(), "from the page cache");
        let known = invalidate_lost(tree, &old.device, &old.memfd, &next).unwrap();
        assert!(known >= files.len(), "{known}");
        assert_eq!(readable(files), 0, "{tree:?}");
    }
}

#[test]
fn a_secretsd_that_is_sealed_can_do_it_too() {
    let Cached {
        host,
        secrets,
        spec,
        ..
    } = cached();
    let old = host.abort(Tree::Secret);
    host.store.seal();
    let next = host.successor(spec);
    assert_eq!(readable(&secrets), secrets.len(), "from the page cache");
    invalidate_lost(Tree::Secret, &old.device, &old.memfd, &next).unwrap();
    assert_eq!(readable(&secrets), 0);
}
