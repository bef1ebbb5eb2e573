//! A search through all that can happen, breadth first, so that the first counterexample is a shortest one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use crate::model::{Model, State};

/// Looks at every reachable state. Gives their number, or how a promise is broken, step by step.
pub(crate) fn search(model: &Model) -> Result<usize, String> {
    // Each state with the one it was first reached from.
    let mut seen: HashMap<State, State, BuildHasherDefault<Quick>> = HashMap::default();
    let mut queue = VecDeque::new();
    for start in model.starts() {
        seen.insert(start, start);
        queue.push_back(start);
    }
    while let Some(state) = queue.pop_front() {
        let mut broken = None;
        model.successors(&state, &mut |_, next| {
            if let Entry::Vacant(place) = seen.entry(next) {
                place.insert(state);
                queue.push_back(next);
                if !model.keeps_its_promises(&next) {
                    broken = Some(next);
                }
            }
        });
        if let Some(broken) = broken {
            return Err(tell(model, &seen, broken));
        }
    }
    Ok(seen.len())
}

/// How a state is reached, as a list of steps.
fn tell<S: std::hash::BuildHasher>(
    model: &Model,
    seen: &HashMap<State, State, S>,
    mut state: State,
) -> String {
    let mut path = vec![state];
    while seen[&state] != state {
        state = seen[&state];
        path.push(state);
    }
    let mut story = format!("objects: {}\nat first: {state}", model.cast().legend());
    for pair in path.windows(2).rev() {
        let mut event = None;
        model.successors(&pair[1], &mut |found, next| {
            if next == pair[0] {
                event = Some(found);
            }
        });
        let event = event.expect("a step leads there");
        write!(story, "\n  {:<11} {:?}", model.name(event.process), event.step).expect("a string takes it");
    }
    story
}

/// A hash that is fast also where nothing is optimised.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, _length: usize) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}
