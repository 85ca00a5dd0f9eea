//! Known answers of every check digit, and what holds for all numbers: the right digit passes, each other one is refused by name.

use proptest::prelude::*;

use super::*;

#[test]
fn numbers_in_real_use_pass() {
    for (kind, value) in [
        (kind::CONTAINER, "CSQU3054383"),
        (kind::CONTAINER, "APZU4812090"),
        (kind::CONTAINER, "FCIU9908030"),
        (kind::CONTAINER, "OOLU4293959"),
        (kind::CONTAINER, "MSKU9070323"),
        (kind::VESSEL_IMO, "9235567"),
        (kind::VESSEL_IMO, "9074729"),
        (kind::VESSEL_IMO, "9321483"),
        (kind::VESSEL_MMSI, "463012345"),
        (kind::VESSEL_CALL_SIGN, "9V8264"),
        (kind::VESSEL_ENI, "02324957"),
        (kind::MRN, "19GBCKKCQSXV2FGVA8"),
        (kind::MRN, "20GB1OJPU2P01FGVR4"),
        (kind::AIR_WAYBILL, "17612345675"),
        (kind::AIR_WAYBILL, "08181140743"),
        (kind::WAGON, "318166502860"),
        (kind::WAGON, "218124712173"),
        (kind::WAGON, "52345678"),
        (kind::SSCC, "106141412345678908"),
        (kind::GS1_URI, "urn:epc:id:bic:CSQU3054383"),
        (kind::VIN, "WVWZZZ1JZXW000001"),
        (kind::ULD, "AKE12345LH"),
        (kind::FLIGHT, "PK788"),
        (kind::FLIGHT, "5X92A"),
        (kind::ROAD_VEHICLE, "京A12345"),
        (kind::UCR, "3GB427168118378-2705D"),
        (kind::UCR, "GB/JOL7-1"),
        (kind::BILL_OF_LADING, "MAEU584293"),
    ] {
        assert_eq!(check(kind, value), Ok(()), "{value}");
        assert_eq!(canonical(kind, value), value);
    }
}

#[test]
fn a_wrong_check_digit_is_named_with_the_right_one() {
    for (kind, value, said) in [
        (kind::CONTAINER, "MSKU9070320", "check digit of MSKU9070320 is 3, not 0"),
        (kind::CONTAINER, "MSKU1234567", "check digit of MSKU1234567 is 5, not 7"),
        (kind::VESSEL_IMO, "7654321", "check digit of 7654321 is 9, not 1"),
        (kind::AIR_WAYBILL, "17612345676", "check digit of 17612345676 is 5, not 6"),
    ] {
        let fault = check(kind, value).expect_err(value);
        assert_eq!((fault.reason, fault.description.as_str()), ("CHECK_DIGIT_WRONG", said));
    }
    assert_eq!(check(kind::MRN, "12AB3C4D5E6F7G8H90").expect_err("a placeholder").reason, "CHECK_DIGIT_WRONG");
}

#[test]
fn other_shapes_are_refused() {
    for (kind, value) in [
        (kind::CONTAINER, "MSKA9070323"),
        (kind::CONTAINER, "MSKU907032"),
        (kind::CONTAINER, "MSKÜ907032"),
        (kind::VESSEL_IMO, "932148"),
        (kind::VESSEL_MMSI, "163012345"),
        (kind::VESSEL_CALL_SIGN, "123"),
        (kind::VESSEL_ENI, "1234567"),
        (kind::MRN, "2OGB1OJPU2P01FGVR4"),
        (kind::MRN, "20GB1OJPU2P01FGVR"),
        (kind::AIR_WAYBILL, "1761234567"),
        (kind::WAGON, "3181665028"),
        (kind::SSCC, "10614141234567890"),
        (kind::GS1_URI, "urn:epc:"),
        (kind::GS1_URI, "gopher://x"),
        (kind::VIN, "WVWZZZ1JZXWO00001"),
        (kind::ULD, "1KE12345LH"),
        (kind::ULD, "A"),
        (kind::FLIGHT, "PK"),
        (kind::FLIGHT, "12345"),
        (kind::ROAD_VEHICLE, "JU 4521"),
        (kind::UCR, ""),
        (kind::UCR, "A B"),
        (kind::BOOKING, "0123456789012345678901234567890123456"),
        (kind::BOOKING, "bk1"),
    ] {
        let fault = check(kind, value).expect_err(value);
        assert_eq!(fault.reason, "IDENTIFIER_MALFORMED", "{value}");
    }
}

