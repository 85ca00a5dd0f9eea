//! The domain's tables of names and numbers are those of the descriptors.

use super::*;
use crate::domain::codes;

#[test]
fn the_domains_codes_are_the_enums_of_the_event_model() {
    for known in codes::ALL {
        let name = format!("tradelane.v1.{}", known.enumeration);
        let described = descriptors().get_enum_by_name(&name).unwrap_or_else(|| panic!("{name} is no enum"));
        let unspecified = described.get_value(0).expect("every enum has its zero");
        let prefix = unspecified.name().strip_suffix("UNSPECIFIED").expect("the zero is the unspecified value");
        let theirs: Vec<_> = described
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| (value.number(), value.name().strip_prefix(prefix).expect("one prefix").to_lowercase()))
            .collect();
        let ours: Vec<_> = known.values().map(|(number, name)| (i32::from(number), name.to_owned())).collect();
        assert_eq!(ours, theirs, "{name}");
        assert!(ours.iter().all(|(number, _)| *number < 64), "a filter keeps {name} as a set of 64 bits");
    }
}

#[test]
fn the_domains_bodies_are_those_of_the_event() {
    let event = descriptors().get_message_by_name("tradelane.v1.Event").expect("the event");
    let body = event.oneofs().find(|oneof| oneof.name() == "body").expect("the body");
    let theirs: Vec<_> = body.fields().map(|field| (field.number(), field.name().to_owned())).collect();
    let ours: Vec<_> = codes::BODIES.iter().map(|body| (u32::from(body.number), body.name.to_owned())).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn the_domains_kinds_have_their_numbers() {
    use codes::{IDENTIFIER_KIND, kind};
    for (number, name) in [
        (kind::CONTAINER, "container"),
        (kind::WAGON, "wagon"),
        (kind::UCR, "ucr"),
        (kind::MRN, "mrn"),
        (kind::GS1_URI, "gs1_uri"),
        (kind::OTHER_EQUIPMENT, "other_equipment"),
    ] {
        assert_eq!(IDENTIFIER_KIND.name(number), Some(name));
    }
}
