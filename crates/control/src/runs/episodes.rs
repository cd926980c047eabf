//! A run that was repaired, as it stood each time it had ended.

use forebay_engine::Phase;
use forebay_store::{Attempt, Repair};
use forebay_types::Millis;

use super::RunView;

/// A run from one of its beginnings, its own or a repair, to the end that followed.
#[derive(Debug, Clone)]
pub struct Episode<'a> {
    /// Nothing for the first.
    pub repair: Option<&'a Repair>,
    pub phase: Phase,
    pub message: &'a str,
    pub began_at: Millis,
    pub ended_at: Option<Millis>,
    /// The last attempt of each task that ran in it.
    pub attempts: Vec<&'a Attempt>,
}

impl RunView {
    /// One episode more than there are repairs, the oldest first, as the repairs are.
    #[must_use]
    pub fn episodes<'a>(&'a self, repairs: &'a [Repair]) -> Vec<Episode<'a>> {
        (0..=repairs.len())
            .map(|index| self.episode(repairs, index))
            .collect()
    }

    fn episode<'a>(&'a self, repairs: &'a [Repair], index: usize) -> Episode<'a> {
        let run = &self.run;
        let repair = index.checked_sub(1).map(|before| &repairs[before]);
        let (phase, message, ended_at) = match repairs.get(index) {
            Some(next) => (
                Phase::Ended(next.verdict_before),
                &next.message_before,
                Some(next.ended_before),
            ),
            None => (run.phase, &run.message, run.ended_at),
        };
        let ran = |attempt: &&Attempt| repair.is_none_or(|repair| has(repair, attempt));
        let mut attempts: Vec<&Attempt> = Vec::new();
        for attempt in self.attempts.iter().filter(until(repairs, index)) {
            match attempts.last_mut() {
                Some(last) if last.task == attempt.task => *last = attempt,
                _ => attempts.push(attempt),
            }
        }
        attempts.retain(ran);
        Episode {
            repair,
            phase,
            message,
            began_at: repair.map_or(run.created_at, |repair| repair.created_at),
            ended_at,
            attempts,
        }
    }

    /// The run as it stood at the end of an episode; as it stands now for the last one.
    #[must_use]
    pub fn as_of(mut self, repairs: &[Repair], index: usize) -> Self {
        if let Some(next) = repairs.get(index) {
            self.attempts
                .retain(|attempt| until(repairs, index)(&attempt));
            self.run.phase = Phase::Ended(next.verdict_before);
            self.run.message.clone_from(&next.message_before);
            self.run.ended_at = Some(next.ended_before);
        }
        self
    }
}

fn has(repair: &Repair, attempt: &Attempt) -> bool {
    let mut tasks = repair.attempts.iter();
    tasks.any(|(task, _)| *task == attempt.task)
}

/// Whether an attempt is from an episode or one before it: each repair names the first attempt of
/// each of its tasks.
fn until(repairs: &[Repair], index: usize) -> impl Fn(&&Attempt) -> bool {
    let later = repairs.iter().skip(index);
    let firsts: Vec<(usize, u32)> = later.flat_map(|repair| repair.attempts.clone()).collect();
    move |attempt| {
        let mut of_task = firsts.iter().filter(|(task, _)| *task == attempt.task);
        of_task.all(|(_, first)| attempt.attempt < *first)
    }
}
