//! Who asks, from where and how often: what the live part of the configuration says about that, made ready for use.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use ipnet::IpNet;

use super::access::Tokens;
use super::limits::RateLimit;
use super::problem::Problem;
use super::route::Access;
use crate::config::{Live, TokenScope};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What the live configuration says about who may ask.
pub(crate) struct Gate {
    live: Arc<Live>,
    tokens: Tokens,
    admin: Option<RateLimit<Client>>,
    all: Option<RateLimit<Client>>,
}

/// Who has an allowance of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Client {
    Token(String),
    Address(IpAddr),
}

impl Gate {
    pub(crate) fn new(live: Arc<Live>) -> Self {
        let limits = &live.http;
        Self {
            tokens: Tokens::new(&live.auth.tokens),
            admin: limits.admin_requests_per_minute.map(|requests| RateLimit::new(requests, 60)),
            all: limits.requests_per_second.map(|requests| RateLimit::new(requests, 1)),
            live,
        }
    }

    /// Whether it was made of this very configuration.
    pub(crate) fn is_of(&self, live: &Arc<Live>) -> bool {
        Arc::ptr_eq(&self.live, live)
    }

    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The address that asks: the other end of the connection, or where that is a trusted proxy, for whom it says to ask. Of
    /// the addresses that proxies have noted, each is as trustworthy as the proxy that noted it: the last.
    pub(crate) fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut address = peer.to_canonical();
        let trusted = &self.live.http.trusted_proxies;
        if trusted.is_empty() {
            return address;
        }
        let noted = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let noted: Vec<&str> = noted.flat_map(|value| value.split(',')).map(str::trim).collect();
        for text in noted.into_iter().rev() {
            let Ok(before) = text.parse::<IpAddr>() else { break };
            if !holds(trusted, address) {
                break;
            }
            address = before.to_canonical();
        }
        address
    }

    /// The name of the token that is shown, where tokens are asked for and it is known, and whether the request may pass: 401,
    /// 403 or 429 where not. `now` in milliseconds.
    pub(crate) fn admit(
        &self,
        access: Access,
        address: IpAddr,
        headers: &HeaderMap,
        now: u64,
    ) -> (Option<&str>, Result<(), Problem>) {
        let allowed = &self.live.http.allow;
        if !allowed.is_empty() && !holds(allowed, address) {
            let refused = Problem::new(StatusCode::FORBIDDEN, format!("{address} may not use this node"))
                .cure("ask from a network that http.allow names, or add this one");
            return (None, Err(refused));
        }
        let (token, admitted) = self.tokens.admit(access, headers);
        let admitted = match admitted {
            Ok(()) => self.allowance(access, token, address, now),
            // Whoever guesses tokens does so slowly.
            Err(refused) => self
                .take(self.admin.as_ref(), "requests that are refused", None, address, now)
                .and(Err(refused)),
        };
        (token, admitted)
    }

    fn allowance(
        &self,
        access: Access,
        token: Option<&str>,
        address: IpAddr,
        now: u64,
    ) -> Result<(), Problem> {
        if matches!(access, Access::Needs(TokenScope::Invalidate | TokenScope::Admin)) {
            self.take(self.admin.as_ref(), "administrative requests", token, address, now)?;
        }
        if access != Access::Public {
            self.take(self.all.as_ref(), "requests", token, address, now)?;
        }
        Ok(())
    }

    fn take(
        &self,
        limit: Option<&RateLimit<Client>>,
        what: &str,
        token: Option<&str>,
        address: IpAddr,
        now: u64,
    ) -> Result<(), Problem> {
        let Some(limit) = limit else { return Ok(()) };
        let client =
            token.map_or_else(|| Client::Address(household(address)), |name| Client::Token(name.to_owned()));
        limit.take(&client, now).map_err(|seconds| {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, format!("too many {what} of one client"))
                .cure(format!("wait {seconds} s"))
                .header(header::RETRY_AFTER, seconds.into())
        })
    }
}

fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Of IPv6 the network of a subscriber: everybody in it can choose addresses at will.
fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NodeConfig, Secret, Token};

    fn gate(change: impl FnOnce(&mut Live)) -> Gate {
        let mut live = (*NodeConfig::default().live.current()).clone();
        change(&mut live);
        Gate::new(Arc::new(live))
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn forwarded(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&FORWARDED_FOR, (*value).parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_trusted_proxies_say_for_whom_they_ask() {
        let open = gate(|_| {});
        assert_eq!(open.address(ip("10.0.0.1"), &forwarded(&["1.2.3.4"])), ip("10.0.0.1"));
        let gate = gate(|live| live.http.trusted_proxies = nets(&["10.0.0.0/8"]));
        let asked = |peer, values: &[&'static str]| gate.address(ip(peer), &forwarded(values)).to_string();
        assert_eq!(asked("10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(asked("9.9.9.9", &["1.2.3.4"]), "9.9.9.9", "it is no proxy");
        assert_eq!(
            asked("10.0.0.1", &["6.6.6.6, 1.2.3.4", "10.0.0.2"]),
            "1.2.3.4",
            "what the client wrote itself is not believed"
        );
        assert_eq!(asked("10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
        assert_eq!(asked("::ffff:10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(asked("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn who_is_not_in_an_allowed_network_is_refused() {
        let gate = gate(|live| live.http.allow = nets(&["10.0.0.0/8", "fd00::/8"]));
        let admitted = |from| gate.admit(Access::Public, ip(from), &HeaderMap::new(), 0).1.is_ok();
        assert!(admitted("10.1.2.3") && admitted("fd00::1"));
        assert!(!admitted("11.0.0.1") && !admitted("fe00::1"));
    }

    #[test]
    fn each_token_has_its_own_allowance_and_so_have_guesses_of_an_address() {
        let gate = gate(|live| {
            live.http.admin_requests_per_minute = Some(2);
            let token = |name: &str| Token { name: name.into(), ..Token::admin(Secret::new(name)) };
            live.auth.tokens = vec![token("a"), token("b")];
        });
        let ask = |access, token: &str, from: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            let asked = gate.admit(access, ip(from), &headers, 1_000).1;
            asked.map(|_| 200).unwrap_or_else(|problem| problem.status().as_u16())
        };
        let (admin, read) = (Access::Needs(TokenScope::Admin), Access::Needs(TokenScope::Read));
        let asked: Vec<u16> = (0..3).map(|_| ask(admin, "a", "1.1.1.1")).collect();
        assert_eq!(asked, [200, 200, 429]);
        assert_eq!(ask(admin, "b", "1.1.1.1"), 200);
        assert_eq!(ask(read, "a", "1.1.1.1"), 200, "reads are not administration");
        let guessed: Vec<u16> = (0..3).map(|_| ask(read, "c", "2001:db8::1")).collect();
        assert_eq!(guessed, [401, 401, 429]);
        assert_eq!(ask(read, "c", "2001:db8::2"), 429, "the same network");
        assert_eq!(ask(read, "a", "2001:db8::2"), 200, "who knows a token is not kept out by who guesses");
    }
}
