//! Each body against the envelope around it: which steps, subjects, places and classifiers go together. Handling and movement are judged
//! in `freight`, measurements and emissions in `measures`.

use super::{
    Checker, Path,
    envelope::body_field,
    places::has_country,
    subjects::SUBJECTS_MAX,
    text::{CODE_CHARACTERS_MAX, URI_CHARACTERS_MAX},
};
use crate::wire::proto::{
    Association, AssociationStep, Clearance, ClearanceStep, Document, DocumentStep, Event, Hold, HoldKind, HoldStep,
    IdentifierKind as Kind, Inspection, InspectionKind, InspectionResult, InspectionStep, PlaceRole, event::Body,
};

/// The most items of a declaration, and the highest number of one.
const GOODS_ITEMS_MAX: usize = 999;
/// The highest number of a declaration's item.
const GOODS_ITEM_NUMBER_MAX: u32 = 99_999;

impl Checker<'_> {
    pub(super) fn body(&mut self, event: &Event, root: &Path<'_>) {
        let Some(body) = &event.body else { return };
        let at = &root.field(body_field(body));
        match body {
            Body::Movement(movement) => self.movement(event, movement, root, at),
            Body::Handling(handling) => self.handling(event, handling, root, at),
            Body::Clearance(clearance) => self.clearance(event, clearance, root, at),
            Body::Hold(hold) => self.hold(event, hold, root, at),
            Body::Inspection(inspection) => self.inspection(event, inspection, root, at),
            Body::Document(document) => self.document(event, document, root, at),
            Body::Association(association) => self.association(event, association, root, at),
            Body::Condition(condition) => self.condition(event, condition, root, at),
            Body::Emission(emission) => self.emission(event, emission, root, at),
        }
    }

    fn clearance(&mut self, event: &Event, clearance: &Clearance, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<ClearanceStep>(clearance.step, &at.field("step"), "ClearanceStep", "STEP_MISSING");
        self.actual_only(event, root, "a step of a clearance");
        self.subject_of(
            event,
            root,
            is_cleared,
            "clearance needs a declaration (MRN, LRN, DECLARATION, UCR), or goods by bill, waybill or container",
        );
        let office = Self::has_place(event, &[PlaceRole::Office], has_country);
        self.report.require(office, &root.field("places"), "OFFICE_MISSING", OFFICE_MISSING);
        if let Some(time) = clearance.due_time {
            self.time_ns(time, &at.field("due_time"));
        }
        self.reasons(&clearance.reasons, at);
        let items_at = &at.field("goods_items");
        if self.at_most(clearance.goods_items.len(), GOODS_ITEMS_MAX, items_at) {
            let numbered = clearance.goods_items.iter().all(|item| (1..=GOODS_ITEM_NUMBER_MAX).contains(item));
            self.report.require(numbered, items_at, "OUT_OF_RANGE", "must be numbers of items from 1 to 99,999");
        }
    }

    fn hold(&mut self, event: &Event, hold: &Hold, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<HoldStep>(hold.step, &at.field("step"), "HoldStep", "STEP_MISSING");
        self.actual_only(event, root, "a hold");
        self.required_text(&hold.hold_id, CODE_CHARACTERS_MAX, &at.field("hold_id"));
        if hold.step() == HoldStep::Placed {
            self.required_enum::<HoldKind>(hold.kind, &at.field("kind"), "HoldKind", "KIND_MISSING");
        } else {
            self.optional_enum::<HoldKind>(hold.kind, &at.field("kind"), "HoldKind");
        }
        // A carrier or terminal that holds goods for unpaid charges is no authority and has no office: where it holds them is enough.
        let placed = if hold.kind() == HoldKind::Commercial {
            Self::has_place(event, &[PlaceRole::Office, PlaceRole::Event], has_country)
        } else {
            Self::has_place(event, &[PlaceRole::Office], has_country)
        };
        self.report.require(placed, &root.field("places"), "OFFICE_MISSING", OFFICE_MISSING);
        self.reasons(&hold.reasons, at);
    }

    fn inspection(&mut self, event: &Event, inspection: &Inspection, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<InspectionStep>(inspection.step, &at.field("step"), "InspectionStep", "STEP_MISSING");
        self.optional_enum::<InspectionKind>(inspection.kind, &at.field("kind"), "InspectionKind");
        self.optional_enum::<InspectionResult>(inspection.result, &at.field("result"), "InspectionResult");
        self.text(&inspection.inspection_id, CODE_CHARACTERS_MAX, &at.field("inspection_id"));
        self.reasons(&inspection.reasons, at);
        if inspection.step() == InspectionStep::Completed {
            self.actual_only(event, root, "a completed inspection");
        } else {
            let none = inspection.result == 0;
            self.report.require(
                none,
                &at.field("result"),
                "RESULT_NOT_ALLOWED",
                "must be unset until the inspection is COMPLETED",
            );
        }
        // A documentary check has no other place than the office that does it.
        let somewhere = Self::has_place(event, &[PlaceRole::Event, PlaceRole::Office], |_| true);
        self.report.require(
            somewhere,
            &root.field("places"),
            "LOCATION_MISSING",
            "must have a place in the role EVENT, or the authority's in the role OFFICE",
        );
    }

    fn document(&mut self, event: &Event, document: &Document, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<DocumentStep>(document.step, &at.field("step"), "DocumentStep", "STEP_MISSING");
        self.actual_only(event, root, "a step of a document");
        let code = &document.type_code;
        let shaped = (1..=3).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let description = "must be a document of UN/EDIFACT code list 1001, such as 705 for a bill of lading";
        self.report.require(shaped, &at.field("type_code"), "TYPE_CODE_MALFORMED", description);
        self.text(&document.number, CODE_CHARACTERS_MAX, &at.field("number"));
        self.sha256(&document.sha256, &at.field("sha256"));
        self.text(&document.uri, URI_CHARACTERS_MAX, &at.field("uri"));
    }

    fn association(&mut self, event: &Event, association: &Association, root: &Path<'_>, at: &Path<'_>) {
        self.required_enum::<AssociationStep>(association.step, &at.field("step"), "AssociationStep", "STEP_MISSING");
        self.actual_only(event, root, "an association");
        match &association.parent {
            None => self.report.add(
                &at.field("parent"),
                "SUBJECT_MISSING",
                "must say what the children and parties belong to",
            ),
            Some(parent) => self.subject(parent, &at.field("parent")),
        }
        if self.at_most(association.children.len(), SUBJECTS_MAX, &at.field("children")) {
            self.subject_list(&association.children, "children", at);
        }
        let is_parent = |child: &crate::wire::proto::Subject| {
            association.parent.as_ref().is_some_and(|parent| {
                (parent.kind, &parent.value, &parent.issuer, &parent.date)
                    == (child.kind, &child.value, &child.issuer, &child.date)
            })
        };
        if let Some(index) = association.children.iter().position(is_parent) {
            self.report.add(
                &at.element("children", index),
                "SUBJECT_DUPLICATE",
                "must be another subject than the parent",
            );
        }
        self.parties(&association.parties, at);
        let ties = !association.children.is_empty() || !association.parties.is_empty();
        self.report.require(ties, at, "ASSOCIATION_EMPTY", "must have children, parties or both");
    }

    /// Refuses an event without a subject that its body can be about. Seals and what was before do not count.
    pub(super) fn subject_of(&mut self, event: &Event, root: &Path<'_>, fits: fn(Kind) -> bool, description: &str) {
        let fitting = event.subjects.iter().any(|subject| fits(subject.kind()));
        // Without any subject, or with an unknown kind, that has been told already.
        let unknown =
            event.subjects.is_empty() || event.subjects.iter().any(|subject| subject.kind() == Kind::Unspecified);
        self.report.require(fitting || unknown, &root.field("subjects"), "SUBJECT_DOES_NOT_FIT", description);
    }
}

const OFFICE_MISSING: &str =
    "must have a place in the role OFFICE with a UN/LOCODE or country_code: whose authority speaks";

fn is_cleared(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Ucr | Kind::Lrn | Kind::Mrn | Kind::Declaration | Kind::Container | Kind::OtherEquipment | Kind::Vin
    ) || is_consignment(kind)
}

/// Whether it names goods under one contract of carriage.
pub(super) const fn is_consignment(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BillOfLading
            | Kind::HouseBillOfLading
            | Kind::AirWaybill
            | Kind::HouseAirWaybill
            | Kind::RailConsignment
            | Kind::RoadConsignment
            | Kind::Ucr
            | Kind::Booking
    )
}
