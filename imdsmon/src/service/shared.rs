//! State shared by the loops of the service.

use std::cell::RefCell;

use tokio::sync::Notify;

use super::state::State;

/// No loop holds the state across an `await`.
pub(crate) struct Shared {
    pub(crate) state: RefCell<State>,
    /// The store writer has something to commit.
    pub(crate) commit: Notify,
    /// The exporters have something to write.
    pub(crate) export: Notify,
    /// The first commit has ended, with or without success.
    pub(crate) store_tried: Notify,
    /// The store writer makes the last commit.
    pub(crate) stop: Notify,
}

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: RefCell::new(state),
            commit: Notify::new(),
            export: Notify::new(),
            store_tried: Notify::new(),
            stop: Notify::new(),
        }
    }

    /// Wakes the store writer and the exporters.
    pub(crate) fn changed(&self) {
        self.commit.notify_one();
        self.export.notify_one();
    }
}
