//! The power is cut: whatever was written and not synced may be gone, or there in part. Every acknowledged enqueue, and
//! every acknowledgement, is there afterwards.
//!
//! A kill shows nothing of this, since the system's page cache survives it. Here SQLite's access to files goes through one
//! that keeps, beside each file, what a disk would have: the writes since the last sync are remembered, and at the cut each
//! is there, is not, or is there in part, as a seed says.
#![allow(missing_docs)]

mod common;
mod vfs;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use roving_store::*;

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    vfs::register();
    let mut random = Random::new(seed());
    let rounds: u32 = variable("ROVING_STORE_CUTS").unwrap_or(6);
    let folder = Folder::new("power");
    let path = folder.join("jobs.db");
    let store = SqliteOptions::new(&path)
        .vfs(vfs::NAME)
        .log(Duration::from_secs(60), 100_000)
        .open()
        .unwrap();
    let (enqueued, succeeded) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let over = AtomicBool::new(false);
    let seeds = [random.next(), random.next()];
    std::thread::scope(|scope| {
        for seed in seeds {
            let (store, enqueued, over) = (&store, &enqueued, &over);
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !over.load(Ordering::Relaxed) {
                    let jobs: Vec<NewJob> = (0..1 + random.below(20))
                        .map(|_| NewJob {
                            payload: vec![3; random.below(3000) as usize],
                            ..job("a")
                        })
                        .collect();
                    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
                    wait(|done| store.enqueue(jobs, done)).unwrap();
                    enqueued.lock().unwrap().extend(ids);
                }
            });
        }
        let (store, succeeded, over, enqueued) = (&store, &succeeded, &over, &enqueued);
        scope.spawn(move || {
            let worker = register(store);
            while !over.load(Ordering::Relaxed) {
                for claimed in claim(store, worker, 10) {
                    succeed(store, claimed.attempt).unwrap();
                    succeeded.lock().unwrap().push(claimed.job.id);
                }
            }
        });
        // However this ends, the others end.
        let _end = SetAtEnd(over);
        for round in 0..rounds {
            std::thread::sleep(Duration::from_micros(50_000 + random.below(200_000)));
            // What was acknowledged before the cut; more may be there.
            let (were_enqueued, were_succeeded) = (
                enqueued.lock().unwrap().clone(),
                succeeded.lock().unwrap().clone(),
            );
            let after = folder.join(&format!("after-{round}"));
            let lost = vfs::cut_power(&path, &after, &mut random);
            let survivor = SqliteOptions::new(after.join("jobs.db")).open().unwrap();
            for id in &were_enqueued {
                assert!(get(&survivor, *id).is_some(), "{id} was enqueued and is gone");
            }
            for id in &were_succeeded {
                assert_eq!(status(&survivor, *id), Status::Succeeded);
            }
            let file = rusqlite::Connection::open(after.join("jobs.db")).unwrap();
            let sound: String = file
                .query_row("PRAGMA integrity_check", (), |row| row.get(0))
                .unwrap();
            assert_eq!(sound, "ok");
            println!(
                "cut {round}: {} enqueued, {} done, {lost} writes lost",
                were_enqueued.len(),
                were_succeeded.len()
            );
            // The dead worker's jobs run in the new life.
            let worker = register(&survivor);
            assert!(were_enqueued.len() == were_succeeded.len() || !claim(&survivor, worker, 1).is_empty());
        }
    });
}
