//! Samples for `benches/run`, and by hand. Speaks lines: one JSON object each.

use roving_benches::echo::{self, Load};
use roving_benches::sampler::{Sampler, Watchdog};
use roving_benches::{BENCHES, Peer, Settings, cases, configure, find_case};
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: roving-bench list
       roving-bench sample BENCH... [option...]       each bench with each peer, one after the other
       roving-bench serve [option...]                 reads `BENCH PEER` lines, answers each with a sample
       roving-bench echo-server PEER [--workers N]    serves until its standard input ends
       roving-bench echo-client PORT [option...]      loads a server

  --workers N      workers of each runtime (the number of cores)
  --peer NAME      only this peer
  --samples N      how many samples of each (5)
  --length MS      how long a sample takes (100)
  --limit S        what a sample may take before the process gives up (60)
  --quick          smaller sizes
  --pin            each worker on a core of its own (roving, tokio, may)
  --connections N  of the echo client (64)
  --size BYTES     of its messages (100)
  --seconds S      it counts for (2), after a tenth of that to warm up";

struct Options {
    words: Vec<String>,
    workers: usize,
    peer: Option<Peer>,
    samples: usize,
    length: Duration,
    limit: Duration,
    quick: bool,
    pin: bool,
    connections: usize,
    size: usize,
    seconds: f64,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        words: Vec::new(),
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        peer: None,
        samples: 5,
        length: Duration::from_millis(100),
        limit: Duration::from_secs(60),
        quick: false,
        pin: false,
        connections: 64,
        size: 100,
        seconds: 2.0,
    };
    fn number<T: std::str::FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
        let value = value.ok_or_else(|| format!("{name} needs a value"))?;
        value
            .parse()
            .map_err(|_| format!("{name} needs a number, not {value:?}"))
    }
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--workers" => options.workers = number(&arg, args.next())?,
            "--peer" => {
                let name = args.next().unwrap_or_default();
                options.peer =
                    Some(Peer::from_name(&name).ok_or_else(|| format!("there is no peer {name:?}"))?);
            }
            "--samples" => options.samples = number(&arg, args.next())?,
            "--length" => options.length = Duration::from_millis(number(&arg, args.next())?),
            "--limit" => options.limit = Duration::from_secs(number(&arg, args.next())?),
            "--quick" => options.quick = true,
            "--pin" => options.pin = true,
            "--connections" => options.connections = number(&arg, args.next())?,
            "--size" => options.size = number(&arg, args.next())?,
            "--seconds" => options.seconds = number(&arg, args.next())?,
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg}")),
            _ => options.words.push(arg),
        }
    }
    if options.workers == 0 || options.size == 0 || options.connections == 0 || options.seconds <= 0.0 {
        return Err("zero makes no sense here".to_owned());
    }
    Ok(options)
}

fn main() -> ExitCode {
    let run = || -> Result<(), String> {
        let options = parse(std::env::args().skip(1))?;
        configure(Settings {
            workers: options.workers,
            quick: options.quick,
            pin: options.pin,
        });
        let words: Vec<&str> = options.words.iter().map(String::as_str).collect();
        match words[..] {
            ["list"] => list(),
            ["sample", ref benches @ ..] if !benches.is_empty() => sample(benches, &options)?,
            ["serve"] => serve(&options),
            ["echo-server", peer] => echo_server(peer)?,
            ["echo-client", port] => echo_client(port, &options)?,
            _ => return Err(USAGE.to_owned()),
        }
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for bench in BENCHES {
        let peers: Vec<String> = cases()
            .filter(|case| case.bench == bench.name)
            .map(|case| format!("{:?}", case.peer.name()))
            .collect();
        println!(
            r#"{{"bench": "{}", "workers": "{}", "op": "{}", "peers": [{}]}}"#,
            bench.name,
            bench.workers.name(),
            bench.op,
            peers.join(", ")
        );
    }
}

fn watchdog(options: &Options) -> Watchdog {
    let limit = options.limit.as_secs();
    Watchdog::new(options.limit, move || {
        println!(r#"{{"error": "took more than {limit} s"}}"#);
    })
}

fn sample(benches: &[&str], options: &Options) -> Result<(), String> {
    let (mut sampler, watchdog) = (Sampler::new(options.length), watchdog(options));
    for name in benches {
        let bench = BENCHES.iter().find(|bench| bench.name == *name);
        let bench = bench.ok_or_else(|| format!("there is no bench {name:?}: see `roving-bench list`"))?;
        let peers: Vec<_> = Peer::ALL
            .into_iter()
            .filter(|peer| options.peer.is_none_or(|only| only == *peer))
            .filter_map(|peer| find_case(bench.name, peer))
            .collect();
        let mut figures = vec![Vec::new(); peers.len()];
        for _ in 0..options.samples {
            for (case, figures) in peers.iter().zip(&mut figures) {
                figures.push(watchdog.watch(|| sampler.sample(case)).nanos_per_op());
            }
        }
        for (case, figures) in peers.iter().zip(&mut figures) {
            figures.sort_by(f64::total_cmp);
            let (least, most) = (figures[0], figures[figures.len() - 1]);
            println!(
                "{:20} {:8} {:>12.1} ns  (from {least:.1} to {most:.1})",
                bench.name,
                case.peer.name(),
                figures[figures.len() / 2]
            );
        }
    }
    Ok(())
}

fn serve(options: &Options) {
    let (mut sampler, watchdog) = (Sampler::new(options.length), watchdog(options));
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let case = line
            .split_once(' ')
            .and_then(|(bench, peer)| find_case(bench, Peer::from_name(peer)?));
        match case {
            None => println!(r#"{{"error": "no such case"}}"#),
            Some(case) => {
                let sample = watchdog.watch(|| sampler.sample(case));
                println!(r#"{{"ns": {:.3}, "ops": {}}}"#, sample.nanos_per_op(), sample.ops);
            }
        }
        let _ = std::io::stdout().flush();
    }
}

fn echo_server(peer: &str) -> Result<(), String> {
    let peer = Peer::from_name(peer).ok_or_else(|| format!("there is no peer {peer:?}"))?;
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(0);
    });
    let ready = |port| println!(r#"{{"port": {port}}}"#);
    echo::serve(peer, ready).map_err(|error| format!("the server of {} ended: {error}", peer.name()))
}

fn echo_client(port: &str, options: &Options) -> Result<(), String> {
    let port: u16 = port.parse().map_err(|_| format!("no port: {port:?}"))?;
    let load = Load {
        server: ([127, 0, 0, 1], port).into(),
        connections: options.connections,
        size: options.size,
        warm_up: Duration::from_secs_f64(options.seconds / 10.0),
        duration: Duration::from_secs_f64(options.seconds),
    };
    let traffic = echo::load(&load).map_err(|error| format!("the echo client failed: {error}"))?;
    let [median, tail] = traffic.latency;
    println!(
        r#"{{"ns": {:.3}, "ops": {}, "median_ns": {median}, "p99_ns": {tail}}}"#,
        traffic.elapsed.as_nanos() as f64 / traffic.messages.max(1) as f64,
        traffic.messages
    );
    Ok(())
}
