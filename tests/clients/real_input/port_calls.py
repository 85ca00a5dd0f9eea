"""Maps events of the Port Call Optimisation format (version 3: "berth.eta.agent" and the like), as the engineer of a port's own
platform would, who passes on what agents, carriers, pilots and terminals tell her."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from tradelane.v1 import event_pb2 as pb

from model import Mapped, Mapping, SourceFile, envelope, subject

PLACES = {
    "anchorArea": pb.PLACE_KIND_ANCHORAGE,
    "berth": pb.PLACE_KIND_BERTH,
    "pilotBoardingPlace": pb.PLACE_KIND_PILOT_BOARDING_PLACE,
    "port": pb.PLACE_KIND_PORT,
    "terminal": pb.PLACE_KIND_TERMINAL,
}
# The time's code: whose intention it is, and what happens.
TIMES = {
    "eta": (pb.CLASSIFIER_ESTIMATED, pb.MOVEMENT_STEP_ARRIVED),
    "etd": (pb.CLASSIFIER_ESTIMATED, pb.MOVEMENT_STEP_DEPARTED),
    "pta": (pb.CLASSIFIER_PLANNED, pb.MOVEMENT_STEP_ARRIVED),
    "ptd": (pb.CLASSIFIER_PLANNED, pb.MOVEMENT_STEP_DEPARTED),
    "ata": (pb.CLASSIFIER_ACTUAL, pb.MOVEMENT_STEP_ARRIVED),
    "atd": (pb.CLASSIFIER_ACTUAL, pb.MOVEMENT_STEP_DEPARTED),
    "ets": (pb.CLASSIFIER_ESTIMATED, pb.MOVEMENT_STEP_STARTED),
    "etc": (pb.CLASSIFIER_ESTIMATED, pb.MOVEMENT_STEP_COMPLETED),
    "ats": (pb.CLASSIFIER_ACTUAL, pb.MOVEMENT_STEP_STARTED),
    "atc": (pb.CLASSIFIER_ACTUAL, pb.MOVEMENT_STEP_COMPLETED),
    "et": (pb.CLASSIFIER_ESTIMATED, None),
    "at": (pb.CLASSIFIER_ACTUAL, None),
}
# A service and, where its name says so, whether it begins or ends.
SERVICES = {
    "bunkerPW": (pb.PORT_SERVICE_BUNKERING, None),
    "bunkerService": (pb.PORT_SERVICE_BUNKERING, None),
    "cargoOperations": (pb.PORT_SERVICE_CARGO_OPERATIONS, None),
    "pilotOnBoard": (pb.PORT_SERVICE_PILOTAGE, pb.MOVEMENT_STEP_STARTED),
    "surveyor": (pb.PORT_SERVICE_OTHER, None),
    "tugsNoMoreStandby": (pb.PORT_SERVICE_TOWAGE, pb.MOVEMENT_STEP_COMPLETED),
}
# Who reports, where that is a party in our sense.
REPORTERS = {
    "agent": pb.PARTY_ROLE_AGENT,
    "carrier": pb.PARTY_ROLE_CARRIER,
    "portAuthority": pb.PARTY_ROLE_AUTHORITY,
    "terminal": pb.PARTY_ROLE_TERMINAL_OPERATOR,
}
# What the context of an event may say, and an event has no place for.
UNSAID_CONTEXT = {
    "mooring": "bollards of a berth",
    "movementId": "number of a ship's movement inside a port",
    "organisationPortcallId": "a reporter's own number of a port call, beside the port's",
    "reportedNumber": "how many tugs are wanted",
    "schedule": "name of a liner service",
    "serviceId": "number of one service at one call",
    "serviceProviderCompany": "the company that gives a service",
    "stakeholders": "audience by a port platform's own names",
}


def map_file(file: SourceFile, publisher: str) -> Mapping:
    """Maps one event."""
    result = Mapping(files=1)
    said = _read(file)
    what, time_code, reporter = said["eventType"].split(".")
    kind = f"port call {time_code}"
    created = _time(said["recordTime"])

    if what in PLACES:
        place_kind, service = PLACES[what], pb.PORT_SERVICE_UNSPECIFIED
    elif what in SERVICES:
        place_kind, service = PLACES.get(said.get("location", {}).get("type"), pb.PLACE_KIND_PORT), SERVICES[what][0]
    else:
        result.cannot_say(f"an event without a time: {what}.{time_code}", file.name)
        return result

    if time_code == "cancel":
        # Nobody says when it was decided but when it was told.
        classifier, step, event_time = pb.CLASSIFIER_ACTUAL, pb.MOVEMENT_STEP_OMITTED, created
    else:
        classifier, step = TIMES[time_code]
        step = step or SERVICES[what][1]
        event_time = _time(said["eventTime"])
    if service == pb.PORT_SERVICE_OTHER:
        result.cannot_say(f"which other service: {what}", file.name)

    event = envelope(
        source=file.source(said["uuid"]),
        publisher=publisher,
        # One uuid stands in two files for two different statements, so the type belongs to the identity.
        ids=(said["source"], said["uuid"], said["eventType"]),
        event_time=event_time,
        created_time=created,
        classifier=classifier,
        subjects=_subjects(said),
        places=[_place(said, place_kind)],
        parties=_parties(said, reporter),
        mode=pb.TRANSPORT_MODE_INLAND_WATERWAY if "eni" in said["ship"] else pb.TRANSPORT_MODE_MARITIME,
        movement=pb.Movement(step=step, service=service),
    )
    for key in said.get("context", {}):
        if key in UNSAID_CONTEXT:
            result.cannot_say(UNSAID_CONTEXT[key], file.name)
    if "name" in said["ship"]:
        result.cannot_say("a vessel's name (its number is said)", file.name)
    result.events.append(Mapped(kind, file.name, publisher, event))
    return result


def _read(file: SourceFile) -> dict[str, Any]:
    """JSON as people write it: two of the files bear comments."""
    text = file.content.decode("utf-8")
    return json.loads(re.sub(r'(?m)(?<=[,{\s])//[^"\n]*$', "", text))


def _time(text: str) -> datetime:
    """RFC 3339, with whatever stands between date and time: a space and an ampersand occur."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d).(\d\d:\d\d:\d\d(?:\.\d+)?)Z", text)
    if match is None:
        raise ValueError(f"no time: {text}")
    clock, _, fraction = match[2].partition(".")
    micros = int(fraction.ljust(6, "0")[:6]) if fraction else 0
    moment = datetime.strptime(f"{match[1]}T{clock}", "%Y-%m-%dT%H:%M:%S")
    return moment.replace(microsecond=micros, tzinfo=UTC)


