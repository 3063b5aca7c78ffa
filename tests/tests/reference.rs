//! Random sequences of what operators, services and accidents do, against a model that knows what each
//! descriptor and mapping may show.
//!
//! `REFERENCE_SEED=` plays the same sequences again. One that fails is made shorter while it fails, and
//! printed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod reference {
    pub mod model;
    pub mod stage;
}

use reference::model::Act;
use reference::stage::Stage;
use tests::soak::{Random, rounds, tell};

/// How many acts a sequence has.
const LENGTH: u64 = 80;
/// How often a sequence that fails is tried without some of its acts.
const TRIES: usize = 80;

fn play(acts: &[Act]) -> Result<(), String> {
    let mut stage = Stage::set();
    for (at, act) in acts.iter().enumerate() {
        stage
            .play(*act)
            .map_err(|wrong| format!("act {at}, {act:?}: {wrong}"))?;
    }
    stage.leaves_nothing();
    Ok(())
}

/// Leaves out what is not needed to fail: halves, quarters and so on.
fn minimised(mut acts: Vec<Act>, mut failure: String) -> (Vec<Act>, String) {
    let mut tries = 0;
    let mut size = acts.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < acts.len() && tries < TRIES {
            tries += 1;
            let mut fewer = acts.clone();
            fewer.drain(at..(at + size).min(acts.len()));
            match play(&fewer) {
                Err(still) => (acts, failure) = (fewer, still),
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    (acts, failure)
}

#[test]
fn what_each_descriptor_shows_is_what_the_model_says() {
    let mut random = Random::new("REFERENCE_SEED");
    let sequences = rounds(8, 500);
    for sequence in 0..sequences {
        let acts: Vec<Act> = (0..LENGTH).map(|_| Act::random(&mut random)).collect();
        if let Err(failure) = play(&acts) {
            let (acts, failure) = minimised(acts, failure);
            panic!("sequence {sequence}: {failure}\n{acts:#?}");
        }
    }
    tell(
        "reference",
        Some(random.seed()),
        &format!("{sequences} sequences of {LENGTH} acts: all as the model says"),
    );
}
