//! Evidence of the same client from two times, as one: bounded, the counts added.

use crate::ledger::Evidence;

/// SDKs, and as many User-Agents.
const NAMES: usize = 16;
/// Paths.
const PATHS: usize = 64;
/// Samples of each way that led to a call: the first, which show how it began, and the latest.
const SAMPLES: usize = 4;

/// Adds what is new to what is known.
pub fn merge(known: &mut Evidence, new: &Evidence) {
    let Evidence {
        sdks,
        user_agents,
        paths,
        more_paths,
        samples,
        unparsed_bytes,
    } = new;
    add_names(&mut known.sdks, sdks);
    add_names(&mut known.user_agents, user_agents);
    for (path, seen) in paths {
        if known.paths.len() >= PATHS && !known.paths.contains_key(path) {
            known.more_paths = known.more_paths.saturating_add(1);
            continue;
        }
        let entry = known.paths.entry(path.clone()).or_default();
        entry.class = seen.class;
        entry.tokenless = entry.tokenless.saturating_add(seen.tokenless);
        entry.with_token = entry.with_token.saturating_add(seen.with_token);
    }
    known.more_paths = known.more_paths.saturating_add(*more_paths);
    for sample in samples {
        if known.samples.contains(sample) {
            continue;
        }
        let alike = |index: &usize| known.samples[*index].how == sample.how;
        let mut same = (0..known.samples.len()).filter(alike);
        let (count, last) = (same.clone().count(), same.next_back());
        match last {
            Some(last) if count >= SAMPLES => known.samples[last] = sample.clone(),
            _ => known.samples.push(sample.clone()),
        }
    }
    known.unparsed_bytes = known.unparsed_bytes.saturating_add(*unparsed_bytes);
}

fn add_names<T: Clone + PartialEq>(known: &mut Vec<T>, new: &[T]) {
    for name in new {
        if known.len() < NAMES && !known.contains(name) {
            known.push(name.clone());
        }
    }
}
