//! The schema and its migrations. README.md says what each table is for.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::failure::{from_sqlite, internal};
use crate::error::Error;

/// Marks the file as ours: "rvng".
const APPLICATION: i64 = 0x7276_6e67;

/// Each brings the schema from the version of its place to the next. None is ever changed once a file was made by it.
///
/// The status is written as a number in indexes: 0 queued, 1 scheduled, 2 running, 8 waiting (see `Status`).
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE lanes (
        id INTEGER PRIMARY KEY, queue TEXT NOT NULL, rate TEXT,
        succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX lanes_name ON lanes (queue, ifnull(rate, ''));
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY,
        status INTEGER NOT NULL, lane INTEGER NOT NULL, priority INTEGER NOT NULL,
        claims INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, max_attempts INTEGER NOT NULL,
        deaths INTEGER NOT NULL DEFAULT 0, worker INTEGER, cancel INTEGER NOT NULL DEFAULT 0,
        eta INTEGER, expires INTEGER, keep INTEGER NOT NULL, keep_until INTEGER,
        enqueued_at INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER,
        id BLOB NOT NULL, parent BLOB, group_id BLOB, waits_for BLOB,
        unique_key TEXT, unique_until_started INTEGER NOT NULL DEFAULT 0, unique_slot TEXT,
        task TEXT NOT NULL, codec TEXT NOT NULL, format INTEGER NOT NULL,
        error TEXT, traceback TEXT, result BLOB, payload BLOB
    );
    CREATE UNIQUE INDEX jobs_id ON jobs (id);
    CREATE INDEX jobs_queued ON jobs (lane, priority DESC) WHERE status = 0;
    CREATE INDEX jobs_scheduled ON jobs (eta, lane) WHERE status = 1;
    CREATE INDEX jobs_running ON jobs (lane, worker) WHERE status = 2;
    CREATE INDEX jobs_unsuccessful ON jobs (status, seq, lane) WHERE status > 3;
    CREATE INDEX jobs_kept ON jobs (keep_until, lane, status) WHERE keep_until IS NOT NULL;
    CREATE UNIQUE INDEX jobs_unique ON jobs (unique_slot) WHERE unique_slot IS NOT NULL;
    CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;
    CREATE TABLE payloads (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL);
    CREATE TABLE workers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, pid INTEGER NOT NULL, since INTEGER NOT NULL);
    CREATE TABLE queues (queue TEXT PRIMARY KEY, concurrency INTEGER, paused INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE rates (
        name TEXT PRIMARY KEY, count INTEGER NOT NULL, period INTEGER NOT NULL, burst INTEGER NOT NULL,
        full_at INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE ticks (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE once (key TEXT PRIMARY KEY, value BLOB NOT NULL, keep_until INTEGER NOT NULL);
    CREATE INDEX once_kept ON once (keep_until);
    CREATE TABLE log (
        entry INTEGER PRIMARY KEY, id BLOB NOT NULL, task TEXT NOT NULL, lane INTEGER NOT NULL, status INTEGER NOT NULL,
        attempts INTEGER NOT NULL, enqueued_at INTEGER NOT NULL, started_at INTEGER, finished_at INTEGER NOT NULL
    );
    ",
    // Groups, for what waits for several jobs.
    "
    CREATE TABLE job_groups (id BLOB PRIMARY KEY, open INTEGER NOT NULL, failed INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO job_groups SELECT group_id, sum(status IN (0, 1, 2, 8)), sum(status IN (4, 5, 6, 7)) FROM jobs
        WHERE group_id IS NOT NULL GROUP BY group_id;
    CREATE INDEX jobs_group ON jobs (group_id) WHERE group_id IS NOT NULL;
    CREATE INDEX jobs_waiting ON jobs (waits_for) WHERE status = 8;
    ",
    // Whoever waited for a group holds its results, until it has no more use for them.
    "
    DROP INDEX jobs_waiting;
    CREATE INDEX jobs_waits_for ON jobs (waits_for, status) WHERE waits_for IS NOT NULL;
    ",
];

/// Brings the schema to `target`, the newest version outside tests. Killed at any moment it leaves the old version or the
/// new one: each step is a transaction, its version number within.
pub(super) fn migrate(connection: &mut Connection, path: &Path, target: usize) -> Result<(), Error> {
    let known = MIGRATIONS.len() as i64;
    loop {
        // Immediate: of two processes that open a fresh file one migrates, and the other looks again after it.
        let step = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| from_sqlite(&error, path))?;
        let number = |pragma: &str| step.query_row(pragma, (), |row| row.get::<_, i64>(0));
        let found = number("PRAGMA user_version").map_err(|error| from_sqlite(&error, path))?;
        let application = number("PRAGMA application_id").map_err(|error| from_sqlite(&error, path))?;
        let tables =
            number("SELECT count(*) FROM sqlite_schema").map_err(|error| from_sqlite(&error, path))?;
        if application != APPLICATION && (application != 0 || tables != 0) {
            let path = path.display();
            return Err(Error::Corrupt(format!(
                "{path} is a database of another program's"
            )));
        }
        if found > known {
            return Err(Error::NewerSchema {
                path: path.to_owned(),
                found,
                known,
            });
        }
        let version = usize::try_from(found).map_err(internal)?;
        if version >= target {
            return Ok(());
        }
        let done = step
            .execute_batch(MIGRATIONS[version])
            .and_then(|()| step.pragma_update(None, "user_version", found + 1))
            .and_then(|()| step.pragma_update(None, "application_id", APPLICATION))
            .and_then(|()| step.commit());
        done.map_err(|error| from_sqlite(&error, path))?;
    }
}
