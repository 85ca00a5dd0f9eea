//! Random requests against a model that fits on a page: what is stored, in which order, and what each event is told.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// One event of a generated request: which identity, which content, and whether it is valid.
#[derive(Debug, Clone, Copy)]
struct Choice {
    number: u32,
    content: i32,
    valid: bool,
}

/// What is to become of one event.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    Stored { sequence: u64, duplicate: bool },
    Refused,
}

#[derive(Default)]
struct Model {
    content_by_number: HashMap<u32, (i32, u64)>,
    last: u64,
}

impl Model {
    /// What becomes of a request; none where the whole is rejected.
    fn take(&mut self, choices: &[Choice], skips: bool) -> Option<Vec<Expected>> {
        let (mut known, mut last) = (self.content_by_number.clone(), self.last);
        let mut fate = |choice: &Choice| {
            if !choice.valid {
                return Expected::Refused;
            }
            match known.get(&choice.number) {
                Some((content, sequence)) if *content == choice.content => {
                    Expected::Stored { sequence: *sequence, duplicate: true }
                }
                Some(_) => Expected::Refused,
                None => {
                    last += 1;
                    known.insert(choice.number, (choice.content, last));
                    Expected::Stored { sequence: last, duplicate: false }
                }
            }
        };
        let expected: Vec<Expected> = choices.iter().map(&mut fate).collect();
        if !skips && expected.contains(&Expected::Refused) {
            return None;
        }
        (self.content_by_number, self.last) = (known, last);
        Some(expected)
    }
}

fn event_of(choice: Choice) -> Event {
    let event_id = voyage(choice.number).discharged().event_id;
    let base = if choice.valid { voyage(choice.number).discharged() } else { invalid(choice.number) };
    Event { event_id, utc_offset_minutes: Some(choice.content * 60), ..base }
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let choice = (0_u32..8, 0_i32..2, prop::bool::weighted(0.9));
    let choice = choice.prop_map(|(number, content, valid)| Choice { number, content, valid });
    prop::collection::vec(choice, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_door_does_what_the_model_does(requests in prop::collection::vec((choices(), any::<bool>()), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let room = Room::new();
            let mut model = Model::default();
            for (choices, skips) in requests {
                let events: Vec<Event> = choices.iter().map(|choice| event_of(*choice)).collect();
                let request = if skips { skipping(&events) } else { request(&events) };
                let expected = model.take(&choices, skips);
                let told = room.publish(TERMINAL, request).await.ok().map(|outcomes| {
                    let told = |outcome: &EventOutcome| match &outcome.fate {
                        Ok(appended) => Expected::Stored {
                            sequence: appended.sequence.get(),
                            duplicate: appended.duplicate,
                        },
                        Err(_) => Expected::Refused,
                    };
                    outcomes.iter().map(told).collect::<Vec<_>>()
                });
                prop_assert_eq!(told, expected);
            }
            prop_assert_eq!(room.stored().await.len() as u64, model.last);
            Ok(())
        })?;
    }
}
