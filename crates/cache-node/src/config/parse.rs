//! From text to values with units and bounds.

use std::time::Duration;

/// `true` or `false`, in the spellings that environments use.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number within bounds.
pub(crate) fn whole(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let number =
            text.replace('_', "").parse::<u64>().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }
}

/// A share of a whole.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// A duration with its unit, within bounds.
pub(crate) fn duration(least: Duration, most: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let parsed = humantime::parse_duration(text);
        parsed.ok().filter(|duration| (least..=most).contains(duration)).ok_or_else(|| {
            let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
            format!("must be a duration with its unit from {least} to {most}, such as 30s or 1h 30m")
        })
    }
}

/// A duration, where a bare number means seconds.
pub(crate) fn seconds(least: Duration, most: Duration) -> impl Fn(&str) -> Result<Duration, String> {
    let with_unit = duration(least, most);
    move |text| match text.parse::<u64>() {
        Ok(_) => with_unit(&format!("{text}s")),
        Err(_) => with_unit(text),
    }
}

/// A short name in plain letters.
pub(crate) fn label(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 64 letters, digits, '_', '-' or '.'".to_owned())
}
