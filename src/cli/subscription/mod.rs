//! `tradelane subscription`: durable subscriptions of one's own: make, look at, change, consume, and look after what failed. It never
//! says that something is settled before the node does.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use clap::{Args, Subcommand};
use tonic::transport::Channel;

use self::definition::SettingFlags;
use super::{
    Failure,
    connect::DECODE_BYTES_MAX,
    filter_flags::FilterFlags,
    json,
    settings::{ClientFlags, ClientSettings},
    subscribe::parse_start,
    terminal::{Terminal, note},
};
use crate::wire::proto::{
    CreateSubscriptionRequest, DeleteSubscriptionRequest, GetSubscriptionRequest, ListSubscriptionsRequest,
    PauseSubscriptionRequest, ResumeSubscriptionRequest, SeekSubscriptionRequest, Subscription,
    UpdateSubscriptionRequest, create_subscription_request, seek_subscription_request, subscribe_request,
    subscription_service_client::SubscriptionServiceClient,
};

mod consume;
mod dead_letters;
mod definition;
mod exec;
mod interrupted;
mod line;
mod show;

pub use consume::ConsumeArguments;
pub use dead_letters::DeadLettersCommand;

/// `tradelane subscription`
#[derive(Debug, Subcommand)]
pub enum SubscriptionCommand {
    /// Create a subscription: a named reader whose place the node keeps.
    #[command(
        after_help = "Creating it again with the same definition changes nothing.\n\nExamples:\n  tradelane subscription create holds --type \
                      hold --country PK\n  tradelane subscription create gate --from earliest --delivery shared \\\n    --ordering-key container \
                      --type clearance --type hold\n  tradelane subscription create import \\\n    --filter '{\"types\": [\"clearance\"], \
                      \"procedures\": [\"PROCEDURE_IMPORT\"]}'"
    )]
    Create(CreateArguments),
    /// List one's own subscriptions.
    #[command(
        after_help = "Operators see those of everybody: tradelane node subscriptions\n\nExamples:\n  tradelane subscription list\n  tradelane \
                      subscription list --output json | jq '.subscriptions[].lagEvents'"
    )]
    List(Plain),
    /// Show everything about one subscription.
    #[command(after_help = "Example:\n  tradelane subscription show gate")]
    Show(OneOfOwner),
    /// Change filters and settings; what is not said stays as it is.
    #[command(
        after_help = "With another filter, what is neither settled nor on its way is looked at again under the new one; what stands before \
                      the acknowledged position is not delivered again.\n\nExamples:\n  tradelane subscription update gate --lease 2m \
                      --attempts-max 10\n  tradelane subscription update holds --type hold --type inspection"
    )]
    Update(UpdateArguments),
    /// Delete a subscription with its place and its dead letters.
    #[command(after_help = "Example:\n  tradelane subscription delete gate")]
    Delete(OneOfOwner),
    /// Receive events, settle each, and go on over lost connections.
    Consume(ConsumeArguments),
    /// Go to another place of the log.
    #[command(
        after_help = "Everything after the place is delivered again, everything up to it never. Dead letters stay.\n\nExamples:\n  tradelane \
                      subscription seek gate --to earliest\n  tradelane subscription seek gate --to 2026-11-24T00:00:00Z"
    )]
    Seek(SeekArguments),
    /// Stop deliveries until the subscription is resumed; consumers stay connected.
    #[command(after_help = "Example:\n  tradelane subscription pause gate")]
    Pause(One),
    /// Go on after a pause, or after the node stopped the subscription since one's grants changed.
    #[command(after_help = "Example:\n  tradelane subscription resume gate")]
    Resume(One),
    /// Look at, replay or drop events that are delivered no more.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
}

