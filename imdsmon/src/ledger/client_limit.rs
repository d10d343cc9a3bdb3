//! The limit on the number of clients: beyond it, clients are counted together.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::client::Client;

/// Clients that are counted separately.
const MAX_CLIENTS: usize = 1000;
/// Clients of one user: a user with many program names cannot displace other clients.
const MAX_CLIENTS_PER_USER: usize = 250;
/// Users with a separate `(others)` client.
const MAX_USERS: usize = 64;
/// Program of the client that counts all clients beyond the limit.
pub(crate) const OTHERS: &str = "(others)";

/// The clients that are counted separately.
#[derive(Debug, Default)]
pub(super) struct ClientLimiter {
    clients: BTreeSet<Client>,
    by_user: BTreeMap<String, usize>,
    merged: u64,
}

impl ClientLimiter {
    /// The client that this one is counted for.
    pub(super) fn resolve(&mut self, client: Client) -> Client {
        if self.clients.contains(&client) {
            return client;
        }
        let of_user = self.by_user.get(&client.user).copied().unwrap_or(0);
        if self.clients.len() < MAX_CLIENTS && of_user < MAX_CLIENTS_PER_USER {
            self.by_user.insert(client.user.clone(), of_user + 1);
            self.clients.insert(client.clone());
            return client;
        }
        self.merged = self.merged.saturating_add(1);
        let has_others = of_user > 0 && self.by_user.len() <= MAX_USERS;
        Client {
            program: OTHERS.into(),
            user: if has_others {
                client.user
            } else {
                String::new()
            },
            ..Client::default()
        }
    }

    /// Replaces the clients that are counted separately.
    pub(super) fn reset<'a>(&mut self, clients: impl IntoIterator<Item = &'a Client>) {
        let merged = self.merged;
        *self = Self::default();
        for client in clients
            .into_iter()
            .filter(|client| client.program != OTHERS)
        {
            self.resolve(client.clone());
        }
        self.merged = merged;
    }

    /// How often a process was counted as `(others)`.
    pub(super) fn merged(&self) -> u64 {
        self.merged
    }
}
