//! imdsmon finds out whether an EC2 instance can require IMDSv2
//! (`HttpTokens=required`), and if not, which programs must change.
//!
//! ```text
//!  kernel ─▶ capture ─▶ http ─▶ pipeline ─▶ ledger ─▶ verdict ─▶ report, export
//!               │                  ▲           │
//!               └─▶ enrich ─▶ identity         └─▶ store
//! ```
//!
//! Each module imports only from modules below it in this table; a test checks it.
//!
//! | module | holds |
//! | --- | --- |
//! | `command` | one file per subcommand, no logic |
//! | `service` | `imdsmon run`: the monitor with a store, exporters and a canary |
//! | `selftest` | calls of imdsmon's own, compared with what it captured |
//! | `sandbox` | a private network namespace with a simulated IMDS |
//! | `config` | settings of the service: file, environment, flags |
//! | `export` | metrics, embedded metric format, call log |
//! | `monitor` | the live loop: kernel to attributed events |
//! | `output` | one call as a line of text or JSON |
//! | `report` | verdicts, fixes and next steps: text, JSON, Markdown, HTML, CSV |
//! | `store` | counts, evidence and coverage on disk |
//! | `verdict` | evidence to verdict, reason and remedy |
//! | `ledger` | counts and evidence by client, and coverage |
//! | `pipeline` | events to attributed events |
//! | `enrich` | facts about a process from /proc and the host's files, when its event arrives |
//! | `identity` | processes to clients that an operator recognises; pure |
//! | `http` | bytes to calls; pure |
//! | `capture` | kernel programs and recordings to events |
//! | `netlink` | the few netlink messages that capture and sandbox send |
//! | `capabilities` | which capability is needed for what |
//! | `host` | facts about the instance |
//! | `knowledge` | SDKs, programs, other clouds and paths: data with its source |
//! | `event` | what capture hands on, and what recordings hold |
//! | `text` | text fit for names, terminals and shells, and the form of system errors |
//! | `time` | times, durations and their formats |
//! | `words` | enums whose values are words |

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
pub(crate) mod store;
pub mod text;
pub mod time;
pub mod verdict;
mod words;
