//! The stored header reads back as it was written, refuses damage, and its terms stay what they are.

use proptest::prelude::*;

use super::*;
use crate::domain::term::{TermHash, TermKind};

fn text(max: usize) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::string::string_regex(&format!("[A-Z0-9/-]{{0,{max}}}")).expect("a good expression"),
        1 => proptest::string::string_regex("\\PC{0,20}").expect("a good expression"),
    ]
}

fn subject() -> impl Strategy<Value = SubjectTerm> {
    (any::<u8>(), any::<u8>(), text(256), text(35), text(10))
        .prop_map(|(kind, role, value, issuer, date)| SubjectTerm { kind, role, value, issuer, date })
}

fn place() -> impl Strategy<Value = PlaceTerm> {
    (any::<[u8; 3]>(), text(5), text(2), text(35)).prop_map(|([role, kind, facility_scheme], locode, country, code)| {
        PlaceTerm { role, kind, un_locode: locode, country_code: country, facility_scheme, facility_code: code }
    })
}

fn party() -> impl Strategy<Value = PartyTerm> {
    (any::<u8>(), text(255), text(35), text(35)).prop_map(|(role, participant, scheme, id)| PartyTerm {
        role,
        participant,
        scheme,
        id,
    })
}

fn audience() -> impl Strategy<Value = AudienceTerm> {
    let pattern = SpiffePattern::parse("spiffe://port.example/*").expect("a good pattern");
    prop_oneof![
        Just(AudienceTerm::Private),
        Just(AudienceTerm::Network),
        (1_usize..4).prop_map(move |count| AudienceTerm::Named(vec![pattern.clone(); count])),
    ]
}

fn header() -> impl Strategy<Value = RoutingHeader> {
    let lists = (
        prop::collection::vec((any::<u8>(), any::<u8>()).prop_map(|(body, step)| TypeStep { body, step }), 0..4),
        prop::collection::vec(any::<u8>(), 0..4),
        prop::collection::vec(any::<i64>(), 0..4),
        prop::collection::vec(subject(), 0..12),
        prop::collection::vec(place(), 0..5),
        prop::collection::vec(party(), 0..5),
        prop::collection::vec(text(6), 0..8),
    );
    let revises = prop::option::of(
        (any::<bool>(), any::<[u8; 16]>())
            .prop_map(|(retract, id)| RevisionTerm { retract, event_id: EventId::from_bytes(id) }),
    );
    (lists, audience(), revises, any::<bool>(), any::<[u8; 16]>()).prop_map(
        |(lists, audience, revises, unresolved, id)| RoutingHeader {
            publisher: SpiffeId::parse("spiffe://port.example/terminal/south").expect("a good name"),
            event_id: EventId::from_bytes(id),
            types: lists.0,
            classifiers: lists.1.clone(),
            event_times_ns: lists.2,
            subjects: lists.3,
            places: lists.4,
            parties: lists.5,
            commodity_codes: lists.6,
            procedures: lists.1.clone(),
            modes: lists.1,
            audience,
            revises,
            revision_unresolved: unresolved,
        },
    )
}

