//! What a subscription receives and how, from flags. It never sets what was not said: the node has the defaults and the limits.

// The comments of arguments are their help, where a person would see the marks.
#![allow(clippy::doc_markdown)]

use std::time::Duration;

use clap::Args;

use super::{CreateArguments, UpdateArguments};
use crate::{
    cli::{Failure, words},
    wire::proto::SubscriptionDefinition,
};

/// Settings of a subscription.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How it delivers")]
pub struct SettingFlags {
    /// How long a consumer may take for an event, 10s to 10m; she can extend it [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub lease: Option<Duration>,
    /// How many events may be on their way at once, 1 to 5000 [default: 1000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub outstanding_max: Option<u32>,
    /// How often an event is delivered before it becomes a dead letter, 1 to 100 [default: 5]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts_max: Option<u32>,
    /// How long an event waits after its first failed attempt; doubled with each [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub backoff_min: Option<Duration>,
    /// What the wait grows to, at most 1h [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub backoff_max: Option<Duration>,
    /// How many dead letters are kept, 1 to 10000 [default: 1000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub dead_letters_max: Option<u32>,
}

/// Reads a duration: a whole number with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 30s, 10m, 500ms or 1h");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// The definition of a new subscription.
pub(super) fn new(arguments: &CreateArguments) -> Result<SubscriptionDefinition, Failure> {
    let number = |flag: &str, name: &str, word: &str| {
        words::number(name, word).map_err(|error| Failure::usage(format!("{flag}: {error}")))
    };
    let mut definition = SubscriptionDefinition {
        filters: arguments.filter.filters()?,
        mode: number("--delivery", "SubscriptionMode", &arguments.delivery)?,
        ..SubscriptionDefinition::default()
    };
    if let Some(word) = &arguments.ordering_key {
        definition.ordering_key = number("--ordering-key", "OrderingKey", word)?;
    }
    arguments.settings.apply(&mut definition)?;
    Ok(definition)
}

/// A definition with what was said changed.
pub(super) fn changed(
    arguments: &UpdateArguments,
    mut definition: SubscriptionDefinition,
) -> Result<SubscriptionDefinition, Failure> {
    let filters = arguments.filter.filters()?;
    if arguments.all_events && !filters.is_empty() {
        return Err(Failure::usage("--all-events cannot be used with filters"));
    }
    if arguments.all_events || !filters.is_empty() {
        definition.filters = filters;
    }
    arguments.settings.apply(&mut definition)?;
    Ok(definition)
}

impl SettingFlags {
    fn apply(&self, definition: &mut SubscriptionDefinition) -> Result<(), Failure> {
        let longer = |_| Failure::usage("a duration is longer than any that a message holds");
        for (said, setting) in [
            (self.lease, &mut definition.lease),
            (self.backoff_min, &mut definition.backoff_min),
            (self.backoff_max, &mut definition.backoff_max),
        ] {
            if let Some(said) = said {
                *setting = Some(prost_types::Duration::try_from(said).map_err(longer)?);
            }
        }
        for (said, setting) in [
            (self.outstanding_max, &mut definition.outstanding_max),
            (self.attempts_max, &mut definition.attempts_max),
            (self.dead_letters_max, &mut definition.dead_letters_max),
        ] {
            // Never zero, which in a message means that nothing is said.
            *setting = said.unwrap_or(*setting);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::wire::proto::{OrderingKey, SubscriptionMode};

    #[derive(Debug, Parser)]
    struct Create {
        #[command(flatten)]
        arguments: CreateArguments,
    }

    #[derive(Debug, Parser)]
    struct Update {
        #[command(flatten)]
        arguments: UpdateArguments,
    }

    fn made(words: &[&str]) -> Result<SubscriptionDefinition, String> {
        let all = ["tradelane", "gate"].into_iter().chain(words.iter().copied());
        let create = Create::try_parse_from(all).map_err(|error| error.to_string())?;
        new(&create.arguments).map_err(|failure| failure.message)
    }

    #[test]
    fn what_is_not_said_is_left_to_the_node() {
        let made =
            made(&["--type", "hold", "--delivery", "shared", "--ordering-key", "container", "--lease", "2m"]).unwrap();
        assert_eq!((made.mode(), made.ordering_key()), (SubscriptionMode::Shared, OrderingKey::Container));
        assert_eq!(made.filters[0].types, ["hold"]);
        assert_eq!(made.lease, Some(prost_types::Duration { seconds: 120, nanos: 0 }));
        assert_eq!((made.attempts_max, made.outstanding_max, made.backoff_min), (0, 0, None));
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let known = made(&["--type", "hold", "--lease", "2m", "--attempts-max", "9"]).unwrap();
        let change = |words: &[&str]| {
            let all = ["tradelane", "gate"].into_iter().chain(words.iter().copied());
            changed(&Update::try_parse_from(all).unwrap().arguments, known.clone()).map_err(|failure| failure.message)
        };
        assert_eq!(change(&[]), Ok(known.clone()));
        let longer = change(&["--attempts-max", "10"]).unwrap();
        assert_eq!(longer, SubscriptionDefinition { attempts_max: 10, ..known.clone() });
        assert_eq!(change(&["--type", "inspection"]).unwrap().filters[0].types, ["inspection"]);
        assert_eq!(change(&["--all-events"]).unwrap().filters, []);
        assert!(change(&["--all-events", "--type", "hold"]).unwrap_err().contains("--all-events"));
    }

    #[test]
    fn durations_have_a_unit_and_deliveries_a_word_that_is_known() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["30", "s", "1d", "-1s", "99999999999999999999s", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(made(&["--delivery", "single"]).unwrap_err().contains("--delivery: \"single\" is none of"));
    }
}
