#![allow(clippy::unwrap_used)]
use super::*;

/// Writes down what it is asked to do, and fails where it is told to.
#[derive(Default)]
struct Recorder {
    said: Vec<String>,
    fails_at: Option<Step>,
    cannot_undo: Option<Step>,
}

impl Hands for Recorder {
    fn forward(&mut self, step: &Step) -> io::Result<()> {
        if self.fails_at.as_ref() == Some(step) {
            return Err(Errno::ROFS.into());
        }
        self.said.push(format!("+ {step}"));
        Ok(())
    }

    fn back(&mut self, step: &Step) -> io::Result<()> {
        if self.cannot_undo.as_ref() == Some(step) {
            return Err(Errno::BUSY.into());
        }
        self.said.push(format!("- {step}"));
        Ok(())
    }
}

fn folder(path: &str) -> Step {
    Step::MakeFolder { path: path.into() }
}

fn attach(target: &str) -> Step {
    Step::Attach {
        tree: Tree::Secret,
        target: target.into(),
    }
}

#[test]
fn a_failed_step_undoes_those_before_it_in_reverse_and_no_later_one_is_done() {
    let steps = [folder("/a"), attach("/a"), folder("/b"), attach("/b")];
    let mut hands = Recorder {
        fails_at: Some(folder("/b")),
        ..Recorder::default()
    };
    let error = apply(&steps, &mut hands).unwrap_err();
    assert_eq!(
        hands.said,
        [
            "+ make the folder /a",
            "+ attach a view at /a",
            "- attach a view at /a",
            "- make the folder /a",
        ]
    );
    assert_eq!(
        error.to_string(),
        "cannot make the folder /b: Read-only file system (os error 30)"
    );
}

#[test]
fn undo_goes_on_after_a_failure_and_says_what_is_left() {
    let steps = [folder("/a"), attach("/a"), attach("/b")];
    let mut hands = Recorder {
        fails_at: Some(attach("/b")),
        cannot_undo: Some(attach("/a")),
        ..Recorder::default()
    };
    let error = apply(&steps, &mut hands).unwrap_err();
    assert_eq!(hands.said.last().unwrap(), "- make the folder /a");
    assert_eq!(error.stuck.len(), 1);
    assert!(
        error
            .to_string()
            .contains("could not undo: attach a view at /a")
    );
}

#[test]
fn the_way_to_a_target_is_seen_without_following_links() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    std::fs::create_dir(base.join("folder")).unwrap();
    std::fs::write(base.join("file"), "").unwrap();
    std::os::unix::fs::symlink("folder", base.join("link")).unwrap();
    let here = Namespace::enter_to_detach().unwrap();
    let find = |path: &str| here.find(&base.join(path)).unwrap();

    assert_eq!(find("folder"), Found::Folder);
    let deepest = base.join("folder");
    assert_eq!(find("folder/x/y"), Found::Absent { deepest });
    for (path, at, what) in [
        ("link/x", "link", "a symlink"),
        ("link", "link", "a symlink"),
        ("file/x", "file", "no folder"),
    ] {
        let at = base.join(at);
        assert_eq!(find(path), Found::Blocked { at, what }, "{path}");
    }
}
