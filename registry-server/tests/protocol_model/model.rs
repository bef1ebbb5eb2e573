//! The shared volume, the processes that work on it, and what each of their steps can lead to.
//!
//! A step is one system call's worth of change, and so atomic. Between any two steps of a process the others may do
//! any number of theirs, and a process may take no further step at all: that is how it stalls or dies.

use std::fmt;

use crate::programs::{
    Cast, Deleter, Object, Objects, PROCESSES, REFUSED, RUNS, Rule, Step, Tag, bit, has, programs,
};

/// What a process remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    /// Its next step.
    at: u8,
    /// A collector's list of the quarantine, by run.
    listed: [Objects; RUNS],
    /// What a collector has found reachable; the tags that a deleter has listed.
    noted: u8,
}

/// The volume and all processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// What is at its place.
    main: Objects,
    /// What is in each run's quarantine.
    quarantine: [Objects; RUNS],
    /// Tags that name what was pushed.
    tags: Tag,
    /// Tags that name what they named before.
    previous: Tag,
    /// Tags that were removed since they were pushed, as somebody wished.
    removed: Tag,
    processes: [Process; PROCESSES],
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: Objects| (0..8).filter(|object| has(set, *object)).collect::<Vec<_>>();
        write!(
            formatter,
            "at their place {:?}, in an old run's quarantine {:?}",
            list(self.main),
            list(self.quarantine[0])
        )
    }
}

impl State {
    /// Something by which to tell which of two collectors comes first.
    fn rank(&self, first: usize) -> (u8, u8, [Objects; RUNS], Objects) {
        let me = self.processes[first];
        (me.at, me.noted, me.listed, self.quarantine[1])
    }
}

/// Who takes part, and by which rules.
pub(crate) struct Model {
    cast: Cast,
    /// The rule that nobody follows.
    without: Option<Rule>,
    /// Each process's steps: pushers, then the deleter, then collectors.
    programs: Vec<Vec<Step>>,
}

/// A change, as a story tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    /// Which process, or `None` for somebody who pulls.
    pub(crate) process: Option<usize>,
    pub(crate) step: Step,
}

impl Model {
    /// A cast that follows the protocol, but for one rule.
    pub(crate) fn new(cast: Cast, without: Option<Rule>) -> Self {
        Self { cast, without, programs: programs(cast, without) }
    }

    /// Every way for the volume to look at first: each object that a push refers to is there, gone, or in the
    /// quarantine of a run that ended long ago.
    pub(crate) fn starts(&self) -> Vec<State> {
        let mut starts = vec![State::default()];
        for object in self.cast.references().into_iter().flatten() {
            starts = starts
                .into_iter()
                .flat_map(|state| {
                    let there = State { main: state.main | bit(object), ..state };
                    let mut away = state;
                    away.quarantine[0] |= bit(object);
                    [state, there, away]
                })
                .collect();
        }
        for start in &mut starts {
            start.previous = u8::from(self.cast.deleter == Deleter::OfThePrevious);
        }
        starts
    }

    /// A process as a story names it. Collectors may change names, as the search does not tell one from the other.
    pub(crate) fn name(&self, process: Option<usize>) -> String {
        let (pushers, collectors) = (usize::from(self.cast.pushers), self.first_collector());
        match process {
            None => "reader".to_owned(),
            Some(process) if process < pushers => format!("pusher {process}"),
            Some(process) if process >= collectors => format!("collector {}", process - collectors),
            Some(_) => "deleter".to_owned(),
        }
    }

    /// Who takes part.
    pub(crate) fn cast(&self) -> Cast {
        self.cast
    }

    /// Calls `visit` with everything that can happen next.
    pub(crate) fn successors(&self, state: &State, visit: &mut impl FnMut(Event, State)) {
        for (process, steps) in self.programs.iter().enumerate() {
            if let Some(&step) = steps.get(usize::from(state.processes[process].at)) {
                self.take(state, process, step, &mut |next| {
                    visit(Event { process: Some(process), step }, self.tidied(next, process));
                });
            }
        }
        for object in (0..self.cast.objects()).filter(|object| !has(state.main, *object)) {
            revived(state, object, &mut |next| {
                let step = Step::Seek { object, found: 0, missing: 0 };
                visit(Event { process: None, step }, self.ordered(next));
            });
        }
    }

    /// Whether all pushes that were acknowledged and not deleted can be pulled, after everybody has died here and one
    /// more run has looked at what they left.
    pub(crate) fn keeps_its_promises(&self, state: &State) -> bool {
        (0..self.cast.pushers).all(|pusher| {
            let acknowledged = usize::from(state.processes[usize::from(pusher)].at)
                == self.programs[usize::from(pusher)].len();
            let promised = acknowledged && !has(state.removed, pusher);
            !promised || (has(state.tags, pusher) && self.survives(state, pusher))
        })
    }

    fn heals(&self) -> bool {
        self.without != Some(Rule::Healing)
    }

    fn survives(&self, state: &State, pusher: u8) -> bool {
        let anywhere = state.quarantine.iter().fold(state.main, |all, run| all | run);
        // Its content follows from the tag.
        let healed = if self.heals() { bit(self.cast.manifest(pusher).start) } else { 0 };
        self.cast.image(pusher) & !(anywhere | healed) == 0
    }

