//! Tests of the simulator through real sockets, from inside.

mod isolation;
mod responses;

use super::{
    client::{HttpResponse, get},
    *,
};
use crate::event::Endpoint;

pub(super) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: needs root");
    }
    is_root
}

/// A simulator, or none without root.
fn simulator(config: ImdsConfig) -> Option<ImdsSimulator> {
    is_root().then(|| ImdsSimulator::start(config).expect("a simulator"))
}

fn fetch(simulator: &ImdsSimulator, path: &str, token: Option<&str>) -> HttpResponse {
    simulator
        .run(|| get(Endpoint::V4, path, token).expect("a response"))
        .expect("runs")
}
