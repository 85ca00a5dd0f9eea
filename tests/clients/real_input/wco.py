"""Maps the messages of a customs system on the WCO Data Model 3.6 (the UK's CDS): responses to declarations, the declarations, and the
movement messages of inventory linking, scenario by scenario in the order of their steps, as a customs agency's engineer would."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tradelane.v1 import event_pb2 as pb

from model import Mapped, Mapping, SourceFile, container, envelope, local, subject

RESPONSE_STANDARD = "WCO:DM:3.6:RES"
STANDARDS = {"Response": RESPONSE_STANDARD, "Declaration": "WCO:DM:3.6:DEC"}
MOVEMENT_STANDARD = "HMRC:INVENTORY-LINKING:1"

# FunctionCode of a response. 02 depends on what came before it, 05 is an Inspection.
STEPS = {
    "01": pb.CLEARANCE_STEP_ACCEPTED,
    "03": pb.CLEARANCE_STEP_REJECTED,
    "06": pb.CLEARANCE_STEP_DOCUMENTS_REQUIRED,
    "07": pb.CLEARANCE_STEP_AMENDED,
    "08": pb.CLEARANCE_STEP_RELEASED,
    "09": pb.CLEARANCE_STEP_CLEARED,
    "10": pb.CLEARANCE_STEP_INVALIDATED,
    "11": pb.CLEARANCE_STEP_AMENDED,
    "13": pb.CLEARANCE_STEP_ASSESSED,
    "14": pb.CLEARANCE_STEP_PAYMENT_REQUIRED,
    "15": pb.CLEARANCE_STEP_PAYMENT_REQUIRED,
    "16": pb.CLEARANCE_STEP_EXITED,
    "18": pb.CLEARANCE_STEP_REMINDED,
}
# UNCL 1001 by the first two letters of a declaration's TypeCode.
DOCUMENT_TYPES = {"IM": "929", "EX": "830"}
PROCEDURES = {"IM": pb.PROCEDURE_IMPORT, "EX": pb.PROCEDURE_EXPORT}
MODES = {str(number): number for number in range(1, 9)}


@dataclass
class Agency:
    """Who publishes: customs its responses, the trader's software the declarations, the terminal's system the movements."""

    customs: str
    trader: str
    terminal: str


@dataclass
class _History:
    """What the files so far have said of one scenario."""

    # The function and reference of each declaration's first message.
    first: dict[str, tuple[str, str]] = field(default_factory=dict)
    bound: set[tuple[str, str]] = field(default_factory=set)
    # How many messages so far.
    answered: int = 0


def map_scenario(files: Iterable[SourceFile], agency: Agency) -> Mapping:
    """Maps the files of one folder. Declarations bear no time, so they take that of the first answer to them."""
    result = Mapping()
    parsed = [_parse(file) for file in files]
    responses = [(f, r) for f, r in parsed if _name(r) == "Response"]
    responses.sort(key=lambda pair: _natural(pair[0].name))
    history = _History()
    originals = {_text(r, "FunctionalReferenceID"): _text(r, "TypeCode") for _, r in parsed if _is_original(r)}
    for file, root in parsed:
        result.files += 1
        if _name(root) == "Declaration":
            _map_declaration(file, root, [r for _, r in responses], originals, agency, result)
        elif _name(root) != "Response":
            _map_movement(file, root, agency, result)
    for file, response in responses:
        _map_response(file, response, agency, history, result)
    return result


def _map_response(file: SourceFile, response: ET.Element, agency: Agency, history: _History, result: Mapping) -> None:
    code = _text(response, "FunctionCode")
    reference = _text(response, "FunctionalReferenceID")
    mrn, lrn = _text(response, "Declaration/ID"), _text(response, "Declaration/FunctionalReferenceID")
    history.first.setdefault(mrn, (code, reference))
    history.answered += 1
    issued = _wco_time(_text(response, "IssueDateTime/DateTimeString"))
    subjects = [
        subject(pb.IDENTIFIER_KIND_MRN, mrn),
        subject(pb.IDENTIFIER_KIND_LRN, lrn, issuer=mrn[2:4]),
    ]
    office = pb.Place(role=pb.PLACE_ROLE_OFFICE, kind=pb.PLACE_KIND_CUSTOMS_OFFICE, country_code=mrn[2:4])
    common: dict[str, Any] = {
        "source": file.source(reference),
        "publisher": agency.customs,
        "event_time": issued,
        # Times of the agency are whole seconds: what it says within one it says in the order of its messages.
        "created_time": issued + timedelta(microseconds=history.answered),
        "classifier": pb.CLASSIFIER_ACTUAL,
        "subjects": subjects,
    }

    if code == "05":
        inspection = pb.Inspection(step=pb.INSPECTION_STEP_ORDERED, reasons=_reasons(response))
        office.role = pb.PLACE_ROLE_EVENT
        event = envelope(ids=[reference], places=[office], inspection=inspection, **common)
        result.cannot_say("which kind of control a response 05 orders: it does not say", file.name)
    else:
        clearance = pb.Clearance(step=_step(code, mrn, reference, history), reasons=_reasons(response))
        due = _text(response, "AdditionalInformation/LimitDateTime/DateTimeString")
        if due:
            clearance.due_time.FromDatetime(_wco_time(due).astimezone(UTC))
        exit_office = _text(response, "AdditionalInformation/StatementDescription")
        if code == "16" and exit_office:
            office.facility.CopyFrom(pb.Facility(scheme=pb.FACILITY_SCHEME_CUSTOMS_OFFICE, code=exit_office))
        event = envelope(ids=[reference], places=[office], clearance=clearance, **common)
        if code == "01":
            accepted = _wco_time(_text(response, "Declaration/AcceptanceDateTime/DateTimeString"))
            if abs(issued - accepted) > timedelta(minutes=5):
                result.cannot_say("legal date of acceptance, where it is not when acceptance was decided", file.name)
        if code == "13":
            result.cannot_say("amounts of duty and tax", file.name)
        if code == "16":
            result.cannot_say("day of exit beside the time of the confirmation of exit", file.name)
        if _text(response, "Declaration/VersionID") not in ("", "1"):
            result.cannot_say("version of a declaration", file.name)
    result.events.append(Mapped(f"WCO response {code}", file.name, agency.customs, event))

    if (lrn, mrn) not in history.bound and code != "02":
        history.bound.add((lrn, mrn))
        _bind(file, reference, lrn, mrn, common, agency, result)


def _step(code: str, mrn: str, reference: str, history: _History) -> pb.ClearanceStep:
    """A receipt that is a declaration's first message is its lodging, also where it is sent again; any other is that of an amendment."""
    if code != "02":
        return STEPS[code]
    return pb.CLEARANCE_STEP_LODGED if history.first[mrn] == (code, reference) else pb.CLEARANCE_STEP_AMENDED


