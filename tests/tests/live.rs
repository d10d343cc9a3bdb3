//! When a call comes out. Alone in its file, so that no other test's calls push it out of a buffer.

use std::time::Duration;

use imdsmon::sandbox::ImdsConfig;
use tests::{Scene, repetitions, skipped};

/// How soon a call is printed; the shortest of imdsmon's own timeouts is far longer.
const PROMPTLY: Duration = Duration::from_secs(5);

#[test]
fn a_call_is_printed_while_the_monitor_runs() {
    if skipped() {
        return;
    }
    let mut scene = Scene::new(ImdsConfig::default());
    for _ in 0..repetitions() {
        for request in ["v1", "put"] {
            let who = scene.wire(&["send", "--request", request]);
            assert_eq!(scene.printed(PROMPTLY)["process.pid"], who.pid);
        }
    }
    assert_eq!(scene.finish().len(), 2 * repetitions());
}
