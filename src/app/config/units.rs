//! Sizes, durations and addresses as people write them.

use std::net::SocketAddr;
use std::time::Duration;

/// `64MiB`, `512KiB`, `1000`, `10GB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "{text:?} is not a size: write 512KiB, 64MiB or 10GiB"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a size: write 512KiB, 64MiB or 10GiB"))?;
    number
        .checked_mul(factor)
        .ok_or_else(|| format!("{text:?} is too large"))
}

/// `127.0.0.1:8080`, `[::1]:8080`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an address: write IP:PORT, such as 127.0.0.1:8080"))
}

/// `10000`.
pub(super) fn count(text: &str) -> Result<usize, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

/// `true`, `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is neither true nor false"))
}

/// The duration in its largest whole unit: `30d`, `36h`, `0.5s`.
pub fn shown_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_nanos() > 0 || seconds == 0 {
        return format!("{}s", duration.as_secs_f64());
    }
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// The size in its largest whole unit: `10 GiB`, `1000 B`.
pub fn shown_bytes(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// `30d`, `28h`, `90s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|_| format!("{text:?} is not a duration: write 30d, 28h, 15s or 500ms"))
}

/// A duration of at most so long, which is written as people do: a clock ends somewhere.
pub(super) fn duration_up_to(most: &'static str) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let given = duration(text)?;
        match given <= duration(most)? {
            true => Ok(given),
            false => Err(format!("the most is {most}")),
        }
    }
}

/// A limit that may be `off`.
pub(super) fn or_off<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.trim().eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    parse(text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(bytes("1000"), Ok(1000));
        assert_eq!(bytes("512KiB"), Ok(512 << 10));
        assert_eq!(bytes("10 GiB"), Ok(10 << 30));
        assert_eq!(bytes("2mb"), Ok(2_000_000));
        for wrong in ["", "MiB", "-1", "1.5GiB", "ten", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_durations_are_shown_in_their_largest_whole_unit() {
        for (seconds, shown) in [(30 * 86_400, "30d"), (36 * 3600, "36h"), (90, "90s")] {
            assert_eq!(shown_duration(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(shown_duration(Duration::from_millis(500)), "0.5s");
        assert_eq!(shown_bytes(10 << 30), "10 GiB");
        assert_eq!(shown_bytes(1000), "1000 B");
    }

    #[test]
    fn no_duration_is_longer_than_the_most() {
        let day = Duration::from_secs(86_400);
        assert_eq!(duration_up_to("1d")("24h"), Ok(day));
        for longer in ["25h", "500000000000y"] {
            let refused = Err("the most is 1d".to_owned());
            assert_eq!(duration_up_to("1d")(longer), refused, "{longer}");
        }
        assert!(duration_up_to("10y")("10y").is_ok());
    }

    #[test]
    fn a_limit_can_be_off() {
        assert_eq!(or_off("off", duration), Ok(None));
        assert_eq!(
            or_off("28h", duration),
            Ok(Some(Duration::from_secs(28 * 3600)))
        );
        assert!(or_off("never", duration).is_err());
    }
}