def _bind(
    file: SourceFile, reference: str, lrn: str, mrn: str, common: dict[str, Any], agency: Agency, result: Mapping
) -> None:
    """The declarant's number and the agency's name one declaration."""
    parent = subject(pb.IDENTIFIER_KIND_LRN, lrn, issuer=mrn[2:4])
    child = subject(pb.IDENTIFIER_KIND_MRN, mrn)
    association = pb.Association(step=pb.ASSOCIATION_STEP_ATTACHED, parent=parent, children=[child])
    event = envelope(ids=[reference, "binds", lrn], association=association, **common)
    result.events.append(Mapped("WCO LRN bound to MRN", file.name, agency.customs, event))


def _is_original(root: ET.Element) -> bool:
    """A declaration itself, not a request about one."""
    return _name(root) == "Declaration" and _text(root, "FunctionCode") == "9"


def _map_declaration(
    file: SourceFile,
    declaration: ET.Element,
    responses: list[ET.Element],
    originals: dict[str, str],
    agency: Agency,
    result: Mapping,
) -> None:
    lrn, mrn = _text(declaration, "FunctionalReferenceID"), _text(declaration, "ID")
    # An amendment hands the declaration in again; other requests are no documents that UNCL 1001 knows.
    request = _text(declaration, "TypeCode")
    type_code = originals.get(lrn, "") if request == "COR" else request
    if type_code[:2] not in DOCUMENT_TYPES:
        result.cannot_say("a request to customs to invalidate, or to present goods", f"{file.name}: {request}")
        return
    answers = [
        r
        for r in responses
        if (mrn or lrn) in (_text(r, "Declaration/ID"), _text(r, "Declaration/FunctionalReferenceID"))
    ]
    receipts = [r for r in answers if _text(r, "FunctionCode") == "02"]
    if mrn:
        # A request about a declaration is answered by a receipt of its own, after the declaration's first answer.
        answers = [r for r in receipts if r is not answers[0]]
    if not answers:
        result.cannot_say("a declaration that nobody dated: it bears no time, and no answer to it is here", file.name)
        return
    moment = _wco_time(_text(answers[0], "IssueDateTime/DateTimeString"))
    country = _text(answers[0], "Declaration/ID")[2:4]
    subjects = [subject(pb.IDENTIFIER_KIND_LRN, lrn, issuer=country)]
    if mrn:
        subjects.append(subject(pb.IDENTIFIER_KIND_MRN, mrn))
    for previous in declaration.iter():
        if _name(previous) == "PreviousDocument" and _text(previous, "TypeCode") in ("DCR", "MCR"):
            subjects.append(subject(pb.IDENTIFIER_KIND_UCR, _text(previous, "ID")))
    for equipment in declaration.iter():
        if _name(equipment) == "TransportEquipment" and _text(equipment, "ID"):
            subjects.append(container(_text(equipment, "ID")))
            for seal in equipment:
                if _name(seal) == "Seal":
                    subjects.append(subject(pb.IDENTIFIER_KIND_SEAL, _text(seal, "ID"), role=pb.SUBJECT_ROLE_SEAL))
    source = file.source(lrn)
    event = envelope(
        source=source,
        publisher=agency.trader,
        ids=[lrn, mrn, request, source.sha256.hex()],
        event_time=moment,
        created_time=moment,
        classifier=pb.CLASSIFIER_ACTUAL,
        subjects=_unique(subjects),
        places=_places(declaration),
        parties=_parties(declaration),
        commodity_codes=_commodity_codes(declaration),
        mode=MODES.get(_text(declaration, "BorderTransportMeans/ModeCode"), pb.TRANSPORT_MODE_UNSPECIFIED),
        procedure=PROCEDURES[type_code[:2]],
        document=pb.Document(
            step=pb.DOCUMENT_STEP_SUBMITTED,
            type_code=DOCUMENT_TYPES[type_code[:2]],
            number=lrn,
            sha256=source.sha256,
        ),
    )
    kind = "WCO declaration" if not mrn else "WCO amended declaration"
    result.events.append(Mapped(kind, file.name, agency.trader, event))


