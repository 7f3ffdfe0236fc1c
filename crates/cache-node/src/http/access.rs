//! Who asks, and whether they may: tokens with scopes.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::{Choice, ConstantTimeEq};

use super::problem::Problem;
use super::route::Access;
use crate::config::{Token, TokenScope};

/// The tokens of a node, as they are compared. Holds no secret, only digests.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<Known>);

#[derive(Debug)]
struct Known {
    name: String,
    digest: [u8; SHA256_OUTPUT_LEN],
    scopes: Vec<TokenScope>,
}

impl Tokens {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let known = |token: &Token| Known {
            name: token.name.clone(),
            digest: digested(token.secret.expose().as_bytes()),
            scopes: token.scopes.clone(),
        };
        Self(tokens.iter().map(known).collect())
    }

    /// The name of the token that the request shows, where tokens are asked for and it is known; and whether it may pass: 401
    /// without a known token, 403 with one that lacks the scope.
    pub(crate) fn admit(&self, access: Access, headers: &HeaderMap) -> (Option<&str>, Result<(), Problem>) {
        if self.0.is_empty() || matches!(access, Access::Public | Access::Anybody) {
            return (None, Ok(()));
        }
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
        let Some(known) = shown.and_then(|shown| self.find(shown)) else {
            let why = if shown.is_some() { "the bearer token is wrong" } else { "a bearer token is needed" };
            let refused = Problem::new(StatusCode::UNAUTHORIZED, why)
                .field("authorization")
                .cure("send `Authorization: Bearer <token>` with a token that the node was given")
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return (None, Err(refused));
        };
        let admitted = match access {
            Access::Needs(scope) if !known.has(scope) => {
                let why = format!("the token {:?} lacks the scope `{scope}`", known.name);
                Err(Problem::new(StatusCode::FORBIDDEN, why)
                    .field("authorization")
                    .cure(format!("use a token with the scope `{scope}` or `admin`"))
                    .header(header::WWW_AUTHENTICATE, insufficient(scope)))
            }
            _ => Ok(()),
        };
        (Some(&known.name), admitted)
    }

    /// Looks at every token, and at all bytes of digests that have one length: the time that it takes tells neither which
    /// one it was nor how much of it was right.
    fn find(&self, shown: &[u8]) -> Option<&Known> {
        let shown = digested(shown);
        let mut found = None;
        for known in &self.0 {
            let same: Choice = known.digest.ct_eq(&shown);
            if bool::from(same) {
                found = Some(known);
            }
        }
        found
    }
}

impl Known {
    fn has(&self, scope: TokenScope) -> bool {
        self.scopes.iter().any(|has| *has == scope || *has == TokenScope::Admin)
    }
}

fn digested(text: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest(&SHA256, text).as_ref());
    bytes
}

fn insufficient(scope: TokenScope) -> HeaderValue {
    HeaderValue::from_static(match scope {
        TokenScope::Read => "Bearer error=\"insufficient_scope\", scope=\"read\"",
        TokenScope::Write => "Bearer error=\"insufficient_scope\", scope=\"write\"",
        TokenScope::Invalidate => "Bearer error=\"insufficient_scope\", scope=\"invalidate\"",
        TokenScope::Admin => "Bearer error=\"insufficient_scope\", scope=\"admin\"",
    })
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn tokens() -> Tokens {
        let token = |name: &str, secret: &str, scopes: &[TokenScope]| Token {
            name: name.to_owned(),
            secret: Secret::new(secret),
            scopes: scopes.to_vec(),
        };
        Tokens::new(&[
            token("reader", "aaaa", &[TokenScope::Read]),
            token("ops", "bbbbbb", &[TokenScope::Invalidate, TokenScope::Write]),
            token("boss", "cc", &[TokenScope::Admin]),
        ])
    }

    fn admitted(access: Access, shown: &str) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::try_from(shown).unwrap());
        let tokens = tokens();
        let (name, admitted) = tokens.admit(access, &headers);
        admitted.map(|()| name.map(str::to_owned)).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn a_token_does_what_its_scopes_say_and_admin_does_everything() {
        for scope in TokenScope::ALL {
            let access = Access::Needs(scope);
            assert_eq!(admitted(access, "Bearer cc"), Ok(Some("boss".into())));
            let reader = if scope == TokenScope::Read { Ok(Some("reader".into())) } else { Err(403) };
            assert_eq!(admitted(access, "bearer aaaa"), reader, "{scope}");
            let ops = [TokenScope::Write, TokenScope::Invalidate].contains(&scope);
            assert_eq!(admitted(access, "Bearer bbbbbb").is_ok(), ops, "{scope}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_whatever_the_route() {
        for shown in ["Bearer aaa", "Bearer aaaaa", "Bearer ", "aaaa", "Basic aaaa", "Bearer AAAA"] {
            assert_eq!(admitted(Access::Needs(TokenScope::Read), shown), Err(401), "{shown}");
            assert_eq!(admitted(Access::Public, shown), Ok(None), "{shown}");
        }
    }

    #[test]
    fn what_is_kept_of_a_token_does_not_show_it() {
        assert!(!format!("{:?}", tokens()).contains("bbbbbb"));
    }
}
