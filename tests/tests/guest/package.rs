//! The package itself: lintian, man pages, completions, units.

use std::path::Path;
use std::process::Command;

use tests::command::run;
use tests::programs::{program, workspace};

use crate::{installed, package};

fn unpacked() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(package()).arg(folder.path());
    run(unpack, b"").ok();
    folder
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(files(&path)),
            path => all.push(path),
        }
    }
    all
}

#[test]
fn lintian_finds_nothing_and_each_override_has_its_reason() {
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--fail-on", "error,warning", "--allow-root"])
        .arg(package());
    // It may take longer than anything of ours.
    let said = lintian.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr),
    );
    assert!(said.status.success() && out.is_empty(), "{out}{err}");
    let overrides = std::fs::read_to_string(workspace().join("packaging/debian/lintian-overrides"));
    let mut reason = false;
    for line in overrides.unwrap().lines() {
        // One reason may be of several lines that follow it.
        assert!(reason || line.starts_with('#'), "{line}: no reason");
        reason = true;
    }
}

#[test]
fn the_changelog_is_of_the_version_that_is_built() {
    let mut version = Command::new(program("deploy"));
    version.arg("--version");
    let said = run(version, b"").ok().out();
    let version = said.split_whitespace().last().unwrap().to_owned();
    let changelog =
        std::fs::read_to_string(workspace().join("packaging/debian/changelog")).unwrap();
    let head = format!("deploy-secrets ({version}-1) ");
    assert!(changelog.starts_with(&head), "{changelog}");
}

#[test]
fn man_pages_render_without_a_warning_and_have_a_name() {
    let folder = unpacked();
    let pages = files(&folder.path().join("usr/share/man"));
    assert!(pages.len() > 45, "{}", pages.len());
    for page in &pages {
        let mut man = Command::new("man");
        man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8"])
            .arg(page)
            .env("MANWIDTH", "80");
        let said = run(man, b"").ok();
        assert_eq!(said.err(), "", "{}", page.display());
        let mut whatis = Command::new("lexgrog");
        whatis.arg(page);
        run(whatis, b"").ok();
    }
    for name in [
        "man1/deploy.1",
        "man5/deploy-manifest.5",
        "man8/secretsd.8",
        "man8/deploy-inject.8",
    ] {
        let there = pages
            .iter()
            .any(|page| page.to_string_lossy().contains(name));
        assert!(there, "no {name}");
    }
}

#[test]
fn the_pages_written_by_hand_have_every_option() {
    for name in ["secretsd", "deploy-inject"] {
        let page = workspace().join(format!("packaging/man/{name}.8.md"));
        let page = std::fs::read_to_string(page).unwrap();
        let mut all = vec![help(name, &[])];
        let verbs: Vec<String> = all[0]
            .lines()
            .skip_while(|line| !line.starts_with("Commands:"))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .map(|line| line.split_whitespace().next().unwrap().to_owned())
            .filter(|verb| verb != "help")
            .collect();
        assert!(!verbs.is_empty());
        all.extend(verbs.iter().map(|verb| help(name, &[verb])));
        for verb in verbs {
            assert!(
                page.contains(&format!("`{verb}`")) || page.contains(&format!("{name} {verb}")),
                "{name} {verb}"
            );
        }
        let text = all.concat();
        let options = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"));
        for option in options.filter(|option| option.len() > 1) {
            let option = option.trim_end_matches(|c: char| !c.is_ascii_lowercase());
            assert!(
                page.contains(&format!("--{option}")),
                "{name}: --{option} is not in its page"
            );
        }
    }
}

fn help(name: &str, words: &[&str]) -> String {
    let mut command = Command::new(program(name));
    command.args(words).arg("--help");
    run(command, b"").ok().out()
}

#[test]
fn completions_are_scripts_of_their_shells() {
    let folder = unpacked();
    for (shell, path) in [
        ("bash", "bash-completion/completions/deploy"),
        ("zsh", "zsh/vendor-completions/_deploy"),
        ("fish", "fish/vendor_completions.d/deploy.fish"),
    ] {
        let path = folder.path().join("usr/share").join(path);
        let mut check = Command::new(shell);
        check.arg("-n").arg(&path);
        run(check, b"").ok();
        assert!(std::fs::read_to_string(&path).unwrap().contains("unseal"));
    }
}

/// As docs/systemd.md has them, ten times.
#[test]
fn both_units_are_as_confined_as_the_documents_say() {
    let guest = installed();
    let document = std::fs::read_to_string(workspace().join("docs/systemd.md")).unwrap();
    // In a table a bar is written so.
    let document = document.replace("\\|", "|");
    for (unit, at_most) in [("secretsd", 0.6), ("deploy-inject", 4.3)] {
        let table = guest
            .run(&format!("systemd-analyze security --no-pager {unit}"))
            .out();
        let line = table
            .lines()
            .find(|line| line.contains("Overall exposure"))
            .unwrap();
        let figure = line.split(": ").nth(1).unwrap().split(' ').next().unwrap();
        let figure: f64 = figure.parse().unwrap();
        assert!(figure <= at_most, "{line}");
        assert!(
            document.contains(&format!("| {unit} | {at_most} |")),
            "{unit}"
        );
        // Each point that remains is explained.
        for point in table.lines().filter(|line| line.starts_with('✗')) {
            let name = point.split_whitespace().nth(1).unwrap();
            assert!(document.contains(name), "{unit}: {name} is not explained");
        }
    }
    let unknown = guest.run(
        "journalctl --no-pager -o cat -b | grep -E 'Unknown|ignoring' | grep -E 'deploy|secretsd'",
    );
    assert_eq!(unknown.out(), "");
    guest.ok(
        "systemd-analyze verify --man=no secretsd.service deploy-inject.service deploy@x.service deploy-on-change@secretsd.service.service",
    );
}