def _map_movement(file: SourceFile, root: ET.Element, agency: Agency, result: Mapping) -> None:
    """Goods that arrive at, or leave, a place under customs control."""
    movement = next((e for e in root.iter() if _name(e) == "inventoryLinkingMovementRequest"), None)
    if movement is None:
        result.cannot_say("a movement message without any time", f"{file.name}: {_name(root)}")
        return
    code = _text(movement, "messageCode")
    steps = {
        "EAL": (pb.HANDLING_STEP_GATED_IN, "goodsArrivalDateTime"),
        "EDL": (pb.HANDLING_STEP_GATED_OUT, "goodsDepartureDateTime"),
    }
    if code not in steps:
        result.cannot_say("a movement message without any time", f"{file.name}: {code}")
        return
    step, time_element = steps[code]
    moment = _iso_time(_text(movement, time_element))
    sent = next((_iso_time(e.text or "") for e in root.iter() if _name(e) == "dateTimeStamp"), moment)
    reference, location = _text(movement, "movementReference"), _text(movement, "goodsLocation")
    event = envelope(
        source=file.source(reference),
        publisher=agency.terminal,
        ids=[code, reference, _text(movement, "ucrBlock/ucr")],
        event_time=moment,
        created_time=max(sent, moment),
        classifier=pb.CLASSIFIER_ACTUAL,
        subjects=[subject(pb.IDENTIFIER_KIND_UCR, _text(movement, "ucrBlock/ucr"))],
        # Country, kind of place and kind of code lead: "GBAU" + a place in the country's own list.
        places=[
            pb.Place(
                role=pb.PLACE_ROLE_EVENT,
                kind=pb.PLACE_KIND_TERMINAL,
                country_code=location[:2],
                facility=pb.Facility(scheme=pb.FACILITY_SCHEME_NATIONAL, code=location[4:]),
            )
        ],
        mode=MODES.get(_text(movement, "transportDetails/transportMode"), pb.TRANSPORT_MODE_UNSPECIFIED),
        procedure=pb.PROCEDURE_EXPORT,
        handling=pb.Handling(step=step),
    )
    if _text(movement, "transportDetails/transportID"):
        result.cannot_say(
            "a vessel that is named and has no number",
            f"{file.name}: {_text(movement, 'transportDetails/transportID')}",
        )
    result.events.append(Mapped(f"WCO movement {code}", file.name, agency.terminal, event))


