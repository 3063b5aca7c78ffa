//! The recipes of docs/services.md: Debian's own programs, unchanged, with the files and commands that
//! the page shows, and what it says of a rotation and of a revoke.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod elixir;
mod nginx;
mod postgres;
mod redis;
mod scripts;
mod ssh;

use rustix::process::Signal;
use tests::recipe::Recipe;
use tests::{Host, Service, process, wait};

#[test]
fn each_recipe_of_the_page_is_tested() {
    let tested = [
        redis::TITLES.as_slice(),
        &nginx::TITLES,
        &postgres::TITLES,
        &ssh::TITLES,
        &scripts::TITLES,
        &elixir::TITLES,
    ];
    let (mut tested, mut titles) = (tested.concat(), Recipe::titles());
    tested.sort_unstable();
    titles.sort_unstable();
    assert_eq!(titles, tested);
}

/// Does what the page says under `rotate`.
#[track_caller]
fn rotate(host: &Host<'_>, recipe: &Recipe) {
    host.types(&recipe.commands("rotate")).ok();
}

/// Does what the page says under `revoke`.
#[track_caller]
fn revoke(host: &Host<'_>, recipe: &Recipe) {
    host.types(&recipe.commands("revoke")).ok();
}

/// An operator's `deploy secret get`.
#[track_caller]
fn value(host: &Host<'_>, secret: &str) -> String {
    host.run(["deploy", "secret", "get", secret]).ok().out()
}

/// Runs on after the revoke, and does not start again once it has been stopped.
#[track_caller]
fn runs_on_and_does_not_start_again(host: &Host<'_>, service: Service, name: &str, secret: &str) {
    assert!(process::runs(service.instance().pid));
    service.signal(Signal::TERM);
    service.wait();
    host.deploys(name)
        .code(3)
        .says(&[secret, "deploy secret grant"]);
}

/// Waits for words in what the service says on its standard error.
#[track_caller]
fn says(service: &Service, words: &str) {
    let said = || service.errors().contains(words).then_some(());
    if wait::within(wait::LONG, said).is_none() {
        panic!("{words:?} is not said, but: {}", service.errors());
    }
}
