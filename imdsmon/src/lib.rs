//! imdsmon answers one question: may this EC2 instance be flipped to `HttpTokens=required`,
//! and if not, who has to change what?
//!
//! Data flows one way, from left to right, and each module knows only those to its left:
//! [`capture`] (kernel to typed events) → [`http`] (bytes to calls) → [`identity`] (who called)
//! → [`ledger`] (counts and evidence) → [`verdict`] (what that means) → [`report`] and [`export`]
//! (for people and for machines). [`pipeline`] joins the first three, [`knowledge`] is what they
//! look up, [`sandbox`] stands beside them: a private network with a simulated IMDS. [`command`]
//! is the command line.
//! → [`report`] and [`export`] (for people and for machines). [`pipeline`] joins them, [`store`]
//! keeps what was counted for as long as the service runs and longer. [`sandbox`] stands beside
//! them: a private network with a simulated IMDS. [`command`] is the command line, [`config`] the
//! service's set-up.

mod capabilities;
pub mod capture;
pub mod command;
mod config;
mod enrich;
pub mod event;
mod export;
mod host;
pub mod http;
pub mod identity;
pub mod knowledge;
pub mod ledger;
mod monitor;
mod netlink;
mod output;
pub mod pipeline;
pub mod report;
pub mod sandbox;
mod selftest;
mod service;
pub mod store;
pub mod text;
pub mod time;
pub mod verdict;
#[cfg(test)]
mod word_tests;