def _reasons(response: ET.Element) -> list[pb.Reason]:
    """Errors, statements and states, each with its own code."""
    reasons = []
    for child in response:
        if _name(child) == "Error":
            pointer = "/".join(
                _text(p, "DocumentSectionCode") + (":" + _text(p, "TagID") if _text(p, "TagID") else "")
                for p in child
                if _name(p) == "Pointer"
            )
            reasons.append(pb.Reason(scheme="CDS", code=_text(child, "ValidationCode"), text=pointer))
        elif _name(child) == "AdditionalInformation" and _text(child, "StatementCode"):
            text = _text(child, "StatementDescription")
            reasons.append(pb.Reason(scheme="CDS", code=_text(child, "StatementCode"), text=text))
        elif _name(child) == "Status" and _text(child, "NameCode"):
            reasons.append(pb.Reason(scheme="CDS:STATUS", code=_text(child, "NameCode")))
        elif _name(child) == "Amendment" and _text(child, "ChangeReasonCode"):
            reason = pb.Reason(scheme="CDS:CHANGE", code=_text(child, "ChangeReasonCode"))
            if reason not in reasons:
                reasons.append(reason)
    return reasons


def _places(declaration: ET.Element) -> list[pb.Place]:
    """Countries of export and destination, and the office of exit."""
    places = []
    for path, role in (
        ("GoodsShipment/ExportCountry/ID", pb.PLACE_ROLE_ORIGIN),
        ("GoodsShipment/Destination/CountryCode", pb.PLACE_ROLE_DESTINATION),
    ):
        if _text(declaration, path):
            places.append(pb.Place(role=role, country_code=_text(declaration, path)))
    office = _text(declaration, "ExitOffice/ID")
    if office:
        facility = pb.Facility(scheme=pb.FACILITY_SCHEME_CUSTOMS_OFFICE, code=office)
        kind = pb.PLACE_KIND_CUSTOMS_OFFICE
        places.append(pb.Place(role=pb.PLACE_ROLE_OFFICE, kind=kind, country_code=office[:2], facility=facility))
    return places


def _parties(declaration: ET.Element) -> list[pb.Party]:
    """Parties that have a number; a trader who has only a name and an address stays out of an event."""
    parties = []
    for path, role in (
        ("Declarant/ID", pb.PARTY_ROLE_DECLARANT),
        ("Exporter/ID", pb.PARTY_ROLE_SHIPPER),
        ("GoodsShipment/Importer/ID", pb.PARTY_ROLE_CONSIGNEE),
        ("Consignment/Carrier/ID", pb.PARTY_ROLE_CARRIER),
    ):
        if _text(declaration, path):
            parties.append(pb.Party(role=role, scheme="EORI", id=_text(declaration, path)))
    return parties


def _commodity_codes(declaration: ET.Element) -> list[str]:
    """The six digits that the whole world shares, of tariff codes that are longer."""
    codes = {
        _text(e, "ID")[:6]
        for e in declaration.iter()
        if _name(e) == "Classification" and _text(e, "IdentificationTypeCode") == "TSP"
    }
    return sorted(codes)


def _unique(subjects: list[pb.Subject]) -> list[pb.Subject]:
    return [s for i, s in enumerate(subjects) if s not in subjects[:i]]


def _parse(file: SourceFile) -> tuple[SourceFile, ET.Element]:
    """The Response or Declaration inside its wrappings, or the movement message itself; and the file with its standard's name."""
    root = ET.fromstring(file.content)
    payload = next((e for e in root.iter() if _name(e) in STANDARDS), root)
    return replace(file, standard=STANDARDS.get(_name(payload), MOVEMENT_STANDARD)), payload


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: ET.Element, path: str) -> str:
    """The text at a path of names, whatever their namespaces; empty where there is none."""
    for name in path.split("/"):
        found = next((child for child in element if _name(child) == name), None)
        if found is None:
            return ""
        element = found
    return (element.text or "").strip()


def _wco_time(text: str) -> datetime:
    """Format 304: CCYYMMDDHHMMSS and a zone, which is Z or whole hours."""
    if text.endswith("Z"):
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    return datetime.strptime(text + "00", "%Y%m%d%H%M%S%z")


def _iso_time(text: str) -> datetime:
    """ISO 8601; where the zone is missing the clock of Great Britain is meant."""
    moment = datetime.fromisoformat(text.strip())
    return moment if moment.tzinfo else local(moment, "GB")


def _natural(name: str) -> list[int | str]:
    """Sorts step 10 after step 9."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
