//! A command that is run for one event: what it gets, how long it may take, and what its exit status says of the event. It never outlives
//! its time limit, and never decides more than that.

use std::{
    collections::HashSet,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    cli::{json, words},
    wire::proto::{
        Acknowledge, ConsumeRequest, Delivery, DeliveryName, Event, ExtendLease, Park, Reject, Settlement,
        consume_request::Message, settlement::Verb,
    },
};

/// The exit status that says that an event can never be processed: `EX_DATAERR` of sysexits.h.
pub(super) const PARKING_STATUS: i32 = 65;
/// A lease is extended when so much of it is gone: two attempts fit into the rest.
const EXTENDED_AFTER_PART: u32 = 3;

/// What is run for each event.
#[derive(Debug, Clone)]
pub(super) struct Exec {
    /// The command, for `sh -c`.
    pub(super) command: String,
    /// How long it may take.
    pub(super) time_limit: Duration,
    /// The subscription's name.
    pub(super) subscription: String,
    /// The subscription's lease.
    pub(super) lease: Duration,
    /// What runs now.
    pub(super) running: Running,
}

/// The commands that run now, by their process groups.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Groups>>);

#[derive(Debug, Default)]
struct Groups {
    running: HashSet<Pid>,
    /// They were killed, and none begins any more.
    killed: bool,
}

/// One of them, until it has ended.
struct OneRunning<'a>(&'a Running, Option<Pid>);

