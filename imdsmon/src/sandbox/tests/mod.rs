//! The simulator, tried from inside through real sockets.

mod isolation;
mod responses;

use super::{
    client::{HttpResponse, get},
    *,
};
use crate::event::Endpoint;

/// A simulator, or none where only root could make one.
fn simulator(config: ImdsConfig) -> Option<ImdsSimulator> {
    // SAFETY: a call without arguments or effects.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIPPED: needs root");
        return None;
    }
    Some(ImdsSimulator::start(config).expect("a simulator"))
}

fn fetch(simulator: &ImdsSimulator, path: &str, token: Option<&str>) -> HttpResponse {
    simulator
        .run(|| get(Endpoint::V4, path, token).expect("an answer"))
        .expect("runs")
}
