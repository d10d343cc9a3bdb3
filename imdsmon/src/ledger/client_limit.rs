//! Who gets an entry of their own: every client, as long as there are not absurdly many.

use std::collections::{BTreeMap, BTreeSet};

use crate::identity::client::Client;

/// Clients that are told apart.
const CLIENTS: usize = 1000;
/// Clients of one user that are told apart, so that one who makes up programs pushes out nobody
/// else.
const OF_ONE_USER: usize = 250;
/// Users that have an entry for their remaining clients.
const USERS: usize = 64;
/// Program of the entry for all who have none of their own.
pub const OTHERS: &str = "(others)";

/// The clients that have an entry.
#[derive(Debug, Default)]
pub(super) struct ClientLimiter {
    clients: BTreeSet<Client>,
    by_user: BTreeMap<String, usize>,
    crowded_out: u64,
}

impl ClientLimiter {
    /// The client as whom this one is counted.
    pub(super) fn resolve(&mut self, client: Client) -> Client {
        if self.clients.contains(&client) {
            return client;
        }
        let of_user = self.by_user.get(&client.user).copied().unwrap_or(0);
        if self.clients.len() < CLIENTS && of_user < OF_ONE_USER {
            self.by_user.insert(client.user.clone(), of_user + 1);
            self.clients.insert(client.clone());
            return client;
        }
        self.crowded_out = self.crowded_out.saturating_add(1);
        let has_others = of_user > 0 && self.by_user.len() <= USERS;
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

    /// Only these clients have an entry from now on.
    pub(super) fn reset<'a>(&mut self, clients: impl IntoIterator<Item = &'a Client>) {
        let crowded_out = self.crowded_out;
        *self = Self::default();
        for client in clients
            .into_iter()
            .filter(|client| client.program != OTHERS)
        {
            self.resolve(client.clone());
        }
        self.crowded_out = crowded_out;
    }

    /// How often a process was counted with others.
    pub(super) fn crowded_out(&self) -> u64 {
        self.crowded_out
    }
}