impl Running {
    /// Kills all of them with all that they started.
    pub(super) fn kill(&self) {
        let mut groups = self.groups();
        groups.killed = true;
        for group in groups.running.drain() {
            // Where it has ended in this moment there is nothing to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Starts one, so that no other thread finds it started and not among these.
    fn begin(&self, start: impl FnOnce() -> std::io::Result<Child>) -> std::io::Result<(Child, OneRunning<'_>)> {
        let mut groups = self.groups();
        if groups.killed {
            return Err(std::io::Error::other("the program ends"));
        }
        let child = start()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        groups.running.extend(group);
        drop(groups);
        Ok((child, OneRunning(self, group)))
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        // Every change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OneRunning<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.1 {
            self.0.groups().running.remove(&group);
        }
    }
}

impl Exec {
    /// Runs the command for one delivery, extends the lease meanwhile, and answers what became of the event.
    pub(super) async fn run(&self, delivery: &Delivery, requests: &mpsc::Sender<ConsumeRequest>) -> Verb {
        let (mut child, runs) = match self.running.begin(|| self.start(delivery)) {
            Ok(begun) => begun,
            Err(error) => return rejected(format!("the command cannot be started: {error}")),
        };
        let group = runs.1;
        let mut input = child.stdin.take().expect("its standard input is a pipe");
        let mut text = json::recorded_event(&delivery.event.clone().unwrap_or_default()).to_string();
        text.push('\n');
        // A command that does not want the event closes its input, which is no failure; its exit status says all.
        let writing = async move {
            let _ = input.write_all(text.as_bytes()).await;
        };
        let ends_at = Instant::now() + self.time_limit;
        let running = async {
            let ((), status) = tokio::join!(writing, child.wait());
            status
        };
        tokio::pin!(running);
        loop {
            let extend_at = Instant::now() + self.lease / EXTENDED_AFTER_PART;
            tokio::select! {
                status = &mut running => return match status {
                    Ok(status) => said_by(status),
                    Err(error) => rejected(format!("the command cannot be waited for: {error}")),
                },
                () = sleep_until(ends_at) => break,
                () = sleep_until(extend_at) => {
                    // A stream that is gone takes the lease with it: the event comes again, and the command ends as it may.
                    let _ = requests.send(extension(delivery)).await;
                }
            }
        }
        if let Some(group) = group {
            // Where it has ended in this moment there is nothing to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = running.await;
        rejected(format!("the command took longer than {:?}", self.time_limit))
    }

    fn start(&self, delivery: &Delivery) -> std::io::Result<Child> {
        let event = delivery.event.clone().unwrap_or_default();
        let bytes = event.signed.as_ref().map(|signed| signed.event.clone()).unwrap_or_default();
        // An event that cannot be read has no id to tell; its position names it all the same.
        let event_id = <Event as prost::Message>::decode(bytes).map(|event| event.event_id).unwrap_or_default();
        Command::new("sh")
            .args(["-c", &self.command])
            .env("TRADELANE_SUBSCRIPTION", &self.subscription)
            .env("TRADELANE_EVENT_ID", event_id)
            .env("TRADELANE_EVENT_TYPE", words::glance(&event).kind)
            .env("TRADELANE_POSITION", &event.position)
            .env("TRADELANE_DELIVERY_ATTEMPT", delivery.delivery_attempt.to_string())
            .env("TRADELANE_REPLAYED", if delivery.replayed { "1" } else { "0" })
            .stdin(Stdio::piped())
            // A group of its own: Ctrl-C is for this program, which lets the command finish; and a time limit ends all that it started.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// What an exit status says of the event.
fn said_by(status: std::process::ExitStatus) -> Verb {
    match status.code() {
        Some(0) => Verb::Acknowledge(Acknowledge {}),
        Some(PARKING_STATUS) => {
            Verb::Park(Park { reason: format!("the command ended with exit status {PARKING_STATUS}") })
        }
        Some(code) => rejected(format!("the command ended with exit status {code}")),
        None => rejected(format!("the command was ended by a signal ({status})")),
    }
}

fn rejected(reason: String) -> Verb {
    Verb::Reject(Reject { delay: None, reason })
}

/// The name of a delivery.
pub(super) fn name(delivery: &Delivery) -> DeliveryName {
    let position = delivery.event.as_ref().map(|event| event.position.clone()).unwrap_or_default();
    DeliveryName { position, delivery_attempt: delivery.delivery_attempt }
}

/// The settlement of some deliveries, with the number that its answer bears.
pub(super) fn settlement(correlation_id: u64, deliveries: Vec<DeliveryName>, verb: Verb) -> ConsumeRequest {
    let settlement = Settlement { correlation_id, deliveries, verb: Some(verb) };
    ConsumeRequest { message: Some(Message::Settlement(settlement)) }
}

/// No settlement that is waited for has the number 0.
fn extension(delivery: &Delivery) -> ConsumeRequest {
    settlement(0, vec![name(delivery)], Verb::Extend(ExtendLease { lease: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::events::Voyage, wire::proto::RecordedEvent};

    fn delivery() -> Delivery {
        let event = RecordedEvent {
            signed: Some(Voyage::new(1, 0).held().unsigned()),
            position: "00000000000000000000000000000007-42".to_owned(),
            ..RecordedEvent::default()
        };
        Delivery { event: Some(event), delivery_attempt: 3, ..Delivery::default() }
    }

    async fn run(command: &str, time_limit: Duration, lease: Duration) -> (Verb, Vec<ConsumeRequest>) {
        let (command, subscription) = (command.to_owned(), "gate".to_owned());
        let exec = Exec { command, time_limit, subscription, lease, running: Running::default() };
        let (requests, mut said) = mpsc::channel(64);
        let verb = exec.run(&delivery(), &requests).await;
        drop(requests);
        let mut all = Vec::new();
        while let Some(request) = said.recv().await {
            all.push(request);
        }
        (verb, all)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_exit_status_says_what_became_of_the_event() {
        assert_eq!(run("exit 0", LONG, LONG).await.0, Verb::Acknowledge(Acknowledge {}));
        let Verb::Park(park) = run("exit 65", LONG, LONG).await.0 else { panic!("it is parked") };
        assert_eq!(park.reason, "the command ended with exit status 65");
        for (command, reason) in
            [("exit 1", "exit status 1"), ("kill -9 $$", "by a signal"), ("/nowhere", "exit status 127")]
        {
            let Verb::Reject(reject) = run(command, LONG, LONG).await.0 else { panic!("{command} is a rejection") };
            assert!(reject.reason.contains(reason), "{}", reject.reason);
        }
    }

    #[tokio::test]
    async fn the_command_gets_the_event_and_what_the_node_says_of_it() {
        let voyage = Voyage::new(1, 0);
        let tests = [
            "test \"$TRADELANE_SUBSCRIPTION\" = gate".to_owned(),
            "test \"$TRADELANE_DELIVERY_ATTEMPT\" = 3".to_owned(),
            "test \"$TRADELANE_POSITION\" = 00000000000000000000000000000007-42".to_owned(),
            "test \"$TRADELANE_EVENT_TYPE\" = hold.placed".to_owned(),
            format!("test \"$TRADELANE_EVENT_ID\" = {}", voyage.held().event_id),
            format!("grep -q '\"holdId\":\"H-{}\"'", voyage.declaration),
        ];
        assert_eq!(run(&tests.join(" && "), LONG, LONG).await.0, Verb::Acknowledge(Acknowledge {}));
    }

    #[tokio::test]
    async fn a_lease_is_extended_while_the_command_runs_and_the_time_limit_ends_all_that_it_started() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        // What the command started goes on writing until it is killed with it.
        let command = format!("(while true; do echo x >> '{}'; sleep 0.05; done) & wait", file.path().display());
        let (verb, said) = run(&command, Duration::from_millis(900), Duration::from_millis(300)).await;
        let Verb::Reject(reject) = verb else { panic!("it is rejected") };
        assert!(reject.reason.contains("took longer than 900ms"), "{}", reject.reason);
        assert!(said.len() >= 2, "{said:?}");
        for request in said {
            let Some(Message::Settlement(settlement)) = request.message else { panic!("an extension") };
            assert_eq!((settlement.correlation_id, &settlement.deliveries[0]), (0, &name(&delivery())));
            assert!(matches!(settlement.verb, Some(Verb::Extend(_))));
        }
        let length = || std::fs::metadata(file.path()).expect("it is there").len();
        let before = length();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(length(), before, "nothing of it is left");
    }
}
