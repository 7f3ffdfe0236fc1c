//! The query of a request whose parameters are known.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::problem::Problem;
use super::request;

/// Parameters by name, each known and given at most once.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = request::decoded(name, pair)?.into_owned();
            let value = request::decoded(value, pair)?.into_owned();
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::bad(&name, format!("there is no parameter {name:?}"))
                    .cure(format!("known are: {known}")));
            }
            if parameters.contains_key(&name) {
                return Err(Problem::bad(&name, format!("{name} is given twice")));
            }
            parameters.insert(name, value);
        }
        Ok(Self(parameters))
    }

    /// A parameter; one without a value counts as left out.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A parameter that must be there.
    pub(crate) fn needed(&self, name: &str) -> Result<String, Problem> {
        self.text(name).ok_or_else(|| Problem::bad(name, format!("{name} is missing")))
    }

    /// A parameter of a type; `what` says what it must be.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = text.parse().map(Some);
        parsed.map_err(|_| Problem::bad(name, format!("{name}: {text:?} is not {what}")))
    }

    /// A whole number from 0.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.parsed(name, "a whole number, or too large")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_given_once() {
        let query = Query::parse(Some("a=x+y&b=&n=5"), &["a", "b", "n"]).unwrap();
        assert_eq!((query.text("a").as_deref(), query.text("b")), (Some("x y"), None));
        assert_eq!(query.number::<u32>("n").unwrap(), Some(5));
        assert!(query.number::<u32>("a").is_err() && query.needed("b").is_err());
        assert!(Query::parse(Some("a=1&a=2"), &["a"]).is_err());
        assert!(Query::parse(Some("c=1"), &["a"]).is_err());
    }
}
