//! Counts in the integer types that messages, gauges and stores have for them.

/// An integer type that counts are converted to.
pub trait Integer {
    /// The largest number of the type.
    const MAX: Self;
}

/// An integer type without negative numbers, as counts have.
pub trait Unsigned {}

macro_rules! integers {
    ($($integer:ty),*) => {
        $(impl Integer for $integer {
            const MAX: Self = Self::MAX;
        })*
    };
}

integers!(i32, i64, u32, u64, usize);

impl Unsigned for u32 {}
impl Unsigned for u64 {}
impl Unsigned for u128 {}
impl Unsigned for usize {}

/// Converts a count. One that does not fit becomes the largest number of the type.
#[must_use]
pub fn saturating<I: Integer>(count: impl Unsigned + TryInto<I>) -> I {
    count.try_into().unwrap_or(I::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_does_not_fit_becomes_the_largest_number() {
        assert_eq!(saturating::<i64>(7_u64), 7);
        assert_eq!(saturating::<i64>(i64::MAX.unsigned_abs()), i64::MAX);
        assert_eq!(saturating::<i64>(i64::MAX.unsigned_abs() + 1), i64::MAX);
        assert_eq!(saturating::<i64>(u128::MAX), i64::MAX);
        assert_eq!(saturating::<u32>(u64::MAX), u32::MAX);
        assert_eq!(saturating::<u64>(u128::MAX), u64::MAX);
        assert_eq!(saturating::<usize>(u128::MAX), usize::MAX);
    }
}
