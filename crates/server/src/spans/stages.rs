//! Where the time of a sampled call goes: its operation, and under that the stages that it waits for.
//!
//! Owns the stages of the call that the running task is about, and the moments that other threads tell of its commands.
//! The invariants: calls that are not sampled cost a look at an empty task-local and an atomic zero; what is kept for one
//! call, and for all commands together, is bounded.

use super::now_nanoseconds;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Stages of one call at the most; a call that proposes again and again (a lock) shows its first ones.
const STAGES_MAX: usize = 32;
/// Commands that are followed at a time.
const COMMANDS_MAX: usize = 1_024;

/// etcd's name of the wait for a linearizable read.
pub(crate) const READ_BARRIER: &str = "agreement among raft nodes before linearized reading";
/// etcd's events around a command.
const PROPOSED: &str = "Send raft proposal";
const ANSWERED: &str = "Receive raft result";

tokio::task_local! {
    static CURRENT: Arc<Stages>;
}

/// A part of a call's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) begin_nanoseconds: u64,
    pub(super) end_nanoseconds: u64,
}

/// A moment within the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: &'static str,
    pub(super) nanoseconds: u64,
}

/// What is known of one call.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    known: Mutex<Known>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) operation: Option<Stage>,
    pub(super) stages: Vec<Stage>,
    pub(super) events: Vec<Event>,
}

impl Known {
    fn stage(&mut self, name: &'static str, begin_nanoseconds: u64, end_nanoseconds: u64) {
        if self.stages.len() < STAGES_MAX {
            self.stages.push(Stage { name, begin_nanoseconds, end_nanoseconds });
        }
    }

    fn event(&mut self, name: &'static str, nanoseconds: u64) {
        if self.events.len() < STAGES_MAX {
            self.events.push(Event { name, nanoseconds });
        }
    }
}

impl Stages {
    /// Runs what answers the call: whatever is told meanwhile belongs to it. `operation`: etcd's name of what it does.
    pub(crate) async fn run<T>(self: Arc<Self>, operation: Option<&'static str>, answer: impl Future<Output = T>) -> T {
        let begin_nanoseconds = now_nanoseconds();
        let answer = CURRENT.scope(self.clone(), answer).await;
        let end_nanoseconds = now_nanoseconds();
        self.known.lock().operation = operation.map(|name| Stage { name, begin_nanoseconds, end_nanoseconds });
        answer
    }

    pub(super) fn take(&self) -> Known {
        std::mem::take(&mut self.known.lock())
    }
}

/// A stage that ends when this is dropped. `None`: the call is not sampled.
pub(crate) fn stage(name: &'static str) -> Option<Box<OpenStage>> {
    let stages = CURRENT.try_with(Arc::clone).ok()?;
    Some(Box::new(OpenStage { stages, name, begin_nanoseconds: now_nanoseconds() }))
}

/// See [`stage`].
pub(crate) struct OpenStage {
    stages: Arc<Stages>,
    name: &'static str,
    begin_nanoseconds: u64,
}

impl Drop for OpenStage {
    fn drop(&mut self) {
        self.stages.known.lock().stage(self.name, self.begin_nanoseconds, now_nanoseconds());
    }
}

/// Moments of one command; 0: not reached, or at another member.
#[derive(Clone, Copy, Debug)]
struct Moments {
    handed_on: u64,
    taken: u64,
    applying: u64,
    applied: u64,
}

/// Commands of sampled calls, by their ids.
#[derive(Debug, Default)]
pub(crate) struct FollowedCommands {
    count: AtomicUsize,
    moments: Mutex<HashMap<u64, Moments>>,
}

impl FollowedCommands {
    /// Follows a command from here on, if its call is sampled.
    pub(crate) fn follow(self: &Arc<Self>, id: u64) -> Option<Box<FollowedCommand>> {
        let stages = CURRENT.try_with(Arc::clone).ok()?;
        let handed_on = now_nanoseconds();
        let mut moments = self.moments.lock();
        if moments.len() >= COMMANDS_MAX {
            return None;
        }
        moments.insert(id, Moments { handed_on, taken: 0, applying: 0, applied: 0 });
        self.count.store(moments.len(), Ordering::Release);
        drop(moments);
        Some(Box::new(FollowedCommand { commands: self.clone(), stages, id }))
    }