def _ship(ship: dict[str, str], role: pb.SubjectRole) -> list[pb.Subject]:
    kinds = {
        "imo": pb.IDENTIFIER_KIND_VESSEL_IMO,
        "eni": pb.IDENTIFIER_KIND_VESSEL_ENI,
        "mmsi": pb.IDENTIFIER_KIND_VESSEL_MMSI,
    }
    return [subject(kind, ship[key], role=role) for key, kind in kinds.items() if key in ship]


def _subjects(said: dict[str, Any]) -> list[pb.Subject]:
    subjects = _ship(said["ship"], pb.SUBJECT_ROLE_PRIMARY)
    if "portcallId" in said:
        subjects.append(subject(pb.IDENTIFIER_KIND_PORT_CALL, said["portcallId"], issuer=said["port"]))
    context = said.get("context", {})
    if "berthVisitId" in context:
        subjects.append(subject(pb.IDENTIFIER_KIND_TERMINAL_CALL, context["berthVisitId"], issuer=said["port"]))
    if "serviceShip" in context:
        subjects += _ship(context["serviceShip"], pb.SUBJECT_ROLE_SERVING)
    return subjects


def _place(said: dict[str, Any], kind: pb.PlaceKind) -> pb.Place:
    location = said.get("location", {})
    place = pb.Place(role=pb.PLACE_ROLE_EVENT, kind=kind, un_locode=said["port"], name=location.get("name", ""))
    if "gln" in location:
        place.facility.CopyFrom(pb.Facility(scheme=pb.FACILITY_SCHEME_GLN, code=location["gln"]))
    return place


def _parties(said: dict[str, Any], reporter: str) -> list[pb.Party]:
    parties = [pb.Party(role=pb.PARTY_ROLE_REPORTER, scheme="PORTCALL", id=said["source"])]
    if reporter in REPORTERS:
        parties.append(pb.Party(role=REPORTERS[reporter], scheme="PORTCALL", id=said["source"]))
    agent = said.get("context", {}).get("vesselAgent")
    if agent and reporter != "agent":
        parties.append(pb.Party(role=pb.PARTY_ROLE_AGENT, scheme="PORTCALL", id=agent))
    return parties
