//! Commodity codes and units of measure.

use super::{Checker, Path};
use crate::domain::freight::goods::{is_hs_code, is_unit_code};

/// The most commodity codes: the items of the largest declaration that customs systems take.
const COMMODITY_CODES_MAX: usize = 999;

impl Checker<'_> {
    pub(super) fn commodity_codes(&mut self, codes: &[String], root: &Path<'_>) {
        if !self.at_most(codes.len(), COMMODITY_CODES_MAX, &root.field("commodity_codes")) {
            return;
        }
        for (index, code) in codes.iter().enumerate() {
            let at = &root.element("commodity_codes", index);
            if is_hs_code(code) {
                self.listed(|lists| &lists.hs, code, at, "HS_UNKNOWN");
            } else {
                let description = format!(
                    "must be 2, 4 or 6 digits of the Harmonized System, not {code:?}; national digits beyond the sixth are left out"
                );
                self.report.add(at, "HS_MALFORMED", description);
            }
        }
    }

    pub(super) fn unit_code(&mut self, code: &str, at: &Path<'_>) {
        if is_unit_code(code) {
            self.listed(|lists| &lists.unit, code, at, "UNIT_UNKNOWN");
        } else {
            let description = format!("must be a unit of UN/ECE Recommendation 20 such as CEL or KGM, not {code:?}");
            self.report.add(at, "UNIT_MALFORMED", description);
        }
    }
}