#[test]
fn canonical_forms_are_those_that_people_write_differently() {
    assert_eq!(canonical(kind::CONTAINER, "csqu 305438-3"), "CSQU3054383");
    assert_eq!(canonical(kind::VESSEL_IMO, "IMO 9321483"), "9321483");
    assert_eq!(canonical(kind::VESSEL_IMO, "IMO9321483"), "9321483");
    assert_eq!(canonical(kind::UCR, "3gb427168118378-2705d"), "3GB427168118378-2705D");
    assert_eq!(canonical(kind::GS1_URI, "urn:epc:id:sscc:0614141.1"), "urn:epc:id:sscc:0614141.1");
    assert_eq!(canonical_forms("gb-1 2"), ["gb-1 2", "GB-12", "GB12"]);
}

#[test]
fn facilities_have_the_shape_of_their_scheme() {
    for (scheme, good, bad) in [
        (1, "KICT", "K"),
        (2, "PKKHIA5B2", "PKKHI"),
        (3, "0614141000005", "0614141000006"),
        (4, "GB000060", "12000060"),
        (5, "8704100", "870410"),
        (6, "KHI", "KHIX"),
        (7, "PIER/4", "pier 4"),
    ] {
        assert_eq!(place::check_facility(scheme, good), Ok(()), "{good}");
        assert!(place::check_facility(scheme, bad).is_err(), "{bad}");
    }
}

#[test]
fn there_are_249_countries_in_order() {
    let all: Vec<_> = country::all().collect();
    assert_eq!(all.len(), country::COUNT);
    assert!(all.is_sorted_by(|one, next| one < next), "the search needs their order");
    assert!(all.iter().all(|code| is_country(code)));
    for wrong in ["", "P", "XX", "pk", "PKX", "ZZ", "AA"] {
        assert!(!is_country(wrong), "{wrong:?}");
    }
}

#[test]
fn a_country_is_found_by_its_name_or_three_letters_and_each_means_one() {
    let named: Vec<_> = country_names::countries().collect();
    assert!(named.iter().map(|country| country.code).eq(country::all()), "the same codes, in the same order");
    for country in &named {
        assert!(
            country.three_letters.len() == 3 && country.three_letters.bytes().all(|byte| byte.is_ascii_uppercase())
        );
        for text in country.names().chain([country.three_letters]) {
            assert_eq!(country_names::meant_by(text).map(|meant| meant.code), Some(country.code), "{text}");
        }
    }
    for (text, code) in [
        ("pakistan", "PK"),
        ("The Netherlands", "NL"),
        ("cote d ivoire", "CI"),
        ("TURKIYE", "TR"),
        ("viet-nam", "VN"),
        ("USA", "US"),
        ("UK", "GB"),
    ] {
        assert_eq!(country_names::hint(text).get(2..4), Some(code), "{text}");
    }
    for nothing in ["", "PK", "Karachi", "the", "Pakistani"] {
        assert_eq!(country_names::hint(nothing), "", "{nothing:?}");
    }
}

proptest! {
    #[test]
    fn one_digit_alone_is_right(serial in 0_u32..1_000_000, owner in "[A-Z]{3}[UJZ]") {
        let right = (0..10).filter(|digit| check(kind::CONTAINER, &format!("{owner}{serial:06}{digit}")).is_ok()).count();
        prop_assert_eq!(right, 1);
    }

    #[test]
    fn a_mistyped_digit_is_found(serial in 0_u64..100_000_000_000, place in 0_usize..12, by in 1_u8..10) {
        let body = format!("{serial:011}");
        let number = format!("{body}{}", digits::luhn(&body));
        prop_assert_eq!(check(kind::WAGON, &number), Ok(()));
        let mut typed = number.into_bytes();
        typed[place] = b'0' + (typed[place] - b'0' + by) % 10;
        let typed = String::from_utf8(typed).expect("digits");
        prop_assert!(check(kind::WAGON, &typed).is_err(), "{}", typed);
    }

    #[test]
    fn nothing_that_somebody_writes_makes_it_panic(kind in 0_u8..40, value in "\\PC{0,40}") {
        let form = canonical(kind, &value).into_owned();
        prop_assert_eq!(canonical(kind, &form).into_owned(), form.clone(), "canonical twice is canonical once");
        let _ = check(kind, &form);
        let _ = check(kind, &value);
        let _ = place::check_facility(kind, &value);
    }
}

