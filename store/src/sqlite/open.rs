//! A file is opened, or made.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::failure::{from_sqlite, internal};
use super::liveness::Liveness;
use super::read::{Reader, Reads};
use super::schema::{MIGRATIONS, migrate};
use super::transaction::Settings;
use super::watch::{Bell, Watcher};
use super::writer::{Inbox, Writer};
use super::{Shared, SqliteStore};
use crate::change::Listeners;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;

/// How a store in a file is opened.
///
/// ```
/// use roving_store::{NewJob, SqliteOptions, Store, wait};
/// # let folder = std::env::temp_dir().join(format!("roving-store-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// let store = SqliteOptions::new(folder.join("jobs.db")).open()?;
/// wait(|done| store.enqueue(vec![NewJob::new("shop.send", "mail", "{}")], done))?;
/// # drop(store);
/// # std::fs::remove_dir_all(folder).unwrap();
/// # Ok::<(), roving_store::Error>(())
/// ```
#[derive(Clone)]
pub struct SqliteOptions {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    busy_timeout: Duration,
    max_deaths: u32,
    max_payload: usize,
    keep_failed: Option<Duration>,
    log_keep: Duration,
    log_max: u32,
    max_pages: Option<u32>,
    vfs: Option<String>,
    target: usize,
}

impl SqliteOptions {
    /// A file; made if it is not there, with mode 0600, in a folder that is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SqliteOptions {
            path: path.into(),
            clock: Arc::new(SystemClock),
            busy_timeout: Duration::from_secs(10),
            max_deaths: 3,
            max_payload: 16 << 20,
            keep_failed: None,
            log_keep: Duration::from_secs(7 * 24 * 3600),
            log_max: 100_000,
            max_pages: None,
            vfs: None,
            target: MIGRATIONS.len(),
        }
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// For how long another process may hold the file before calls fail with [`Error::Locked`]; 10 s at first.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many times a worker may die under a job before it is quarantined; 3 at first.
    #[must_use]
    pub fn max_deaths(mut self, deaths: u32) -> Self {
        self.max_deaths = deaths.max(1);
        self
    }

    /// How many bytes a payload or a result may have; 16 MiB at first.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// For how long failed and quarantined jobs are kept; for ever at first.
    #[must_use]
    pub fn keep_failed(mut self, keep: Option<Duration>) -> Self {
        self.keep_failed = keep;
        self
    }

    /// For how long, and how many at most, entries of the log are kept; a week and 100,000 at first. With 0 entries there
    /// is no log.
    #[must_use]
    pub fn log(mut self, keep: Duration, entries: u32) -> Self {
        (self.log_keep, self.log_max) = (keep, entries);
        self
    }

    /// How many pages of 4 KiB the file may have.
    #[must_use]
    pub fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// SQLite's access to files, by the name it is registered under: for tests that cut the power.
    #[doc(hidden)]
    #[must_use]
    pub fn vfs(mut self, name: &str) -> Self {
        self.vfs = Some(name.to_owned());
        self
    }

    /// Makes and leaves a schema of an older version, for tests of migrations.
    #[doc(hidden)]
    #[must_use]
    pub fn schema_version(mut self, version: usize) -> Self {
        self.target = version;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] where there is no such folder or no permission, [`Error::ReadOnly`], [`Error::Corrupt`],
    /// [`Error::NewerSchema`], [`Error::Locked`] if another process holds it all the time, [`Error::Full`], [`Error::Io`].
    pub fn open(&self) -> Result<SqliteStore, Error> {
        count_no_memory();
        let path = &self.make()?;
        let mut writer = self.connect(path, false)?;
        migrate(&mut writer, path, self.target)?;
        let connect = || self.connect(path, true);
        let settings = Settings {
            clock: Arc::clone(&self.clock),
            max_deaths: self.max_deaths,
            max_payload: self.max_payload,
            keep_failed: self.keep_failed.map(milliseconds),
            log_keep: milliseconds(self.log_keep),
            log_max: i64::from(self.log_max),
        };
        let shared = Arc::new(Shared {
            path: path.clone(),
            settings: settings.clone(),
            inbox: Arc::new(Inbox::default()),
            reads: Arc::new(Reads::default()),
            listeners: Arc::new(Listeners::default()),
            bell: Bell::new()?,
            liveness: Mutex::new(Arc::new(Liveness::open(path)?)),
            ours: Mutex::new(Vec::new()),
            process: std::process::id(),
        });
        let store = SqliteStore {
            shared: Arc::clone(&shared),
            threads: Mutex::new(Vec::new()),
        };
        let told = Arc::clone(&shared);
        let writer = Writer {
            connection: writer,
            path: path.clone(),
            inbox: Arc::clone(&shared.inbox),
            settings,
            told: Box::new(move |effects| told.committed(effects)),
        };
        store.start("store-writer", move || writer.run())?;
        for _ in 0..2 {
            let reader = Reader {
                connection: connect()?,
                path: path.clone(),
                reads: Arc::clone(&shared.reads),
            };
            store.start("store-reader", move || reader.run())?;
        }
        // Whose workers died runs again before anybody waits for it.
        shared.take_over(Box::new(|_| ()));
        let watcher = Watcher::new(shared, connect()?)?;
        store.start("store-watcher", move || watcher.run())?;
        Ok(store)
    }

    /// Makes the file where there is none, and gives its absolute path.
    fn make(&self) -> Result<PathBuf, Error> {
        let said = |error: std::io::Error| Error::Open(format!("{}: {error}", self.path.display()));
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(Error::Open(format!(
                "{}: there is no folder {}",
                self.path.display(),
                folder.display()
            )));
        }
        let path = folder
            .canonicalize()
            .map_err(said)?
            .join(self.path.file_name().unwrap_or_default());
        // SQLite gives its log and its shared memory the same mode.
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(file) => {
                drop(file);
                // The name is to outlive a power cut as well as what will be in the file.
                File::open(folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(said)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if path.is_dir() {
                    return Err(Error::Open(format!("{} is a folder", path.display())));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                return Err(Error::ReadOnly(format!("{}: {error}", path.display())));
            }
            Err(error) => return Err(said(error)),
        }
        Ok(path)
    }

    fn connect(&self, path: &Path, reads: bool) -> Result<Connection, Error> {
        let said = |error: rusqlite::Error| from_sqlite(&error, path);
        // Each connection is one thread's.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str()),
            None => Connection::open_with_flags(path, flags),
        }
        .map_err(said)?;
        connection.set_prepared_statement_cache_capacity(100);
        let (timeout, mut since) = (self.busy_timeout, Instant::now());
        let patience = move |tried: i32| {
            if tried == 0 {
                since = Instant::now();
            }
            // Others' transactions take a millisecond or so.
            std::thread::sleep(Duration::from_micros(if tried < 50 { 200 } else { 2000 }));
            since.elapsed() < timeout
        };
        connection.busy_handler(Some(patience)).map_err(said)?;
        if connection.is_readonly("main").map_err(said)? {
            return Err(Error::ReadOnly(format!(
                "{} lets itself be read only",
                path.display()
            )));
        }
        if reads {
            connection
                .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -4000;")
                .map_err(said)?;
            return Ok(connection);
        }
        // The first holds for a file that is empty yet, and is written with the second.
        let pragmas =
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            PRAGMA cache_size = -32000; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 67108864;
            PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;";
        connection.execute_batch(pragmas).map_err(said)?;
        let mode: String = connection
            .query_row("PRAGMA journal_mode", (), |row| row.get(0))
            .map_err(said)?;
        if mode != "wal" {
            return Err(internal(format!(
                "{}: journal mode {mode}, and not wal",
                path.display()
            )));
        }
        if let Some(pages) = self.max_pages {
            connection
                .pragma_update(None, "max_page_count", pages)
                .map_err(said)?;
        }
        Ok(connection)
    }
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl SqliteStore {
    fn start(&self, name: &str, work: impl FnOnce() -> Connection + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        let thread = thread.map_err(|error| Error::Open(format!("no thread for the job store: {error}")))?;
        self.threads
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(thread);
        Ok(())
    }
}

/// SQLite counts its memory under one mutex, at each allocation; nobody asks it for the count.
fn count_no_memory() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let off: std::ffi::c_int = 0;
        // SAFETY: this option takes one int. Where SQLite was used before, it refuses, and all stays as it was.
        unsafe { rusqlite::ffi::sqlite3_config(rusqlite::ffi::SQLITE_CONFIG_MEMSTATUS, off) };
    });
}
