//! Where an offer stands.

use cache_events::hash64;

/// The regions of the reference deployment.
pub const REGIONS: [&str; 3] = ["us-east", "us-west", "europe"];

/// Country codes (ISO 3166) by region. Canada stands for the west coast of North America, and what lies across the
/// Pacific is served from there.
const COUNTRIES: [(&str, &str); 3] = [
    ("us-east", "US MX BR CL CO AR"),
    ("us-west", "CA JP KR TW HK SG IN ID MY TH VN PH AU NZ"),
    ("europe", "AT BE BG CH CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LT LU LV NL NO PL PT RO SE SI SK UA"),
];

/// The region of an offer: by the first of its country codes if the table has it, else by a stable hash of the
/// provider, so that each provider stays where it is.
pub fn region_of(country_codes: &str, provider: &str) -> &'static str {
    let first = country_codes.split('|').next().unwrap_or_default();
    let known = COUNTRIES.iter().find(|(_, codes)| codes.split(' ').any(|code| code == first));
    match known {
        Some((region, _)) => region,
        None => REGIONS[(hash64([provider.as_bytes()]) % REGIONS.len() as u64) as usize],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_decides() {
        assert_eq!(region_of("US|FI", "x"), "us-east");
        assert_eq!(region_of("CA", "x"), "us-west");
        assert_eq!(region_of("JP|US", "x"), "us-west");
        assert_eq!(region_of("IS", "x"), "europe");
    }

    #[test]
    fn without_a_known_code_the_provider_decides_and_all_regions_occur() {
        assert_eq!(region_of("", "vultr"), region_of("??", "vultr"));
        for region in REGIONS {
            assert!((0..50).any(|n| region_of("", &format!("provider-{n}")) == region));
        }
    }
}