    /// Calls `visit` with every outcome of the step.
    fn take(&self, state: &State, process: usize, step: Step, visit: &mut impl FnMut(State)) {
        let mut next = *state;
        let me = &mut next.processes[process];
        me.at += 1;
        match step {
            Step::Look { object, found } => {
                if has(state.main, object) {
                    me.at = found;
                }
            }
            Step::Seek { object, found, missing } => {
                me.at = found;
                if revived(&next, object, visit) {
                    return;
                }
                if !has(state.main, object) {
                    next.processes[process].at = missing;
                }
            }
            Step::Write(object) => next.main |= bit(object),
            Step::SetTag(tag) => {
                next.tags |= tag;
                next.previous &= !tag;
                next.removed &= !tag;
            }
            Step::ListTags => me.noted = state.tags,
            Step::RemoveTag(tag) => {
                let removed = tag & me.noted & state.tags;
                next.tags &= !removed;
                next.removed |= removed;
            }
            Step::Unlink(object) => next.main &= !bit(object),
            Step::UnlinkQuarantined(object) => {
                next.quarantine = state.quarantine.map(|run| run & !bit(object));
            }
            Step::LookAgain { revision, tags } => {
                if state.tags & tags != 0 {
                    next.main |= bit(revision);
                }
            }
            Step::RemovePrevious(tag) => next.previous &= !tag,
            Step::CheckPrevious(tag) => {
                if state.previous & tag == 0 {
                    me.at = REFUSED;
                }
            }
            Step::TakeTag(tag) => {
                me.noted = state.tags & tag;
                next.tags &= !tag;
                next.previous &= !tag;
            }
            Step::PutTagBack(tag) => next.tags |= tag & me.noted,
            Step::ListQuarantine(_)
            | Step::LetGo(_)
            | Step::Mark { .. }
            | Step::Reconcile
            | Step::Condemn(_) => {
                return self.collect(state, process, step, visit);
            }
        }
        visit(next);
    }

    /// Lets the process take the steps that concern nobody else, and forget what it needs no more: so that states that
    /// behave alike are one.
    fn tidied(&self, mut state: State, process: usize) -> State {
        let me = &mut state.processes[process];
        let steps = &self.programs[process];
        loop {
            match steps.get(usize::from(me.at)) {
                Some(Step::Reconcile) if me.listed == [0; RUNS] => me.at += 1,
                Some(Step::Condemn(object)) if has(me.noted, *object) => me.at += 1,
                Some(_) => break,
                None => {
                    *me = Process { at: me.at, ..Process::default() };
                    break;
                }
            }
        }
        for pusher in 0..usize::from(self.cast.pushers) {
            let me = &mut state.processes[pusher];
            if usize::from(me.at) == self.programs[pusher].len() && state.removed & 1 << pusher != 0 {
                me.at = REFUSED;
            }
        }
        self.ordered(state)
    }

    /// Two collectors differ in nothing but in which comes first.
    fn ordered(&self, mut state: State) -> State {
        let first = self.first_collector();
        if self.cast.collectors == 2 && self.without != Some(Rule::QuarantinePerRun) {
            let mut other = state;
            other.processes.swap(first, first + 1);
            other.quarantine.swap(1, 2);
            other.processes[first].listed.swap(1, 2);
            other.processes[first + 1].listed.swap(1, 2);
            if other.rank(first) < state.rank(first) {
                state = other;
            }
        }
        state
    }

    /// [`Model::take`] for the steps that only a collector takes.
    fn collect(&self, state: &State, process: usize, step: Step, visit: &mut impl FnMut(State)) {
        let mut next = *state;
        let me = &mut next.processes[process];
        me.at += 1;
        match step {
            Step::ListQuarantine(run) => me.listed[run] = state.quarantine[run],
            Step::LetGo(tag) if state.tags & tag != 0 => {
                visit(next);
                next.tags &= !tag;
                next.removed |= tag;
            }
            Step::Mark { tag, unmarked } => {
                let pusher = u8::from(tag != 1);
                let image = self.cast.image(pusher);
                if state.tags & tag != 0 && (self.heals() || self.survives(state, pusher)) {
                    me.noted |= image;
                } else {
                    me.at = unmarked;
                }
            }
            Step::Reconcile => return reconcile(state, process, visit),
            Step::Condemn(object) if has(state.main, object) && !has(me.noted, object) => {
                // It is younger than the grace period.
                visit(next);
                next.main &= !bit(object);
                if self.without != Some(Rule::Quarantine) {
                    next.quarantine[self.run_of(process)] |= bit(object);
                }
            }
            _ => {}
        }
        visit(next);
    }

    fn first_collector(&self) -> usize {
        self.programs.len() - usize::from(self.cast.collectors)
    }

    /// Where in the quarantine a collector puts things.
    fn run_of(&self, process: usize) -> usize {
        if self.without == Some(Rule::QuarantinePerRun) { 0 } else { 1 + process - self.first_collector() }
    }
}

/// Takes one instance off the collector's list: a reachable one is moved back, another deleted unless it is young.
fn reconcile(state: &State, process: usize, visit: &mut impl FnMut(State)) {
    let mut next = *state;
    let me = &mut next.processes[process];
    let Some(run) = me.listed.iter().position(|objects| *objects != 0) else {
        me.at += 1;
        return visit(next);
    };
    let instance = me.listed[run] & me.listed[run].wrapping_neg();
    me.listed[run] &= !instance;
    let reachable = me.noted & instance != 0;
    if state.quarantine[run] & instance != 0 {
        if !reachable {
            visit(next);
        }
        next.quarantine[run] &= !instance;
        if reachable {
            next.main |= instance;
        }
    }
    visit(next);
}

/// Calls `visit` with each way to move an instance back, and says whether there is one.
fn revived(state: &State, object: Object, visit: &mut impl FnMut(State)) -> bool {
    let mut any = false;
    for run in (0..RUNS).filter(|run| has(state.quarantine[*run], object)) {
        let mut next = *state;
        next.quarantine[run] &= !bit(object);
        next.main |= bit(object);
        visit(next);
        any = true;
    }
    any
}
