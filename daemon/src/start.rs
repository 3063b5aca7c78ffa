//! The order of a start, apart from what each stage does: so that a test can hold it.

/// What has to be done before secretsd serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No core dump, no ptrace, no new privileges; not root, and without a capability.
    Harden,
    /// Start the process that tells the kernel what it must forget: it has nothing of ours, for
    /// nothing is open yet.
    Apart,
    /// A seccomp filter: no exec, no mount, no network, for good.
    Confine,
    /// Open the store, sealed; its folder is ours alone from here on.
    OpenStore,
    /// Unseal it by the keyring or a file slot. Staying sealed is no failure.
    Unseal,
    /// Find the injector, and serve the FUSE connections that it holds.
    TakeOver,
    /// Serve operators.
    Control,
    /// Tell whoever started us.
    Ready,
}

/// The order. Nothing reads a byte of the store, or of a peer, before the process is confined; no
/// operator is answered before services are.
pub(crate) const ORDER: [Stage; 8] = [
    Stage::Harden,
    Stage::Apart,
    Stage::Confine,
    Stage::OpenStore,
    Stage::Unseal,
    Stage::TakeOver,
    Stage::Control,
    Stage::Ready,
];

/// Who does the stages: secretsd, or a list in a test.
pub(crate) trait Stages {
    /// Why a stage failed.
    type Error;

    fn begin(&mut self, stage: Stage) -> Result<(), Self::Error>;

    /// Takes back what a stage has begun. Goes on after a failure: there is nobody to tell.
    fn end(&mut self, stage: Stage);
}

/// Begins all stages, or ends those that had begun, in reverse.
pub(crate) fn start<S: Stages>(stages: &mut S) -> Result<(), S::Error> {
    for (begun, stage) in ORDER.iter().enumerate() {
        if let Err(error) = stages.begin(*stage) {
            end(stages, &ORDER[..begun]);
            return Err(error);
        }
    }
    Ok(())
}

/// Ends all stages, the last one first.
pub(crate) fn stop(stages: &mut impl Stages) {
    end(stages, &ORDER);
}

fn end(stages: &mut impl Stages, begun: &[Stage]) {
    for stage in begun.iter().rev() {
        stages.end(*stage);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Default)]
    struct Recorder {
        said: Vec<(char, Stage)>,
        fails_at: Option<Stage>,
    }

    impl Stages for Recorder {
        type Error = Stage;

        fn begin(&mut self, stage: Stage) -> Result<(), Stage> {
            if self.fails_at == Some(stage) {
                return Err(stage);
            }
            self.said.push(('+', stage));
            Ok(())
        }

        fn end(&mut self, stage: Stage) {
            self.said.push(('-', stage));
        }
    }

    fn place(stage: Stage) -> usize {
        ORDER.iter().position(|other| *other == stage).unwrap()
    }

    #[test]
    fn the_process_is_confined_before_the_store_is_opened_and_ready_comes_last() {
        assert_eq!(place(Stage::Harden), 0);
        assert!(place(Stage::Apart) < place(Stage::Confine));
        assert!(place(Stage::Confine) < place(Stage::OpenStore));
        assert!(place(Stage::OpenStore) < place(Stage::Unseal));
        assert!(place(Stage::Unseal) < place(Stage::TakeOver));
        assert!(place(Stage::TakeOver) < place(Stage::Control));
        assert_eq!(place(Stage::Ready), ORDER.len() - 1);
    }

    #[test]
    fn a_failed_stage_ends_those_before_it_in_reverse_and_begins_no_other() {
        let mut stages = Recorder {
            fails_at: Some(Stage::TakeOver),
            ..Recorder::default()
        };
        assert_eq!(start(&mut stages), Err(Stage::TakeOver));
        let expected = [
            ('+', Stage::Harden),
            ('+', Stage::Apart),
            ('+', Stage::Confine),
            ('+', Stage::OpenStore),
            ('+', Stage::Unseal),
            ('-', Stage::Unseal),
            ('-', Stage::OpenStore),
            ('-', Stage::Confine),
            ('-', Stage::Apart),
            ('-', Stage::Harden),
        ];
        assert_eq!(stages.said, expected);
    }

    #[test]
    fn a_stop_ends_every_stage_in_reverse() {
        let mut stages = Recorder::default();
        start(&mut stages).unwrap();
        stop(&mut stages);
        let ended: Vec<_> = stages.said[ORDER.len()..]
            .iter()
            .map(|(_, stage)| *stage)
            .collect();
        assert!(ended.iter().eq(ORDER.iter().rev()), "{ended:?}");
    }
}
