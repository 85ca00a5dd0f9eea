//! Compares a node with what a user would pick instead: the same events, each acknowledged write synced, the same machine and run, one
//! server at a time and all in turn. It starts every server itself, on loopback, and measures no other; `run.sh` finds the programs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

use self::{
    events::Supply,
    material::Prepared,
    report::{By, Report},
    system::System,
    systems::{
        etcd::Etcd,
        nats::{Nats, Several, Sync},
        postgres::Postgres,
        tradelane::Tradelane,
    },
    workloads::Extent,
};

mod events;
mod material;
mod report;
mod server;
mod system;
mod systems;
mod workloads;

/// No step of one system's turn lasts longer: most last a second.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// What is compared, and how much.
#[derive(Debug, Parser)]
struct Arguments {
    /// What `tradelane bench --prepare` made.
    #[arg(long, value_name = "DIRECTORY")]
    prepared: PathBuf,
    /// Where the servers keep what they store: the file system that is measured.
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// The node's program.
    #[arg(long, value_name = "FILE")]
    tradelane: PathBuf,
    /// nats-server, 2.12 or later.
    #[arg(long, value_name = "FILE")]
    nats: Option<PathBuf>,
    /// nats-server before 2.10, as older distributions have it.
    #[arg(long, value_name = "FILE")]
    nats_old: Option<PathBuf>,
    /// The folder of initdb and postgres.
    #[arg(long, value_name = "DIRECTORY")]
    postgres: Option<PathBuf>,
    /// etcd.
    #[arg(long, value_name = "FILE")]
    etcd: Option<PathBuf>,
    /// How often each system has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// How long each measurement of a rate lasts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Only see that everything runs: small counts. The figures mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let prepared = Arc::new(Prepared::read(&arguments.prepared)?);
    let mut supply = Supply::read(&prepared.events_file)?;
    let extent =
        Extent { limit: Duration::from_secs(arguments.seconds), shrink: if arguments.smoke { 250 } else { 1 } };
    let mut report = Report::default();
    let systems = systems(&arguments, &prepared, &mut report);
    for system in &systems {
        report.system(system.facts());
    }
    for round in 1..=arguments.rounds {
        // Whoever was first is last in the next round.
        let first = (round as usize - 1) % systems.len();
        for system in systems[first..].iter().chain(&systems[..first]) {
            let name = system.facts().name;
            eprintln!("round {round} of {}: {name}", arguments.rounds);
            if let Err(error) = measure(system.as_ref(), &name, round, &mut supply, extent, &mut report).await {
                eprintln!("{name}, round {round}: {error:#}");
                report.failed(format!("{name}, round {round}: {error:#}"));
            }
        }
    }
    let settings = json!({
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "smoke": arguments.smoke,
        "optimised": !cfg!(debug_assertions),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "transport": "mutual TLS on loopback, the same certificates for all",
    });
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.document(&settings))?)?;
    }
    if arguments.smoke || cfg!(debug_assertions) {
        println!("THESE FIGURES MEAN NOTHING: small counts, or a program that was built without optimisation.\n");
    }
    println!("{}", report.markdown());
    ensure!(!report.has_failures(), "not everything could be measured");
    Ok(())
}

/// All whose programs are there; ours first.
fn systems(arguments: &Arguments, prepared: &Arc<Prepared>, report: &mut Report) -> Vec<Box<dyn System>> {
    let parent = &arguments.dir;
    let program = arguments.tradelane.clone();
    let ours = Tradelane { program, prepared: Arc::clone(prepared), parent: parent.clone() };
    let mut systems: Vec<Box<dyn System>> = vec![Box::new(ours)];
    let nats = |name: &'static str, program: &PathBuf, sync: Sync, several: Several| -> Box<dyn System> {
        let (program, prepared, parent) = (program.clone(), Arc::clone(prepared), parent.clone());
        Box::new(Nats { name, program, sync, several, prepared, parent })
    };
    match &arguments.nats {
        Some(program) => systems.extend([
            nats("nats always", program, Sync::Always, Several::Messages),
            nats("nats always, batch", program, Sync::Always, Several::Batch),
            nats("nats default", program, Sync::Default, Several::Messages),
            nats("nats default, batch", program, Sync::Default, Several::Batch),
        ]),
        None => report.absent("nats-server 2.12 or later, which can sync each message: no program".to_owned()),
    }
    match &arguments.nats_old {
        Some(program) => systems.push(nats("nats old, default", program, Sync::Default, Several::Messages)),
        None => report.absent("an older nats-server: no program".to_owned()),
    }
    match &arguments.postgres {
        Some(programs) => systems.push(Box::new(Postgres {
            programs: programs.clone(),
            prepared: Arc::clone(prepared),
            parent: parent.clone(),
        })),
        None => report.absent("PostgreSQL: no programs".to_owned()),
    }
    match &arguments.etcd {
        Some(program) => systems.push(Box::new(Etcd {
            program: program.clone(),
            prepared: Arc::clone(prepared),
            parent: parent.clone(),
        })),
        None => report.absent("etcd: no program".to_owned()),
    }
    systems
}

/// One turn of one system: started with nothing stored, measured, ended.
async fn measure(
    system: &dyn System,
    name: &str,
    round: u32,
    supply: &mut Supply,
    extent: Extent,
    report: &mut Report,
) -> Result<()> {
    let running = system.start().await?;
    let mut stored = 0;
    for (events, in_flight) in workloads::PUBLISH {
        let is_left_out = running.in_flight_max(events) < in_flight || (system.only_several() && events == 1);
        if !is_left_out {
            let case = format!("publish {events} x {in_flight}");
            let publishing = workloads::publish(running.as_ref(), supply, extent, (events, in_flight));
            let (run, count) = within(&case, publishing).await?;
            stored += count;
            report.add(&case, By::Rate, name, round, run);
        }
    }
    if !system.only_several() {
        let run = within("replay", workloads::replay(running.as_ref(), stored)).await?;
        report.add("replay", By::Rate, name, round, run);
        let (end_to_end, acknowledged) =
            within("end to end", workloads::latency(running.as_ref(), supply, extent)).await?;
        report.add("end to end at 2,000/s", By::Time, name, round, end_to_end);
        report.add("acknowledged at 2,000/s", By::Time, name, round, acknowledged);
        let run = within("fan-out", workloads::fan_out(running.as_ref(), supply, extent)).await?;
        report.add("fan-out to 100", By::Rate, name, round, run);
    }
    running.stop().await
}

/// What a step brings, unless it takes longer than the whole run can bear.
async fn within<T>(step: &str, running: impl Future<Output = Result<T>>) -> Result<T> {
    let ended = tokio::time::timeout(STEP_TIMEOUT, running).await;
    ended.with_context(|| format!("{step}: not within {} s", STEP_TIMEOUT.as_secs()))?.with_context(|| step.to_owned())
}