    /// Consensus took these commands up.
    pub(crate) fn taken(&self, ids: impl IntoIterator<Item = u64>) {
        self.tell(ids, |moments, now| moments.taken = now);
    }

    /// The entry that holds these commands was applied, which took this long.
    pub(crate) fn applied(&self, ids: impl IntoIterator<Item = u64>, took: std::time::Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.tell(ids, |moments, now| {
            moments.applying = now.saturating_sub(nanoseconds);
            moments.applied = now;
        });
    }

    fn tell(&self, ids: impl IntoIterator<Item = u64>, note: impl Fn(&mut Moments, u64)) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let now = now_nanoseconds();
        let mut moments = self.moments.lock();
        for id in ids {
            if let Some(moments) = moments.get_mut(&id) {
                note(moments, now);
            }
        }
    }
}

/// A command that is followed until this is dropped: when its caller has the outcome, or gives up.
pub(crate) struct FollowedCommand {
    commands: Arc<FollowedCommands>,
    stages: Arc<Stages>,
    id: u64,
}

impl Drop for FollowedCommand {
    fn drop(&mut self) {
        let now = now_nanoseconds();
        let mut all = self.commands.moments.lock();
        let moments = all.remove(&self.id);
        self.commands.count.store(all.len(), Ordering::Release);
        drop(all);
        let Some(Moments { handed_on, taken, applying, applied }) = moments else { return };
        let mut known = self.stages.known.lock();
        known.event(PROPOSED, handed_on);
        known.event(ANSWERED, now);
        // A stage begins where the one before it ended; what was not reached is not shown.
        for (name, begin, end) in [
            ("queue", handed_on, taken),
            ("log", taken, applying),
            ("apply", applying, applied),
            ("deliver", applied, now),
        ] {
            if begin > 0 && end > 0 {
                known.stage(name, begin, end.max(begin));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_command_shows_where_its_time_went() {
        let commands = Arc::new(FollowedCommands::default());
        let stages = Arc::new(Stages::default());
        block_on(stages.clone().run(Some("put"), async {
            let followed = commands.follow(7).expect("sampled");
            commands.taken([6, 7]);
            commands.applied([7, 8], Duration::from_nanos(1));
            drop(followed);
            drop(stage(READ_BARRIER).expect("sampled"));
        }));
        let known = stages.take();
        let operation = known.operation.expect("an operation");
        assert_eq!(operation.name, "put");
        let names: Vec<&str> = known.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["queue", "log", "apply", "deliver", READ_BARRIER]);
        for pair in known.stages[..4].windows(2) {
            assert!(pair[0].begin_nanoseconds <= pair[0].end_nanoseconds);
            assert_eq!(pair[0].end_nanoseconds, pair[1].begin_nanoseconds.max(pair[0].end_nanoseconds));
        }
        assert_eq!(known.events.iter().map(|event| event.name).collect::<Vec<_>>(), [PROPOSED, ANSWERED]);
        assert_eq!(commands.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_call_that_is_not_sampled_is_not_followed() {
        let commands = Arc::new(FollowedCommands::default());
        assert!(commands.follow(1).is_none() && stage("x").is_none());
    }

    #[test]
    fn what_was_not_reached_is_not_shown() {
        let commands = Arc::new(FollowedCommands::default());
        let stages = Arc::new(Stages::default());
        block_on(stages.clone().run(Some("put"), async {
            drop(commands.follow(1));
            let followed = commands.follow(2);
            commands.taken([2]);
            drop(followed);
        }));
        assert_eq!(stages.take().stages.iter().map(|stage| stage.name).collect::<Vec<_>>(), ["queue"]);
    }

    #[test]
    fn both_tables_are_bounded() {
        let commands = Arc::new(FollowedCommands::default());
        let stages = Arc::new(Stages::default());
        block_on(stages.clone().run(None, async {
            let followed: Vec<_> = (0..COMMANDS_MAX as u64 + 5).filter_map(|id| commands.follow(id)).collect();
            assert_eq!(followed.len(), COMMANDS_MAX);
            commands.taken(0..COMMANDS_MAX as u64);
        }));
        let known = stages.take();
        assert_eq!((known.stages.len(), known.events.len()), (STAGES_MAX, STAGES_MAX));
    }
}
