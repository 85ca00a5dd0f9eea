//! Measured conditions and emissions: units, ranges, and numbers that must agree with each other.

use super::{Checker, Path, text::NAME_CHARACTERS_MAX};
use crate::wire::proto::{Alarm, Condition, DataBasis, DistanceBasis, Emission, Energy, Event, Measurement};

/// The most measurements of one event.
const MEASUREMENTS_MAX: usize = 64;
/// The most energy carriers of one emission.
const ENERGY_MAX: usize = 16;
/// How far transport activity may be from mass times distance: one in so many parts.
const ACTIVITY_TOLERANCE_PARTS: u128 = 100;

impl Checker<'_> {
    pub(super) fn condition(&mut self, event: &Event, condition: &Condition, root: &Path<'_>, at: &Path<'_>) {
        self.actual_only(event, root, "a measurement");
        self.optional_enum::<Alarm>(condition.alarm, &at.field("alarm"), "Alarm");
        self.text(&condition.device_id, NAME_CHARACTERS_MAX, &at.field("device_id"));
        if let Some(start) = condition.start_time {
            let start_at = &at.field("start_time");
            let ends = event.event_time.is_none_or(|end| (start.seconds, start.nanos) <= (end.seconds, end.nanos));
            self.time_ns(start, start_at);
            self.report.require(ends, start_at, "INCONSISTENT", "must not be after event_time, where the window ends");
        }
        let says = !condition.measurements.is_empty() || condition.alarm != 0;
        self.report.require(says, at, "CONDITION_EMPTY", "must have measurements or an alarm");
        if !self.at_most(condition.measurements.len(), MEASUREMENTS_MAX, &at.field("measurements")) {
            return;
        }
        for (index, measurement) in condition.measurements.iter().enumerate() {
            self.measurement(measurement, &at.element("measurements", index));
        }
    }

    fn measurement(&mut self, measurement: &Measurement, at: &Path<'_>) {
        self.required_text(&measurement.quantity, NAME_CHARACTERS_MAX, &at.field("quantity"));
        self.unit_code(&measurement.unit_code, &at.field("unit_code"));
        let Measurement { value, minimum, maximum, .. } = *measurement;
        for (number, field) in [(value, "value"), (minimum, "minimum"), (maximum, "maximum")] {
            self.report.require(
                number.is_none_or(f64::is_finite),
                &at.field(field),
                "OUT_OF_RANGE",
                "must be a finite number",
            );
        }
        let says = value.is_some() || minimum.is_some() || maximum.is_some();
        self.report.require(says, at, "MEASUREMENT_EMPTY", "must have a value, minimum or maximum");
        let ordered = |low: Option<f64>, high: Option<f64>| low.zip(high).is_none_or(|(low, high)| low <= high);
        let in_order = ordered(minimum, value) && ordered(value, maximum) && ordered(minimum, maximum);
        self.report.require(in_order, at, "INCONSISTENT", "must have minimum <= value <= maximum");
    }

    pub(super) fn emission(&mut self, event: &Event, emission: &Emission, root: &Path<'_>, at: &Path<'_>) {
        self.actual_only(event, root, "an emission");
        self.optional_enum::<DistanceBasis>(emission.distance_basis, &at.field("distance_basis"), "DistanceBasis");
        self.optional_enum::<DataBasis>(emission.data_basis, &at.field("data_basis"), "DataBasis");
        self.required_text(&emission.method, NAME_CHARACTERS_MAX, &at.field("method"));
        let covers = emission.co2e_ttw_grams <= emission.co2e_wtw_grams;
        let description = "must be at least co2e_ttw_grams: well to wheel includes tank to wheel";
        self.report.require(covers, &at.field("co2e_wtw_grams"), "INCONSISTENT", description);
        let activity = u128::from(emission.activity_gram_metres);
        let product = u128::from(emission.mass_grams) * u128::from(emission.distance_metres);
        let all_set = activity != 0 && product != 0;
        let near = activity.abs_diff(product) <= product / ACTIVITY_TOLERANCE_PARTS;
        let description = "must be mass_grams times distance_metres, within one percent";
        self.report.require(!all_set || near, &at.field("activity_gram_metres"), "INCONSISTENT", description);
        if !self.at_most(emission.energy.len(), ENERGY_MAX, &at.field("energy")) {
            return;
        }
        for (index, Energy { carrier, quantity, unit_code }) in emission.energy.iter().enumerate() {
            let at = &at.element("energy", index);
            self.required_text(carrier, NAME_CHARACTERS_MAX, &at.field("carrier"));
            let counted = quantity.is_finite() && 0.0 <= *quantity;
            self.report.require(counted, &at.field("quantity"), "OUT_OF_RANGE", "must be a finite number, not below 0");
            self.unit_code(unit_code, &at.field("unit_code"));
        }
    }
}
