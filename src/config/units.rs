//! Sizes and times as people write them: a number with its unit. A bare number is refused, since it would say nothing.

use std::time::Duration;

/// Units of size, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Units of time in milliseconds. `ms` stands before `s` and `m`, since it ends in one and begins with the other.
const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size such as `64MiB` in bytes. `None` where it is not one, or beyond 64 bits.
#[must_use]
pub fn parse_size_bytes(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// Reads a time such as `30s`. `None` where it is not one.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &TIME_UNITS).map(Duration::from_millis)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_need_their_unit() {
        assert_eq!(parse_size_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_size_bytes("0B"), Some(0));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for wrong in
            ["", "64", "MiB", "64MB", "64 MiB", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615GiB"]
        {
            assert_eq!(parse_size_bytes(wrong), None, "{wrong:?}");
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }
}
