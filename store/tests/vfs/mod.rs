//! A file access for SQLite that remembers which writes were synced. It stands on the system's own, which does all the
//! work: locks, shared memory, reading.
#![allow(missing_docs, unreachable_pub)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, Once};

use rusqlite::ffi;

use crate::common::Random;

pub const NAME: &str = "roving-power";

/// A file as the disk has it, and what it does not have for sure.
#[derive(Default)]
struct Disk {
    synced: Vec<u8>,
    pending: Vec<Write>,
}

enum Write {
    Bytes(usize, Vec<u8>),
    Truncate(usize),
}

impl Write {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Write::Bytes(at, bytes) => {
                if file.len() < at + bytes.len() {
                    file.resize(at + bytes.len(), 0);
                }
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Write::Truncate(size) => file.resize(*size, 0),
        }
    }
}

static DISKS: LazyLock<Mutex<HashMap<PathBuf, Disk>>> = LazyLock::new(Mutex::default);

/// Writes into `folder` what the disk would have of a database and its log. Says how many writes it had not.
pub fn cut_power(database: &Path, folder: &Path, random: &mut Random) -> usize {
    std::fs::create_dir(folder).unwrap();
    let mut lost = 0;
    let disks = DISKS.lock().unwrap();
    for suffix in ["", "-wal"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        let Some(disk) = disks.get(Path::new(&name)) else {
            continue;
        };
        let mut file = disk.synced.clone();
        for write in &disk.pending {
            match (random.below(3), write) {
                (0, write) => write.apply(&mut file),
                // Torn: some of its sectors.
                (1, Write::Bytes(at, bytes)) => {
                    for (number, sector) in bytes.chunks(512).enumerate() {
                        if random.below(2) == 0 {
                            Write::Bytes(at + number * 512, sector.to_vec()).apply(&mut file);
                        }
                    }
                    lost += 1;
                }
                _ => lost += 1,
            }
        }
        std::fs::write(folder.join(Path::new(&name).file_name().unwrap()), file).unwrap();
    }
    lost
}

/// What SQLite sees as a file of ours: its own part first, then the system's file behind it.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// What it is called, for files that are watched: the database and its log. Owned.
    path: *mut PathBuf,
}

fn system() -> *mut ffi::sqlite3_vfs {
    // SAFETY: SQLite's own, which lives as long as the process.
    unsafe { ffi::sqlite3_vfs_find(c"unix".as_ptr()) }
}

/// The system's file, in the memory behind ours.
fn inner(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite gave `szOsFile` bytes, ours and the system's.
    unsafe { file.cast::<File>().add(1).cast() }
}

fn methods(file: *mut ffi::sqlite3_file) -> &'static ffi::sqlite3_io_methods {
    // SAFETY: the system's file was opened, and has its methods.
    let methods = unsafe { (*inner(file)).pMethods };
    // SAFETY: they are static.
    unsafe { &*methods }
}

fn with_disk(file: *mut ffi::sqlite3_file, change: impl FnOnce(&mut Disk)) {
    // SAFETY: set when the file was opened.
    let path = unsafe { (*file.cast::<File>()).path };
    // SAFETY: null, or freed only when the file is closed.
    if let Some(path) = unsafe { path.as_ref() } {
        change(DISKS.lock().unwrap().entry(path.clone()).or_default());
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the pointer is ours alone, and not used after.
    let path = unsafe { (*file.cast::<File>()).path };
    if !path.is_null() {
        // SAFETY: made by Box::into_raw in open.
        drop(unsafe { Box::from_raw(path) });
    }
    // SAFETY: the system's file, as SQLite wants it closed.
    unsafe { methods(file).xClose.unwrap()(inner(file)) }
}

/// Methods that the system's file does as they are.
macro_rules! forward {
    ($($name:ident = $method:ident ( $($argument:ident : $type:ty),* ) -> $result:ty;)*) => {
        $(unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($argument: $type),*) -> $result {
            // SAFETY: SQLite's call, handed on with its arguments.
            unsafe { methods(file).$method.unwrap()(inner(file), $($argument),*) }
        })*
    };
}

forward! {
    read = xRead(buffer: *mut c_void, count: c_int, at: ffi::sqlite3_int64) -> c_int;
    file_size = xFileSize(size: *mut ffi::sqlite3_int64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_lock = xCheckReservedLock(answer: *mut c_int) -> c_int;
    control = xFileControl(what: c_int, argument: *mut c_void) -> c_int;
    sector_size = xSectorSize() -> c_int;
    characteristics = xDeviceCharacteristics() -> c_int;
    shm_map = xShmMap(region: c_int, size: c_int, extend: c_int, memory: *mut *mut c_void) -> c_int;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier() -> ();
    shm_unmap = xShmUnmap(delete: c_int) -> c_int;
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite gives `count` bytes.
    let copy = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count as usize) }.to_vec();
    with_disk(file, |disk| disk.pending.push(Write::Bytes(at as usize, copy)));
    // SAFETY: SQLite's call, handed on.
    unsafe { methods(file).xWrite.unwrap()(inner(file), bytes, count, at) }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    with_disk(file, |disk| disk.pending.push(Write::Truncate(size as usize)));
    // SAFETY: SQLite's call, handed on.
    unsafe { methods(file).xTruncate.unwrap()(inner(file), size) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // Only what was written before it began is synced for sure. One file has several connections: the log is another
    // file to each, with one disk.
    let mut before = 0;
    with_disk(file, |disk| before = disk.pending.len());
    // SAFETY: SQLite's call, handed on.
    let outcome = unsafe { methods(file).xSync.unwrap()(inner(file), flags) };
    if outcome == ffi::SQLITE_OK {
        with_disk(file, |disk| {
            let count = before.min(disk.pending.len());
            for write in disk.pending.drain(..count).collect::<Vec<_>>() {
                write.apply(&mut disk.synced);
            }
        });
    }
    outcome
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let ours = file.cast::<File>();
    let watched = flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) != 0 && !name.is_null();
    // SAFETY: SQLite gives memory for both files; no methods means that it need not be closed.
    unsafe { (*ours).base.pMethods = std::ptr::null() };
    let system = system();
    // SAFETY: the system's, which lives as long as the process.
    let open = unsafe { (*system).xOpen.unwrap() };
    // SAFETY: the system's own open, with the system's part of the memory.
    let outcome = unsafe { open(system, name, inner(file), flags, out) };
    if outcome != ffi::SQLITE_OK {
        return outcome;
    }
    let path = if watched {
        // SAFETY: not null, and a string of SQLite's.
        let name = unsafe { CStr::from_ptr(name) };
        Box::into_raw(Box::new(PathBuf::from(name.to_str().unwrap())))
    } else {
        std::ptr::null_mut()
    };
    // SAFETY: as above.
    unsafe { (*ours).path = path };
    // SAFETY: as above; from here on SQLite closes it.
    unsafe { (*ours).base.pMethods = &raw const METHODS };
    outcome
}

/// Makes it known to SQLite.
pub fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the system's is a plain structure, of which ours is a copy that differs in four fields. Its functions ask
        // the vfs that they get for nothing that the copy has not.
        let mut vfs = unsafe { *system() };
        vfs.szOsFile += size_of::<File>() as c_int;
        vfs.zName = CString::new(NAME).unwrap().into_raw();
        vfs.pNext = std::ptr::null_mut();
        vfs.xOpen = Some(open);
        // SAFETY: leaked, so that it lives as long as the process.
        let outcome = unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0) };
        assert_eq!(outcome, ffi::SQLITE_OK);
    });
}