/// Where the shared reference data lies, if it does.
fn reference_data(file: &str) -> Option<String> {
    let folder = std::env::var("TRADELANE_SHARED_DATA")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data").to_owned());
    std::fs::read_to_string(std::path::Path::new(&folder).join(file)).ok()
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that could not run says so")]
fn real_identifiers_get_the_verdict_that_was_computed_for_them() {
    let Some(rows) = reference_data("identifiers.csv") else {
        eprintln!("SKIPPED: no identifiers.csv; set TRADELANE_SHARED_DATA to the folder of the reference data");
        return;
    };
    let mut judged = 0;
    for row in rows.lines().skip(1) {
        let mut fields = row.split(',');
        let (Some(name), Some(value), Some(verdict)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let kind = match name {
            "container" => kind::CONTAINER,
            "imo" => kind::VESSEL_IMO,
            "mrn" => kind::MRN,
            "ucr" => kind::UCR,
            other => panic!("{other} is a kind that this test does not know"),
        };
        let expected = verdict.is_empty() || verdict == "1";
        assert_eq!(check(kind, value).is_ok(), expected, "{row}: {:?}", check(kind, value));
        judged += 1;
    }
    assert!(judged > 100, "only {judged} rows were judged");
}

#[test]
#[allow(clippy::print_stderr, reason = "a test that could not run says so")]
fn the_countries_are_those_of_the_reference_list() {
    let Some(rows) = reference_data("codes/locode/country-codes.csv") else {
        eprintln!("SKIPPED: no country-codes.csv; set TRADELANE_SHARED_DATA to the folder of the reference data");
        return;
    };
    let listed: Vec<_> = rows.lines().skip(1).filter_map(|row| row.split(',').next()).collect();
    let unknown: Vec<_> = listed.iter().filter(|code| !is_country(code)).collect();
    // UN/LOCODE adds XZ, installations in international waters, which is no country of ISO 3166-1.
    assert!(unknown.iter().all(|code| **code == "XZ"), "{unknown:?}");
    // Bouvet Island has a code, and nothing that UN/LOCODE could list.
    let missing: Vec<_> = country::all().filter(|code| !listed.contains(code)).collect();
    assert!(missing.iter().all(|code| *code == "BV"), "{missing:?}");
    for row in rows.lines().skip(1) {
        let (code, name) = row.split_once(',').expect("two columns");
        let name = name.trim_matches('"').trim();
        let name = name.strip_suffix(" (the)").unwrap_or(name);
        // "Iran, Islamic Republic of" and "Taiwan (Province of China)": what stands before is the name.
        let short = name.split([',', '(']).next().unwrap_or(name);
        let meant = [name, short].into_iter().find_map(country_names::meant_by).map(|country| country.code);
        let ambiguous = ["CD", "KP", "MF", "SX", "VG", "VI", "XZ"].contains(&code);
        assert!(meant == Some(code) || ambiguous, "{row}: {meant:?}");
    }
}

proptest! {
    /// Else a filter that leaves the kind open would miss what the same filter with the kind finds.
    #[test]
    fn whatever_its_kind_a_value_is_found_under_one_of_its_forms(text in "(IMO|imo )?[A-Za-z0-9 /.-]{1,12}") {
        let forms = canonical_forms(&text);
        for (kind, name) in crate::domain::codes::IDENTIFIER_KIND.values() {
            let form = canonical(kind, &text).into_owned();
            prop_assert!(forms.contains(&form), "{name}: {form:?} is not in {forms:?}");
        }
    }
}
