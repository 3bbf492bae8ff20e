//! A job and its parts.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::error::Error;

/// The id of a job, or of a group of jobs: a UUID of version 7. Ids made later sort after ids made before (in one process
/// always, between processes by their clocks), and 62 random bits make them unguessable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId([u8; 16]);

impl JobId {
    /// Makes a new id.
    pub fn new() -> Self {
        // Milliseconds above, a counter of 12 bits below; ids stay in order when the clock is set back, or when more than
        // 4096 are made in a millisecond.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
            << 12;
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            Some(now.max(last + 1))
        });
        let stamp = now.max(last.unwrap_or_default() + 1);
        let mut bytes = random_bytes();
        bytes[..6].copy_from_slice(&(stamp >> 12).to_be_bytes()[2..]);
        bytes[6] = 0x70 | ((stamp >> 8) & 0x0f) as u8;
        bytes[7] = stamp as u8;
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        JobId(bytes)
    }

    /// The id of these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        JobId(bytes)
    }

    /// The id's 16 bytes, whose order is the ids'.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    loop {
        // SAFETY: the buffer is ours, and as long as is said.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got == bytes.len() as isize {
            return bytes;
        }
        // Up to 256 bytes are given whole once the system has its entropy; until then a signal may interrupt.
        let error = std::io::Error::last_os_error();
        assert!(
            error.kind() == std::io::ErrorKind::Interrupted,
            "no random numbers: {error}"
        );
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid(format!("{text:?} is no job id"));
        let mut bytes = [0; 16];
        let mut digits = text.bytes().filter(|byte| *byte != b'-');
        for byte in &mut bytes {
            let mut digit = || {
                digits
                    .next()
                    .and_then(|digit| (digit as char).to_digit(16))
                    .ok_or_else(invalid)
            };
            *byte = (digit()? * 16 + digit()?) as u8;
        }
        if digits.next().is_some() {
            Err(invalid())
        } else {
            Ok(JobId(bytes))
        }
    }
}

/// Where a job is in its life. README.md has the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// May be claimed.
    Queued = 0,
    /// Waits for its time.
    Scheduled = 1,
    /// A worker has it.
    Running = 2,
    /// Ran, and has its result.
    Succeeded = 3,
    /// Ran as often as it was allowed to, or was not to be tried again. Kept until it is retried or purged.
    Failed = 4,
    /// Was cancelled.
    Cancelled = 5,
    /// Was not begun before it expired.
    Expired = 6,
    /// Its worker died under it too often. Kept until it is retried or purged.
    Quarantined = 7,
    /// Waits for a group of jobs.
    Waiting = 8,
}

impl Status {
    /// All of them, in the order of their numbers.
    pub const ALL: [Status; 9] = [
        Status::Queued,
        Status::Scheduled,
        Status::Running,
        Status::Succeeded,
        Status::Failed,
        Status::Cancelled,
        Status::Expired,
        Status::Quarantined,
        Status::Waiting,
    ];

    /// Its number in a store.
    pub fn number(self) -> i64 {
        self as i64
    }

    /// The status of a number in a store.
    pub fn from_number(number: i64) -> Option<Status> {
        Status::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether nothing more happens to the job unless somebody retries it.
    pub fn is_finished(self) -> bool {
        !matches!(
            self,
            Status::Queued | Status::Scheduled | Status::Running | Status::Waiting
        )
    }

    /// The status in lower case, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Scheduled => "scheduled",
            Status::Running => "running",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
            Status::Quarantined => "quarantined",
            Status::Waiting => "waiting",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
        known.ok_or_else(|| Error::Invalid(format!("{text:?} is no status of a job")))
    }
}

/// Of all jobs with this key only one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The key.
    pub key: String,
    /// Whether another may be enqueued as soon as this one is claimed, and not only once it is finished.
    pub until_started: bool,
}

/// A job to be enqueued. Times are milliseconds since 1970 by the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// Its id, which the caller makes, so that an enqueue whose outcome was not learnt can be repeated.
    pub id: JobId,
    /// The task's name.
    pub task: String,
    /// The queue's name.
    pub queue: String,
    /// Higher ones go first.
    pub priority: i32,
    /// The arguments, as the codec wrote them.
    pub payload: Vec<u8>,
    /// The codec's name.
    pub codec: String,
    /// The version of the payload's form.
    pub format: u32,
    /// Not before.
    pub eta: Option<i64>,
    /// Not begun from here on.
    pub expires: Option<i64>,
    /// How often it may be tried; at least 1.
    pub max_attempts: u32,
    /// Its unique key.
    pub unique: Option<Unique>,
    /// The rate limit it goes by (see `set_rate`).
    pub limit: Option<String>,
    /// The job that enqueued it, for what shows them.
    pub parent: Option<JobId>,
    /// The group it is of.
    pub group: Option<JobId>,
    /// The group that has to be finished first. Whether or not it has members then is looked at when one of them
    /// finishes, so that they are to be enqueued in the same call.
    pub waits_for: Option<JobId>,
    /// For how many milliseconds it is kept once it succeeded, was cancelled or expired. 0: only the log has it.
    pub keep: i64,
}

