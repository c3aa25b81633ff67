//! Durations as typed by users.

use std::time::Duration;

/// Parses a duration such as `500ms`, `10s`, `2m`, `1h`; a number without a unit is in seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and ms, s, m or h, such as 10s".into()),
    };
    let number = digits.parse::<f64>().map_err(|_| "write a number and ms, s, m or h, such as 10s")?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| "too long, or negative".into())
}

/// Parses the time between two updates, which is not 0.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        // Nobody can see more frequent updates, and they would keep a processor busy.
        interval if interval < Duration::from_millis(10) => {
            Err("the interval is too short: write 10ms or more, such as 100ms".into())
        }
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_a_unit_or_mean_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for bad in ["", "s", "-1s", "1e400", "10 s", "3d", "nan", "€"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
