//! The metrics of a server and of its runtime.

use super::exposition::{Exposition, Kind};
use crate::meter::{BOUNDS, CLASSES, METHODS};
use crate::server::Server;
use crate::strict::Fault;
use roving_runtime::{Metrics, WorkerMetrics};

/// The metrics of requests and connections.
pub(super) fn add_server(page: &mut Exposition, server: &Server) {
    let statistics = server.statistics();
    let help = "Requests that are with the application.";
    page.single(
        "roving_requests_in_flight",
        Kind::Gauge,
        help,
        statistics.in_flight,
    );
    let help = "Requests that wait for their turn.";
    page.single("roving_requests_queued", Kind::Gauge, help, statistics.queued);
    let help = "Requests that were refused with 503, since there were too many.";
    page.single(
        "roving_requests_refused_total",
        Kind::Counter,
        help,
        statistics.refused,
    );
    let name = "roving_requests_malformed_total";
    let help = "Requests that were malformed or over a limit, by what was wrong.";
    page.family(name, Kind::Counter, help);
    for fault in Fault::ALL {
        // All of them, always: a rate needs the zero before the first one.
        page.sample(name, &[("fault", fault.name())], server.malformed_as(*fault));
    }
    let help = "Connections that are open.";
    page.single("roving_connections", Kind::Gauge, help, statistics.connections);
    let help = "Accepts that failed.";
    page.single(
        "roving_accepts_failed_total",
        Kind::Counter,
        help,
        statistics.accept_failed,
    );
    let (in_flight, queue) = server.limits();
    let help = "How many requests may be with the application at once.";
    page.single("roving_requests_in_flight_limit", Kind::Gauge, help, in_flight);
    let help = "How many requests may wait for their turn.";
    page.single("roving_requests_queue_limit", Kind::Gauge, help, queue);
    add_meter(page, server);
}

fn add_meter(page: &mut Exposition, server: &Server) {
    let Some(sums) = server.sums() else { return };
    let name = "roving_requests_total";
    let help = "Requests that are over, by method and class of status; without a response: none.";
    page.family(name, Kind::Counter, help);
    for (method, counts) in METHODS.iter().zip(&sums.requests) {
        for (class, count) in CLASSES.iter().zip(counts) {
            // The usual ones are there from the beginning, the others once there was one.
            if *count != 0 || (["GET", "POST"].contains(method) && ["2xx", "4xx", "5xx"].contains(class)) {
                page.sample(name, &[("method", method), ("code", class)], count);
            }
        }
    }
    let name = "roving_request_duration_seconds";
    let help = "From a request's whole head to the end of its response.";
    page.family(name, Kind::Histogram, help);
    let bucket = format!("{name}_bucket");
    let mut sum = 0;
    for (bound, count) in BOUNDS.iter().zip(&sums.latencies) {
        sum += count;
        let bound = (*bound as f64 / 1e6).to_string();
        page.sample(&bucket, &[("le", &bound)], sum);
    }
    sum += sums.latencies[BOUNDS.len()];
    page.sample(&bucket, &[("le", "+Inf")], sum);
    page.sample(&format!("{name}_sum"), &[], sums.time.as_secs_f64());
    page.sample(&format!("{name}_count"), &[], sum);
    let help = "Connections that were accepted.";
    page.single("roving_connections_total", Kind::Counter, help, sums.connections);
    let help = "Bytes that clients sent.";
    page.single("roving_received_bytes_total", Kind::Counter, help, sums.received);
    let help = "Bytes that were sent to clients.";
    page.single("roving_sent_bytes_total", Kind::Counter, help, sums.sent);
}

/// The metrics of workers and fibers.
pub(super) fn add_runtime(page: &mut Exposition, metrics: &Metrics) {
    let workers: Vec<_> = metrics.workers.iter().filter(|worker| !worker.vacant).collect();
    let count = |which: fn(&WorkerMetrics) -> bool| workers.iter().filter(|worker| which(worker)).count();
    let sum = |what: fn(&WorkerMetrics) -> u64| workers.iter().map(|worker| what(worker)).sum::<u64>();
    let mut gauge = |name: &str, help: &str, value: f64| page.single(name, Kind::Gauge, help, value);
    gauge(
        "roving_workers",
        "Threads that run fibers, spares included.",
        workers.len() as f64,
    );
    gauge(
        "roving_workers_sleeping",
        "Workers that have nothing to do.",
        metrics.sleeping as f64,
    );
    gauge(
        "roving_workers_spare",
        "Workers that start nothing new: others were added for them.",
        count(|worker| worker.resting) as f64,
    );
    gauge(
        "roving_workers_blocked",
        "Workers that sit in a call that blocks.",
        count(|worker| worker.blocked) as f64,
    );
    gauge(
        "roving_fibers",
        "Fibers that have not ended, started or not.",
        metrics.outstanding as f64,
    );
    let longest = |what: fn(&WorkerMetrics) -> std::time::Duration| {
        let longest = workers.iter().map(|worker| what(worker)).max();
        longest.unwrap_or_default().as_secs_f64()
    };
    gauge(
        "roving_ready_delay_seconds",
        "How long a fiber waited for its turn when last measured, at the slowest worker.",
        longest(|worker| worker.ready_delay),
    );
    gauge(
        "roving_held_up_seconds",
        "The longest that a fiber can have waited since a call blocked its worker or another kept it.",
        longest(|worker| worker.held_up),
    );
    gauge(
        "roving_stacks",
        "Stacks of fibers that are in use.",
        metrics.stacks_live as f64,
    );
    gauge(
        "roving_stacks_mapped_bytes",
        "Address space of stacks.",
        metrics.stacks_mapped as f64,
    );
    gauge(
        "roving_blocking_threads",
        "Threads for calls that were handed to roving.blocking.",
        metrics.blocking.threads as f64,
    );
    gauge(
        "roving_blocking_queued",
        "Calls that wait for such a thread.",
        metrics.blocking.queued as f64,
    );
    let mut counter = |name: &str, help: &str, value: u64| page.single(name, Kind::Counter, help, value);
    counter(
        "roving_turns_total",
        "How often workers ran something.",
        sum(|worker| worker.turns),
    );
    counter(
        "roving_fibers_started_total",
        "Fibers that were started.",
        sum(|worker| worker.started),
    );
    counter(
        "roving_stolen_total",
        "How often work was taken from another worker.",
        sum(|worker| worker.stolen),
    );
    counter(
        "roving_slept_total",
        "How often workers fell asleep.",
        sum(|worker| worker.slept),
    );
    counter(
        "roving_preemptions_total",
        "How often a fiber was suspended at the end of its quantum.",
        sum(|worker| worker.preempted),
    );
}
