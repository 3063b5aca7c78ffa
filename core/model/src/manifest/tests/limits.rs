//! Bounds on size and time.

use std::time::{Duration, Instant};

use super::super::{MAX_COUNT, MAX_TEXT};
use super::{parse, refused};

#[test]
fn aliases_that_explode_are_refused_soon() {
    let mut bomb = String::from("a: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..40 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(","));
    }
    let start = Instant::now();
    let error = refused(&format!("{bomb}secrets: *a39\n"));
    assert!(
        error.contains("aliases (`*...`) repeat too much"),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    // An alias that does not is fine.
    let manifest = parse("config: {a: &a x, b: *a}").unwrap();
    assert_eq!(manifest.config.get("b").unwrap(), "x");
}

#[test]
fn the_worst_64_kib_take_a_moment_only() {
    let most = |unit: &str| unit.repeat(MAX_TEXT / unit.len());
    for text in [
        most("["),
        most("{"),
        most("[a,"),
        most("{a: "),
        most("- "),
        most("? "),
        most("a: "),
        most("a:\n"),
        most("&a "),
        most("!"),
        most("\""),
        most("'"),
        most("\n"),
        most("#"),
        most("x"),
        most("%"),
        most("|\n"),
        format!("secrets: [{}]", most("a,").split_at(60_000).0),
        format!("config: {{{}}}", most("a: 1, ").split_at(60_000).0),
        format!(
            "secrets:\n{}",
            (0..MAX_COUNT + 1)
                .map(|n| format!("- a{n}\n"))
                .collect::<String>()
        ),
        format!(
            "config:\n{}",
            (0..MAX_COUNT + 1)
                .map(|n| format!(" a{n}: 1\n"))
                .collect::<String>()
        ),
        format!(
            "service w\n{}",
            (0..MAX_COUNT + 1)
                .map(|n| format!("secret a{n}\n"))
                .collect::<String>()
        ),
        format!("service w\n{}", most("secret a\n").split_at(60_000).0),
        format!("command {}", most("a ").split_at(60_000).0),
        format!("service {}", most("a").split_at(60_000).0),
        format!("{}: 1", most("a").split_at(60_000).0),
    ] {
        let start = Instant::now();
        let error = refused(&text);
        let taken = start.elapsed();
        assert!(taken < Duration::from_secs(5), "{text:.20}: {taken:?}");
        assert!(error.len() < 600, "{text:.20}: {error}");
    }
}

#[test]
fn the_most_that_is_allowed_is_taken_and_one_more_is_not() {
    let names = |count: usize| {
        (0..count)
            .map(|n| format!("s{n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let manifest = parse(&format!("secrets: [{}]\n", names(MAX_COUNT))).unwrap();
    assert_eq!(manifest.secrets.len(), MAX_COUNT);
    assert!(refused(&format!("secrets: [{}]\n", names(MAX_COUNT + 1))).contains("more than 4096"));

    let mut text = String::from("service: web\n#");
    text += &"x".repeat(MAX_TEXT - text.len());
    parse(&text).unwrap();
    text.push('x');
    assert_eq!(
        refused(&text),
        "web.yaml: it has 65537 bytes; a manifest has at most 65536"
    );
}
