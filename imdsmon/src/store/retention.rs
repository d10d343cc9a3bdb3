//! Retention by age and by size.
//!
//! The oldest hours are removed first, with the clients that have no later calls. If the newest
//! hour alone exceeds the size, a process creates clients by the thousand: then the newest clients
//! are dropped, and the report includes their number.

use rusqlite::{Connection, params};

use crate::store::{StoreLimits, schema::pragma};
use crate::time::{Hour, Timestamp};

/// Hours removed in one transaction, which bounds the log.
const HOURS_PER_TRANSACTION: i64 = 24;
/// Clients removed in one transaction.
const CLIENTS_PER_TRANSACTION: i64 = 256;
/// Free pages that a vacuum keeps for the next commits.
const SPARE_PAGES: u64 = 256;

/// `meta` row: nanoseconds before which all data is removed.
pub(crate) const KEPT_SINCE: &str = "kept_since";
/// `meta` row: number of clients dropped because the store was full.
pub(crate) const DROPPED: &str = "dropped_clients";
/// `meta` row: when that happened last, nanoseconds.
pub(crate) const DROPPED_AT: &str = "dropped_at";

/// Removes data beyond the age limit, if that `is_due`, and beyond the size limit.
pub(crate) fn enforce(
    connection: &mut Connection,
    limits: StoreLimits,
    now: Timestamp,
    is_due: bool,
) -> rusqlite::Result<()> {
    let pages = limits.pages();
    if is_due {
        forget_old(connection, limits, now)?;
    }
    if used(connection)? > pages / 8 * 7 {
        evict(connection, limits, now, pages / 4 * 3)?;
    }
    vacuum(connection, pages)
}

/// Whether the store is near its size limit.
pub(crate) fn is_at_limit(connection: &Connection, limits: StoreLimits) -> rusqlite::Result<bool> {
    // The failed transaction has returned its pages, so half of the limit is near enough.
    Ok(used(connection)? > limits.pages() / 2)
}

/// Removes data, the oldest first, until at most `target` pages are used.
pub(crate) fn evict(
    connection: &mut Connection,
    limits: StoreLimits,
    now: Timestamp,
    target: u64,
) -> rusqlite::Result<()> {
    let latest = now.hour();
    while used(connection)? > target {
        match oldest(connection)? {
            Some(oldest) if oldest < latest => forget_before(connection, oldest.plus(1))?,
            _ => {
                if drop_clients(connection, now)? == 0 {
                    break;
                }
            }
        }
    }
    vacuum(connection, limits.pages())
}

fn forget_old(
    connection: &mut Connection,
    limits: StoreLimits,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let cutoff = now.hour().plus(-i64::from(limits.days) * 24);
    while let Some(oldest) = oldest(connection)?.filter(|oldest| *oldest < cutoff) {
        forget_before(connection, cutoff.min(oldest.plus(HOURS_PER_TRANSACTION)))?;
    }
    let transaction = connection.transaction()?;
    transaction.execute(
        "DELETE FROM self_test WHERE time < ?1 AND time < (SELECT max(time) FROM self_test)",
        [cutoff.begin()],
    )?;
    transaction.execute("DELETE FROM span WHERE until < ?1", [cutoff.begin()])?;
    transaction.execute(
        "DELETE FROM meta WHERE name IN (?1, ?2)
         AND (SELECT value FROM meta WHERE name = ?2) < ?3",
        params![DROPPED, DROPPED_AT, cutoff.begin()],
    )?;
    transaction.execute(
        "DELETE FROM run WHERE id NOT IN (SELECT run FROM span)
         AND id < (SELECT max(id) FROM run)",
        [],
    )?;
    transaction.commit()
}

/// Removes all data before an hour.
fn forget_before(connection: &mut Connection, hour: Hour) -> rusqlite::Result<()> {
    let time = hour.begin();
    let transaction = connection.transaction()?;
    transaction.execute("DELETE FROM rollup WHERE hour < ?1", [hour])?;
    transaction.execute(
        "DELETE FROM client WHERE last < ?1
         AND NOT EXISTS (SELECT 1 FROM rollup WHERE rollup.client = client.id)",
        [time],
    )?;
    transaction.execute(
        "INSERT INTO meta (name, value) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        params![KEPT_SINCE, time],
    )?;
    transaction.commit()
}

/// Removes the newest clients and returns their number.
fn drop_clients(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let dropped = {
        let mut newest = transaction.prepare("SELECT id FROM client ORDER BY id DESC LIMIT ?1")?;
        let mut remove_counts = transaction.prepare("DELETE FROM rollup WHERE client = ?1")?;
        let mut remove = transaction.prepare("DELETE FROM client WHERE id = ?1")?;
        let ids = newest
            .query_map([CLIENTS_PER_TRANSACTION], |row| row.get::<_, i64>(0))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        for id in &ids {
            remove_counts.execute([id])?;
            remove.execute([id])?;
        }
        ids.len()
    };
    transaction.execute(
        "INSERT INTO meta (name, value) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET value = value + excluded.value",
        params![DROPPED, i64::try_from(dropped).unwrap_or(i64::MAX)],
    )?;
    transaction.execute(
        "INSERT INTO meta (name, value) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
        params![DROPPED_AT, now],
    )?;
    transaction.commit()?;
    Ok(dropped)
}

fn oldest(connection: &Connection) -> rusqlite::Result<Option<Hour>> {
    connection.query_row("SELECT min(hour) FROM rollup", [], |row| row.get(0))
}

fn used(connection: &Connection) -> rusqlite::Result<u64> {
    let all = pragma(connection, "page_count")?;
    let free = pragma(connection, "freelist_count")?;
    Ok(u64::try_from(all.saturating_sub(free)).unwrap_or(0))
}

/// Returns free pages to the file system once they exceed an eighth of the limit.
fn vacuum(connection: &Connection, pages: u64) -> rusqlite::Result<()> {
    let free = u64::try_from(pragma(connection, "freelist_count")?).unwrap_or(0);
    if free <= (pages / 8).max(SPARE_PAGES) {
        return Ok(());
    }
    // Each row frees one page.
    let mut vacuum = connection.prepare(&format!(
        "PRAGMA incremental_vacuum({})",
        free - SPARE_PAGES
    ))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