fn example() -> RoutingHeader {
    RoutingHeader {
        publisher: SpiffeId::parse("spiffe://port.example/terminal/south").expect("a good name"),
        event_id: EventId::parse("0198c5a2-7b1e-7c3d-9f00-5a1b2c3d4e5f").expect("a good id"),
        types: vec![TypeStep { body: 21, step: 4 }],
        classifiers: vec![4],
        event_times_ns: vec![1_767_225_600_000_000_000],
        subjects: vec![SubjectTerm {
            kind: 1,
            role: 1,
            value: "MSKU9070323".into(),
            issuer: String::new(),
            date: String::new(),
        }],
        places: vec![PlaceTerm {
            role: 1,
            kind: 2,
            un_locode: "PKKHI".into(),
            country_code: "PK".into(),
            facility_scheme: 1,
            facility_code: "KICT".into(),
        }],
        parties: vec![],
        commodity_codes: vec!["870323".into()],
        procedures: vec![1],
        modes: vec![1],
        audience: AudienceTerm::Network,
        revises: None,
        revision_unresolved: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_header_reads_back_as_it_was_written(header in header()) {
        let bytes = header.encode();
        prop_assert_eq!(HeaderRef::parse(&bytes).expect("what was written parses").to_header().expect("names are good"), header);
    }

    #[test]
    fn a_header_cut_short_or_lengthened_is_refused(header in header(), cut in any::<prop::sample::Index>()) {
        let mut bytes = header.encode();
        prop_assert!(HeaderRef::parse(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(b'A');
        prop_assert!(HeaderRef::parse(&bytes).is_err());
    }

    #[test]
    fn damaged_bytes_never_panic(mut bytes in header().prop_map(|header| header.encode()), at in any::<prop::sample::Index>(), to: u8) {
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(header) = HeaderRef::parse(&bytes) {
            header.for_each_term(&mut |_| ());
            let _ = header.to_header();
        }
    }

    #[test]
    fn a_folded_header_comes_back_beside_any_event(header in header(), other in header(), parts in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..12), after: Vec<u8>) {
        let header = header.encode();
        // An event that has pieces of the header, in any order, or nothing of it.
        let mut event = Vec::new();
        for (ends, at) in parts {
            let (front, back) = header.split_at(at.index(header.len()));
            event.extend_from_slice(if ends { back } else { front });
        }
        let (mut folder, mut folded) = (Folder::default(), vec![7]);
        // What stood where in another header is where this one's texts are looked for first, and nothing else.
        let _ = folder.fold(&other.encode(), &event, &mut Vec::new());
        if folder.fold(&header, &event, &mut folded) {
            prop_assert!(folded.len() - 1 <= header.len());
            prop_assert_eq!(id_of(&folded[1..]), Some(*HeaderRef::parse(&header).unwrap().event_id().as_bytes()));
            let taken = folded.len() - 1;
            folded.extend(after);
            let mut unfolded = vec![9];
            prop_assert_eq!(unfold(&folded[1..], &event, &mut unfolded), Some(taken));
            prop_assert_eq!(&unfolded[1..], header);
        } else {
            prop_assert_eq!(folded, [7]);
        }
    }

    #[test]
    fn damaged_folds_never_panic(header in header(), mut event: Vec<u8>, at in any::<prop::sample::Index>(), to: u8) {
        let (header, mut folded) = (header.encode(), Vec::new());
        event.extend(&header);
        if Folder::default().fold(&header, &event, &mut folded) {
            let at = at.index(folded.len());
            prop_assert_eq!(unfold(&folded[..at], &event, &mut Vec::new()), None);
            folded[at] = to;
            let _ = unfold(&folded, &event, &mut Vec::new());
        }
    }

    #[test]
    fn a_revision_keeps_every_term_of_its_predecessor(own in header(), before in header()) {
        let united = own.revising(&before);
        prop_assert!(own.subjects.iter().chain(&before.subjects).all(|one| united.subjects.contains(one)));
        prop_assert!(own.places.iter().chain(&before.places).all(|one| united.places.contains(one)));
        prop_assert!(own.parties.iter().chain(&before.parties).all(|one| united.parties.contains(one)));
        prop_assert!(own.types.iter().chain(&before.types).all(|one| united.types.contains(one)));
        prop_assert!(own.event_times_ns.iter().chain(&before.event_times_ns).all(|one| united.event_times_ns.contains(one)));
        prop_assert!(own.commodity_codes.iter().chain(&before.commodity_codes).all(|one| united.commodity_codes.contains(one)));
        prop_assert_eq!(&united.audience, &before.audience);
        prop_assert_eq!((united.event_id, united.revises), (own.event_id, own.revises));
        // Once united, uniting again adds nothing: a chain of the same terms does not grow.
        prop_assert_eq!(united.revising(&before), united);
    }
}

#[test]
fn another_version_is_refused() {
    let mut bytes = example().encode();
    bytes[0] = 2;
    assert_eq!(HeaderRef::parse(&bytes).err(), Some(HeaderMalformed { at: 0 }));
}

#[test]
fn the_stored_form_is_pinned_since_it_is_kept_for_ever() {
    let bytes = example().encode();
    let crc = crc32fast::hash(&bytes);
    assert_eq!((bytes.len(), crc), (118, 1_863_971_690), "the layout of version 1 has changed");
}

#[test]
fn a_fold_is_pinned_since_it_is_kept_for_ever() {
    let event = format!("..spiffe://port.example/terminal/south  MSKU9070323 at PKKHI, KICT{:60}870323", "");
    let mut folded = Vec::new();
    assert!(Folder::default().fold(&example().encode(), event.as_bytes(), &mut folded));
    // Publisher, commodity, subject, location, its country, facility; far off, the commodity leaves the cursor where it is.
    assert_eq!(folded.split_off(folded.len() - 7), [5, 177, 1, 5, 9, 10, 5]);
    let mut lone = Vec::new();
    assert!(
        !Folder::default().fold(&example().encode(), b"", &mut lone),
        "without any text in the event the header is no shorter"
    );
}

#[test]
fn what_is_no_whole_header_is_not_folded_and_what_is_no_fold_is_refused() {
    let header = example().encode();
    let (longer, mut folded) = ([&header[..], b"A"].concat(), Vec::new());
    assert!(!Folder::default().fold(&longer, &longer, &mut folded), "what follows the texts would be lost");
    let event = [&header[..], &[0; 900]].concat();
    assert!(Folder::default().fold(&header, &event, &mut folded));
    folded.extend([1; 8]);
    assert!(unfold(&folded, &event, &mut Vec::new()).is_some());
    // A byte more is said to stand before the texts than their lengths say.
    folded[0] += 1;
    assert_eq!(unfold(&folded, &event, &mut Vec::new()), None);
}

#[test]
fn terms_are_pinned_since_they_are_kept_for_ever() {
    let bytes = example().encode();
    let mut terms = Vec::new();
    HeaderRef::parse(&bytes).expect("a good header").for_each_term(&mut |term| terms.push(term));
    for expected in [
        TermHash::of(TermKind::SubjectValue, &[b"MSKU9070323"]),
        TermHash::of(TermKind::SubjectKind, &[&[1]]),
        TermHash::of(TermKind::Locode, &[b"PKKHI"]),
        TermHash::of(TermKind::Country, &[b"PK"]),
        TermHash::of(TermKind::Facility, &[&[1], b"KICT"]),
        TermHash::of(TermKind::CommodityPrefix, &[b"87"]),
        TermHash::of(TermKind::CommodityPrefix, &[b"870323"]),
        TermHash::of(TermKind::BodyStep, &[&[21], &[4]]),
        TermHash::of(TermKind::EventDay, &[&20454_i64.to_le_bytes()]),
    ] {
        assert!(terms.contains(&expected), "{expected:?} is missing");
    }
    let own = identity_term("spiffe://port.example/terminal/south", &example().event_id);
    assert!(!terms.contains(&own), "the log's own index has identities");
    let digest = terms.iter().fold(0_u64, |sum, term| sum.rotate_left(1) ^ term.0);
    assert_eq!(
        (terms.len(), digest),
        (17, 11_813_613_076_406_309_899),
        "terms have changed: every index on disk would be wrong"
    );
}

#[test]
fn a_named_audience_names_by_prefix() {
    let named = AudienceTerm::Named(vec![SpiffePattern::parse("spiffe://customs.gov.pk/*").expect("a good pattern")]);
    let bytes = RoutingHeader { audience: named, ..example() }.encode();
    let audience = HeaderRef::parse(&bytes).expect("a good header").audience();
    assert!(audience.names("spiffe://customs.gov.pk/agency/karachi"));
    assert!(!audience.names("spiffe://port.example/terminal/south"));
}

#[test]
fn texts_that_end_inside_a_character_are_refused() {
    let mut header = example();
    header.subjects[0].value = "é1".into();
    let mut bytes = header.encode();
    // The lengths of the value and of the date stand three bytes apart: one byte moved from one to the other splits the é.
    let value_at = bytes.windows(5).position(|entry| entry == [1, 1, 3, 0, 0]).expect("the subject's entry") + 2;
    assert!(HeaderRef::parse(&bytes).is_ok());
    (bytes[value_at], bytes[value_at + 1]) = (1, 2);
    assert!(HeaderRef::parse(&bytes).is_err());
}