/// A command without arguments of its own.
#[derive(Debug, Args)]
pub struct Plain {
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A command about one subscription of one's own.
#[derive(Debug, Args)]
pub struct One {
    /// The subscription's name.
    pub name: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A command about one subscription, which for operators may be another's.
#[derive(Debug, Args)]
pub struct OneOfOwner {
    /// The subscription's name.
    pub name: String,
    /// Whose, by SPIFFE ID; for operators only [default: one's own]
    #[arg(long, value_name = "SPIFFE-ID", default_value = "", hide_default_value = true)]
    pub owner: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane subscription create`
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its name: 1 to 64 of a to z, 0 to 9 and "-", beginning with a letter.
    pub name: String,
    /// Where it begins: earliest, latest, a position (the events after it), or an RFC 3339 time.
    #[arg(long, value_name = "WHERE", default_value = "latest")]
    pub from: String,
    /// ordered: one active consumer, in order, an acknowledgement counts for everything up to its event. shared: competing consumers, each
    /// event by itself.
    #[arg(long, value_name = "MODE", default_value = "ordered")]
    pub delivery: String,
    /// With shared: the next event about the same consignment or container comes when the one before it is settled.
    #[arg(long, value_name = "KIND")]
    pub ordering_key: Option<String>,
    /// How it delivers.
    #[command(flatten)]
    pub settings: SettingFlags,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterFlags,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane subscription update`
#[derive(Debug, Args)]
pub struct UpdateArguments {
    /// The subscription's name.
    pub name: String,
    /// Receive everything that one's grants allow, instead of what filters say.
    #[arg(long)]
    pub all_events: bool,
    /// How it delivers.
    #[command(flatten)]
    pub settings: SettingFlags,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterFlags,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// `tradelane subscription seek`
#[derive(Debug, Args)]
pub struct SeekArguments {
    /// The subscription's name.
    pub name: String,
    /// The place: earliest, latest, a position (the events after it), or an RFC 3339 time.
    #[arg(long, value_name = "WHERE")]
    pub to: String,
    /// How to reach the node.
    #[command(flatten)]
    pub client: ClientFlags,
}

/// A node and where to show its answers.
struct Asking {
    settings: ClientSettings,
    client: SubscriptionServiceClient<Channel>,
    terminal: Terminal,
}

async fn ask(flags: &ClientFlags) -> Result<Asking, Failure> {
    let settings = flags.settings()?;
    let client = SubscriptionServiceClient::new(settings.channel().await?).max_decoding_message_size(DECODE_BYTES_MAX);
    let terminal = Terminal::new(settings.output);
    Ok(Asking { settings, client, terminal })
}

/// Runs `tradelane subscription`.
///
/// # Errors
/// The node refuses or cannot be reached; output cannot be written.
pub async fn run(command: &SubscriptionCommand) -> Result<(), Failure> {
    match command {
        SubscriptionCommand::Create(arguments) => create(arguments).await,
        SubscriptionCommand::List(plain) => list(plain).await,
        SubscriptionCommand::Show(one) => {
            let Asking { settings, mut client, terminal } = ask(&one.client).await?;
            let request = GetSubscriptionRequest { name: one.name.clone(), owner: one.owner.clone() };
            told(terminal, client.get_subscription(settings.call(request)).await?.into_inner().subscription)
        }
        SubscriptionCommand::Update(arguments) => update(arguments).await,
        SubscriptionCommand::Delete(one) => {
            let Asking { settings, mut client, mut terminal } = ask(&one.client).await?;
            let request = DeleteSubscriptionRequest { name: one.name.clone(), owner: one.owner.clone() };
            let answer = client.delete_subscription(settings.call(request)).await?.into_inner();
            terminal.done("DeleteSubscriptionResponse", &answer, &format!("{} is deleted", one.name))?;
            Ok(terminal.flush()?)
        }
        SubscriptionCommand::Consume(arguments) => consume::run(arguments).await,
        SubscriptionCommand::Seek(arguments) => seek(arguments).await,
        SubscriptionCommand::Pause(one) => {
            let Asking { settings, mut client, terminal } = ask(&one.client).await?;
            let request = PauseSubscriptionRequest { name: one.name.clone() };
            told(terminal, client.pause_subscription(settings.call(request)).await?.into_inner().subscription)
        }
        SubscriptionCommand::Resume(one) => {
            let Asking { settings, mut client, terminal } = ask(&one.client).await?;
            let request = ResumeSubscriptionRequest { name: one.name.clone() };
            told(terminal, client.resume_subscription(settings.call(request)).await?.into_inner().subscription)
        }
        SubscriptionCommand::DeadLetters(command) => dead_letters::run(command).await,
    }
}

async fn create(arguments: &CreateArguments) -> Result<(), Failure> {
    use create_subscription_request::Start;
    let start = match parse_start(&arguments.from)? {
        subscribe_request::Start::StartAt(at) => Start::StartAt(at),
        subscribe_request::Start::AfterPosition(position) => Start::AfterPosition(position),
        subscribe_request::Start::SinceTime(time) => Start::SinceTime(time),
    };
    let request = CreateSubscriptionRequest {
        name: arguments.name.clone(),
        definition: Some(definition::new(arguments)?),
        start: Some(start),
    };
    let Asking { settings, mut client, terminal } = ask(&arguments.client).await?;
    told(terminal, client.create_subscription(settings.call(request)).await?.into_inner().subscription)
}

async fn list(plain: &Plain) -> Result<(), Failure> {
    let Asking { settings, mut client, mut terminal } = ask(&plain.client).await?;
    let answer = client.list_subscriptions(settings.call(ListSubscriptionsRequest {})).await?.into_inner();
    if !terminal.for_people() {
        terminal.json(&json::from_message("ListSubscriptionsResponse", &answer))?;
    } else if answer.subscriptions.is_empty() {
        note("you have no subscription; make one: tradelane subscription create NAME");
    } else {
        show::list(&mut terminal, &answer.subscriptions)?;
    }
    Ok(terminal.flush()?)
}

/// Reads it, changes what is said, and gives it back with its etag: a change by somebody else in between is not undone.
async fn update(arguments: &UpdateArguments) -> Result<(), Failure> {
    let Asking { settings, mut client, terminal } = ask(&arguments.client).await?;
    let request = GetSubscriptionRequest { name: arguments.name.clone(), owner: String::new() };
    let known = client.get_subscription(settings.call(request)).await?.into_inner().subscription.unwrap_or_default();
    let definition = definition::changed(arguments, known.definition.unwrap_or_default())?;
    let request =
        UpdateSubscriptionRequest { name: arguments.name.clone(), definition: Some(definition), etag: known.etag };
    told(terminal, client.update_subscription(settings.call(request)).await?.into_inner().subscription)
}

async fn seek(arguments: &SeekArguments) -> Result<(), Failure> {
    use seek_subscription_request::To;
    let to = match parse_start(&arguments.to)
        .map_err(|failure| Failure::usage(failure.message.replace("--from", "--to")))?
    {
        subscribe_request::Start::StartAt(at) => To::StartAt(at),
        subscribe_request::Start::AfterPosition(position) => To::AfterPosition(position),
        subscribe_request::Start::SinceTime(time) => To::SinceTime(time),
    };
    let Asking { settings, mut client, terminal } = ask(&arguments.client).await?;
    let request = SeekSubscriptionRequest { name: arguments.name.clone(), to: Some(to) };
    told(terminal, client.seek_subscription(settings.call(request)).await?.into_inner().subscription)
}

/// Shows a subscription as an answer has it.
fn told(mut terminal: Terminal, subscription: Option<Subscription>) -> Result<(), Failure> {
    let subscription = subscription.unwrap_or_default();
    if terminal.for_people() {
        show::subscription(&mut terminal, &subscription)?;
    } else {
        terminal.json(&json::from_message("Subscription", &subscription))?;
    }
    Ok(terminal.flush()?)
}
