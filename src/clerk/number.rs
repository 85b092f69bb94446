//! JSON numbers, read from their text: the result is the number that is written, the nearest
//! double, or none.

/// Every integer up to this one is a double.
const EXACT_INTEGER_MAX: u64 = 1 << 53;

/// The nearest double; none for a number beyond the largest double.
pub(super) fn double(text: &str) -> Option<f64> {
    text.parse().ok().filter(|double: &f64| double.is_finite())
}

/// A number of free JSON, which protobuf carries as a double. An integer beyond 2^53 is left
/// out, even where the double would be exact, because a field that one user in a hundred has is
/// worse than a field that no user has.
pub(super) fn free(text: &str) -> Option<f64> {
    let is_integer = !text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    let is_exact = |int: i64| int.unsigned_abs() <= EXACT_INTEGER_MAX;
    if is_integer && !text.parse().is_ok_and(is_exact) {
        return None;
    }
    double(text)
}

/// An integer, even if it is written as `1e3` or `5.0`.
pub(super) fn integer(text: &str) -> Option<i64> {
    // Of JSON's numbers, Rust reads those that it can hold in the same way.
    text.parse().ok().or_else(|| integer_with_decimals(text))
}

/// An integer with a fraction or an exponent, read by its digits because a double would round.
fn integer_with_decimals(text: &str) -> Option<i64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = format!("{whole}{fraction}");
    let digits = all_digits.trim_end_matches('0');
    if !all_digits.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !digits.bytes().any(|byte| byte.is_ascii_digit()) {
        return Some(0);
    }
    // The number is `digits` and as many zeros.
    let written_zeros = i64::try_from(all_digits.len() - digits.len()).ok()?;
    let decimals = i64::try_from(fraction.len()).ok()?;
    let zeros = exponent
        .parse::<i64>()
        .ok()?
        .checked_add(written_zeros)?
        .checked_sub(decimals)?;
    let factor = 10_i64.checked_pow(u32::try_from(zeros).ok()?)?;
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_read_by_its_digits_however_it_is_written() {
        for (text, expected) in [
            ("1e3", Some(1000)),
            ("5.0", Some(5)),
            ("-1.50e1", Some(-15)),
            ("1.7168832e9", Some(1_716_883_200)),
            ("-0.0", Some(0)),
            ("0e999999999999999999999", Some(0)),
            ("12000e-3", Some(12)),
            // A double would round both to a whole number.
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("4503599627370497.3", None),
            ("1.5", None),
            ("1e300", None),
            ("9223372036854775808", None),
            ("true", None),
            ("\"\"", None),
        ] {
            assert_eq!(integer(text), expected, "{text}");
        }
    }

    #[test]
    fn free_json_holds_integers_up_to_two_to_the_53rd_and_the_nearest_doubles() {
        for (text, expected) in [
            ("9007199254740992", Some(9_007_199_254_740_992.0)),
            ("-9007199254740992", Some(-9_007_199_254_740_992.0)),
            ("9007199254740993", None),
            ("9007199254740994", None),
            ("4611686018427387907", None),
            ("18446744073709551616", None),
            ("1e18", Some(1e18)),
            ("1e400", None),
            ("1e-400", Some(0.0)),
        ] {
            assert_eq!(free(text), expected, "{text}");
        }
        assert!(free("-0").is_some_and(f64::is_sign_negative));
    }
}
