//! Reads and writes fixed little-endian layouts. It never panics on input: a cut or odd value is an error that says where.

/// The bytes end too early, or hold a value that no writer writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}")]
pub struct Malformed {
    /// Where reading stopped.
    pub at: usize,
}

/// Reads values one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What is left, without reading it.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The error for a value that no writer writes, at the present place.
    #[must_use]
    pub const fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(self.malformed())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next bytes as an array.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, signed.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// A number in groups of seven bits, lowest first, as [`put_varint`] writes it.
    ///
    /// # Errors
    /// It does not end, or does not fit 64 bits.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.malformed());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    /// Passes over so many numbers as [`put_varint`] writes them, without looking at what they are.
    ///
    /// # Errors
    /// They do not end.
    pub fn skip_varints(&mut self, mut count: u64) -> Result<(), Malformed> {
        // A number ends at each byte whose eighth bit is not set: eight bytes at a time while they cannot end more than are left.
        while count > 8
            && let Some(word) = self.bytes[self.at..].first_chunk::<8>()
        {
            count -= u64::from((!u64::from_le_bytes(*word) & 0x8080_8080_8080_8080).count_ones());
            self.at += 8;
        }
        while count > 0 {
            count -= u64::from(self.u8()? & 0x80 == 0);
        }
        Ok(())
    }
}

/// Writes a number in groups of seven bits, lowest first; a set eighth bit says that more follow.
pub fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push((value as u8) | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn varints_come_back(values: Vec<u64>) {
            let mut bytes = Vec::new();
            for value in &values {
                put_varint(&mut bytes, *value);
            }
            for skipped in 0..=values.len() {
                let mut reader = Reader::new(&bytes);
                proptest::prop_assert_eq!(reader.skip_varints(skipped as u64), Ok(()));
                for value in &values[skipped..] {
                    proptest::prop_assert_eq!(reader.varint(), Ok(*value));
                }
                proptest::prop_assert_eq!(reader.remaining(), 0);
            }
            proptest::prop_assert!(Reader::new(&bytes).skip_varints(values.len() as u64 + 1).is_err());
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes: Vec<u8>, length: usize) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.varint();
            let _ = reader.clone().skip_varints(length as u64);
            let _ = reader.take(length);
            let _ = reader.u64();
        }
    }
}
