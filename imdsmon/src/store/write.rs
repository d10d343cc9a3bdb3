//! One commit: a transaction that adds a delta, or changes nothing.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{
    Connection, OptionalExtension as _, Statement, Transaction, TransactionBehavior, params,
};

use crate::store::codec::{self, json};
use crate::{
    identity::{client::Client, workload::Workload},
    ledger::{
        ClientStats, Coverage, Evidence,
        coverage::{SelfTest, Span},
    },
    time::Timestamp,
};

/// JSON of one client's evidence; beyond that, samples are dropped, the latest first.
const MAX_EVIDENCE_BYTES: usize = 64 << 10;

/// Adds everything in one transaction and returns the ID of the run.
pub(crate) fn commit(
    connection: &mut Connection,
    run: Option<i64>,
    delta: &[ClientStats],
    coverage: &Coverage,
    is_last: bool,
) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let run = add_run(&transaction, run, is_last)?;
    add_entries(&transaction, delta)?;
    add_coverage(&transaction, run, coverage)?;
    transaction.commit()?;
    Ok(run)
}

fn add_run(
    transaction: &Transaction<'_>,
    run: Option<i64>,
    is_over: bool,
) -> rusqlite::Result<i64> {
    let Some(run) = run else {
        transaction.execute("INSERT INTO run (is_over) VALUES (?1)", [is_over])?;
        return Ok(transaction.last_insert_rowid());
    };
    // Retention may have removed a run without a span.
    transaction.execute(
        "INSERT INTO run (id, is_over) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET is_over = excluded.is_over",
        params![run, is_over],
    )?;
    Ok(run)
}

fn add_entries(transaction: &Transaction<'_>, delta: &[ClientStats]) -> rusqlite::Result<()> {
    let mut kinds = Kinds::new(transaction)?;
    let mut add = transaction.prepare(
        "INSERT INTO rollup (hour, client, kind, count) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for entry in delta {
        let client = add_client(transaction, entry)?;
        for (bucket, count) in entry.buckets.iter().filter(|(_, count)| **count != 0) {
            let kind = kinds.id(codec::words(bucket))?;
            add.execute(params![bucket.hour, client, kind, count])?;
        }
    }
    Ok(())
}

/// Inserts or updates a client and returns its ID.
fn add_client(transaction: &Transaction<'_>, new: &ClientStats) -> rusqlite::Result<i64> {
    let name = name(&new.client)?;
    let known: Option<(i64, Timestamp, Timestamp, String)> = transaction
        .query_row(
            "SELECT id, first, last, evidence FROM client WHERE name = ?1",
            [&name],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    let mut sum = ClientStats {
        client: new.client.clone(),
        first: new.first,
        last: new.last,
        ..ClientStats::default()
    };
    if let Some((id, first, last, text)) = &known {
        sum.first = sum.first.min(*first);
        sum.last = sum.last.max(*last);
        sum.evidence = evidence(*id, text);
    }
    // Counts are added in `rollup`.
    sum.merge(ClientStats {
        buckets: BTreeMap::new(),
        ..new.clone()
    });
    let ClientStats {
        client,
        first,
        last,
        buckets: _,
        evidence,
    } = sum;
    let (facts, evidence) = (json(&client)?, bounded(evidence)?);
    if let Some((id, ..)) = known {
        transaction.execute(
            "UPDATE client SET facts = ?2, first = ?3, last = ?4, evidence = ?5 WHERE id = ?1",
            params![id, facts, first, last, evidence],
        )?;
        return Ok(id);
    }
    transaction.execute(
        "INSERT INTO client (name, facts, first, last, evidence) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![name, facts, first, last, evidence],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// The key of a client, the same after a package update or a restart of its container.
fn name(client: &Client) -> rusqlite::Result<String> {
    let Client {
        program,
        workload: Workload { kind, name, .. },
        user,
        ..
    } = client;
    json(&(kind, name, program, user))
}

/// Parses stored evidence. If it is invalid, the counts are still valid.
pub(crate) fn evidence(client: i64, text: &str) -> Evidence {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(%error, client, "cannot read the stored evidence of a client");
        Evidence::default()
    })
}

fn bounded(mut evidence: Evidence) -> rusqlite::Result<String> {
    loop {
        let text = json(&evidence)?;
        if text.len() <= MAX_EVIDENCE_BYTES {
            return Ok(text);
        }
        if evidence.samples.pop().is_none() && evidence.paths.pop_last().is_none() {
            evidence.user_agents.clear();
            evidence.sdks.clear();
            return json(&evidence);
        }
    }
}

/// IDs of bucket keys.
struct Kinds<'a> {
    known: HashMap<[&'static str; 5], i64>,
    find: Statement<'a>,
    add: Statement<'a>,
}

impl<'a> Kinds<'a> {
    fn new(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            known: HashMap::new(),
            find: transaction.prepare(
                "SELECT id FROM kind WHERE version = ?1 AND token = ?2 AND answer = ?3
                 AND path = ?4 AND how = ?5",
            )?,
            add: transaction.prepare(
                "INSERT INTO kind (version, token, answer, path, how)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
        })
    }

    fn id(&mut self, words: [&'static str; 5]) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(&words) {
            return Ok(*id);
        }
        let found = self.find.query_row(words, |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => self.add.insert(words)?,
        };
        self.known.insert(words, id);
        Ok(id)
    }
}

fn add_coverage(
    transaction: &Transaction<'_>,
    run: i64,
    coverage: &Coverage,
) -> rusqlite::Result<()> {
    let Coverage { spans, self_test } = coverage;
    // A clock that is set back does not shorten a span.
    let mut add = transaction.prepare(
        "INSERT INTO span (run, begin, until, is_complete, segments, lost_records, doubts)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET until = max(until, excluded.until),
             is_complete = excluded.is_complete, segments = excluded.segments,
             lost_records = excluded.lost_records, doubts = excluded.doubts",
    )?;
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for span in spans {
        let Span {
            from,
            to,
            is_complete,
            segments,
            lost_records,
            doubts,
        } = span;
        add.execute(params![
            run,
            from,
            to.max(from),
            is_complete,
            signed(*segments),
            signed(*lost_records),
            codec::doubts_json(doubts)?,
        ])?;
    }
    if let Some(SelfTest { time, result }) = self_test {
        transaction.execute(
            "INSERT INTO self_test (time, error) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET error = excluded.error",
            params![time, result.as_ref().err()],
        )?;
    }
    Ok(())
}