impl NewJob {
    /// A job with priority 0, codec `json`, one attempt, kept for a day.
    pub fn new(task: impl Into<String>, queue: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        NewJob {
            id: JobId::new(),
            task: task.into(),
            queue: queue.into(),
            priority: 0,
            payload: payload.into(),
            codec: "json".into(),
            format: 1,
            eta: None,
            expires: None,
            max_attempts: 1,
            unique: None,
            limit: None,
            parent: None,
            group: None,
            waits_for: None,
            keep: 24 * 3600 * 1000,
        }
    }

    /// Checks what every store demands.
    pub(crate) fn check(&self, max_payload: usize) -> Result<(), Error> {
        let names = [
            ("task", Some(&self.task)),
            ("queue", Some(&self.queue)),
            ("codec", Some(&self.codec)),
            ("limit", self.limit.as_ref()),
            ("unique key", self.unique.as_ref().map(|unique| &unique.key)),
        ];
        for (what, name) in names {
            if let Some(name) = name {
                check_name(what, name)?;
            }
        }
        if self.payload.len() > max_payload {
            let length = self.payload.len();
            return Err(Error::Invalid(format!(
                "the payload has {length} bytes, and at most {max_payload} are taken"
            )));
        }
        if self.max_attempts == 0 {
            return Err(Error::Invalid(
                "max_attempts is 0: the job would never run".into(),
            ));
        }
        if self.keep < 0 {
            return Err(Error::Invalid(format!("keep is {} ms", self.keep)));
        }
        if self.waits_for.is_some() && self.waits_for == self.group {
            return Err(Error::Invalid(
                "a job cannot wait for the group that it is of".into(),
            ));
        }
        for (what, time) in [("eta", self.eta), ("expires", self.expires)] {
            if time.is_some_and(|time| !(0..=MAX_TIME).contains(&time)) {
                return Err(Error::Invalid(format!(
                    "{what} is no time in milliseconds since 1970"
                )));
            }
        }
        Ok(())
    }
}

/// The error of a job that waited for a group in vain.
pub(crate) const GROUP_FAILED: &str = "a job of the group that this one waits for did not succeed";

/// The year 9999: whatever is later was given in another unit.
pub(crate) const MAX_TIME: i64 = 253_402_300_799_999;

/// Whether a tick that is noted may have been: one that is more than a day ahead was made by a clock that was wrong, and would
/// keep its schedule from running until then.
pub(crate) fn may_have_been(tick: i64, now: i64) -> bool {
    tick <= now.saturating_add(24 * 3600 * 1000)
}

/// What a name may be.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > 1000 || name.contains('\0') {
        return Err(Error::Invalid(format!(
            "the {what} has to have 1 to 1000 bytes, none of them zero: {name:.40?}"
        )));
    }
    Ok(())
}

/// A job as the store has it. Times are milliseconds since 1970 by the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Where it is in its life.
    pub status: Status,
    /// The task's name.
    pub task: String,
    /// The queue's name.
    pub queue: String,
    /// Higher ones go first.
    pub priority: i32,
    /// The arguments, as the codec wrote them. Left out (empty) in lists.
    pub payload: Vec<u8>,
    /// The codec's name.
    pub codec: String,
    /// The version of the payload's form.
    pub format: u32,
    /// Not before.
    pub eta: Option<i64>,
    /// Not begun from here on.
    pub expires: Option<i64>,
    /// How many attempts have begun, less those handed back.
    pub attempts: u32,
    /// How many may.
    pub max_attempts: u32,
    /// How many times a worker died under it.
    pub deaths: u32,
    /// Its unique key.
    pub unique: Option<Unique>,
    /// The rate limit it goes by.
    pub limit: Option<String>,
    /// The job that enqueued it.
    pub parent: Option<JobId>,
    /// The group it is of.
    pub group: Option<JobId>,
    /// The group it waits for, or waited for.
    pub waits_for: Option<JobId>,
    /// For how many milliseconds it is kept once finished.
    pub keep: i64,
    /// The worker that has it.
    pub worker: Option<WorkerId>,
    /// Whether it is to be cancelled: its worker is asked to.
    pub cancel_requested: bool,
    /// When it was enqueued.
    pub enqueued_at: i64,
    /// When its last attempt began.
    pub started_at: Option<i64>,
    /// When it finished.
    pub finished_at: Option<i64>,
    /// What it gave, as the codec wrote it.
    pub result: Option<Vec<u8>>,
    /// What went wrong last, in a line.
    pub error: Option<String>,
    /// Where it went wrong last.
    pub traceback: Option<String>,
}

/// A worker process (or a part of one) that claims jobs. Never given twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub i64);

/// One execution of a job: what an acknowledgement has to name. No two attempts are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// Who runs it.
    pub worker: WorkerId,
    /// The how manyth claim of this job it is; never set back.
    pub number: u32,
    /// Where the store has the job.
    pub(crate) seq: i64,
}

/// A job that was claimed, and the attempt to acknowledge it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The job, `Running` now.
    pub job: Job,
    /// Its attempt.
    pub attempt: Attempt,
}
