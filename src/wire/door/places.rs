//! Places: roles, UN/LOCODE, country, facility, coordinates.

use super::{Checker, ListMode, Path, text::PLACE_NAME_CHARACTERS_MAX};
use crate::{
    domain::{
        code_lists::CodeList,
        freight::{self, country_names},
    },
    wire::proto::{Event, FacilityScheme, Place, PlaceKind, PlaceRole},
};

/// The most places of an event: an itinerary of calls, and room.
const PLACES_MAX: usize = 64;

impl Checker<'_> {
    pub(super) fn places(&mut self, event: &Event, root: &Path<'_>) {
        if !self.at_most(event.places.len(), PLACES_MAX, &root.field("places")) {
            return;
        }
        for (index, place) in event.places.iter().enumerate() {
            self.place(place, &root.element("places", index));
        }
    }

    fn place(&mut self, place: &Place, at: &Path<'_>) {
        self.required_enum::<PlaceRole>(place.role, &at.field("role"), "PlaceRole", "ROLE_MISSING");
        self.optional_enum::<PlaceKind>(place.kind, &at.field("kind"), "PlaceKind");
        self.un_locode(&place.un_locode, &at.field("un_locode"));
        self.country(place, &at.field("country_code"));
        if let Some(facility) = &place.facility {
            let at = &at.field("facility");
            let scheme_at = &at.field("scheme");
            self.required_enum::<FacilityScheme>(facility.scheme, scheme_at, "FacilityScheme", "SCHEME_MISSING");
            if let Err(fault) = freight::place::check_facility(facility.scheme as u8, &facility.code) {
                self.report.add(&at.field("code"), "FACILITY_MALFORMED", fault.description);
            }
        }
        self.coordinates(place, at);
        self.text(&place.name, PLACE_NAME_CHARACTERS_MAX, &at.field("name"));
        let says = !place.un_locode.is_empty()
            || !place.country_code.is_empty()
            || place.facility.is_some()
            || place.latitude_degrees.is_some()
            || !place.name.is_empty();
        self.report.require(says, at, "PLACE_EMPTY", "must have a UN/LOCODE, country, facility, coordinates or name");
    }

    fn un_locode(&mut self, code: &str, at: &Path<'_>) {
        if code.is_empty() {
            return;
        }
        let listed = &self.context.lists.un_locode;
        // A few published codes break the rule of their own manual: being listed is enough.
        if freight::is_locode(code) || (listed.mode() != ListMode::Off && listed.verdict(code) == ListMode::Off) {
            self.listed(|lists| &lists.un_locode, code, at, "LOCODE_UNKNOWN");
            return;
        }
        let canonical = freight::compact(code);
        let description = if freight::is_locode(&canonical) {
            format!("must be written {canonical:?}, not {code:?}")
        } else {
            format!("must be a UN/LOCODE of five characters such as PKKHI, not {code:?}")
        };
        self.report.add(at, "LOCODE_MALFORMED", description);
    }

    fn country(&mut self, place: &Place, at: &Path<'_>) {
        let code = &place.country_code;
        if code.is_empty() {
            return;
        }
        if !freight::is_country(code) {
            let hint = country_names::hint(code);
            let description = format!("must be a country of ISO 3166-1 such as PK, not {code:?}{hint}");
            self.report.add(at, "COUNTRY_UNKNOWN", description);
        } else if !place.un_locode.is_empty() && !place.un_locode.starts_with(code.as_str()) {
            let description = format!("must be the country of {}, or empty, not {code}", place.un_locode);
            self.report.add(at, "COUNTRY_DISAGREES", description);
        }
    }

    fn coordinates(&mut self, place: &Place, at: &Path<'_>) {
        for (degrees, limit, field) in
            [(place.latitude_degrees, 90.0, "latitude_degrees"), (place.longitude_degrees, 180.0, "longitude_degrees")]
        {
            // Written so that "not a number" is refused too.
            let outside = degrees.is_some_and(|degrees| !(-limit..=limit).contains(&degrees));
            if outside {
                self.report.add(&at.field(field), "OUT_OF_RANGE", format!("must lie between -{limit} and {limit}"));
            }
        }
        let paired = place.latitude_degrees.is_some() == place.longitude_degrees.is_some();
        self.report.require(
            paired,
            at,
            "COORDINATES_INCOMPLETE",
            "must have latitude and longitude together, or neither",
        );
    }

    /// Looks a well-formed code up in a list of the operator's, and warns or refuses as the list says.
    pub(super) fn listed(
        &mut self,
        list: fn(&super::CodeLists) -> &CodeList,
        code: &str,
        at: &Path<'_>,
        reason: &'static str,
    ) {
        let said = match list(self.context.lists).verdict(code) {
            ListMode::Off => return,
            ListMode::Warn => &mut self.warnings,
            ListMode::Enforce => &mut self.report,
        };
        said.add(at, reason, format!("must be a code of the list that this node uses; {code} is not on it"));
    }

    /// Whether the event has a place of one of these roles that satisfies a condition.
    pub(super) fn has_place(event: &Event, roles: &[PlaceRole], fits: fn(&Place) -> bool) -> bool {
        event.places.iter().any(|place| roles.contains(&place.role()) && fits(place))
    }
}

/// Whether a place's country can be told.
pub(super) fn has_country(place: &Place) -> bool {
    !place.country_code.is_empty() || !place.un_locode.is_empty()
}
