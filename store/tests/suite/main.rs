//! What every store has to do. Each test runs against each of them.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod groups;
mod keys;
mod life;
mod limits;
mod upkeep;

use std::sync::Arc;

use common::*;
use roving_store::*;

const NOON: i64 = 1_800_000_000_000;

struct Case {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    _folder: Option<Folder>,
}

fn sqlite() -> Case {
    let (folder, clock) = (Folder::new("suite"), Arc::new(ManualClock::new(NOON)));
    let store = SqliteOptions::new(folder.join("jobs.db"))
        .clock(clock.clone())
        .open()
        .unwrap();
    Case {
        store: Arc::new(store),
        clock,
        _folder: Some(folder),
    }
}

fn memory() -> Case {
    let clock = Arc::new(ManualClock::new(NOON));
    let store = MemoryStore::new(MemoryOptions {
        clock: clock.clone(),
        ..MemoryOptions::default()
    });
    Case {
        store: Arc::new(store),
        clock,
        _folder: None,
    }
}

macro_rules! suite {
    ($($module:ident: $($name:ident)*;)*) => {
        mod in_sqlite { $($( #[test] fn $name() { crate::$module::$name(&crate::sqlite()); } )*)* }
        mod in_memory { $($( #[test] fn $name() { crate::$module::$name(&crate::memory()); } )*)* }
    };
}

suite! {
    life: a_job_lives keeps_what_it_was_given priorities_go_first_then_age queues_are_apart claims_are_for_registered_workers an_eta_is_waited_for a_clock_set_back_keeps_a_due_job expired_jobs_do_not_run expired_jobs_end_in_their_turn retries_end a_hand_back_does_not_count an_attempt_is_acknowledged_once what_follows_is_enqueued_with_the_acknowledgement an_evicted_worker_cannot_acknowledge poison_is_quarantined_and_retried cancels;
    keys: unique_keys unique_until_started repeated_enqueues_are_one bad_rows_do_not_fail_their_batch once_keys one_job_a_tick a_clock_that_was_wrong_does_not_stop_ticks;
    limits: rate_limits a_limit_does_not_hold_up_others concurrency pausing;
    groups: groups_are_waited_for groups_that_fail results_are_held_for_who_waits a_failed_waiter_holds_on chains_go_on_when_retried a_waiter_is_retried_with_its_group groups_go_with_their_last_job groups_that_wait_for_one_another_are_purged;
    upkeep: pruning_leaves_the_log purging lists_have_pages stats_count listeners_are_told retired_workers_hand_back closed_stores_say_so;
}

fn tasks(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|job| &*job.job.task).collect()
}
