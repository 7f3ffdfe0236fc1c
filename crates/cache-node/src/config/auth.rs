//! Who may ask a node for what: tokens and the scopes that they have.

use std::fmt;

use super::check::{Check, TableCheck};
use super::parse::{label, truth};
use super::secret::Secret;
use super::settings::by_name;

/// Who may do what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// One of these must be shown with a request; if there are none, everybody may do everything.
    pub tokens: Vec<Token>,
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenScope {
    /// To read: values, statistics, events.
    Read,
    /// To write values and to change the market.
    Write,
    /// To invalidate.
    Invalidate,
    /// Everything, that of the others too.
    Admin,
}

impl TokenScope {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Invalidate, Self::Admin];

    /// The name that a configuration uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Invalidate => "invalidate",
            Self::Admin => "admin",
        }
    }

    /// The scope of a name.
    ///
    /// # Errors
    /// Which names there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        by_name(&Self::ALL, Self::name, text)
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A token that requests may show. Its `Debug` does not tell the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who shows it, for the audit log.
    pub name: String,
    /// What is shown.
    pub secret: Secret,
    /// What it allows.
    pub scopes: Vec<TokenScope>,
}

impl Token {
    /// A token that allows everything.
    pub fn admin(secret: Secret) -> Self {
        Self { name: "admin".to_owned(), secret, scopes: vec![TokenScope::Admin] }
    }

    /// What can be shown as a token: what a header can carry.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn secret(text: &str) -> Result<Secret, String> {
        match text {
            "" => Err("must not be blank; leave it out for no token".to_owned()),
            text if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err("must be printable ASCII without blanks, or no header can carry it".to_owned())
            }
            text => Ok(Secret::new(text)),
        }
    }

    /// Whether it is good for something that needs a scope.
    pub fn allows(&self, scope: TokenScope) -> bool {
        self.scopes.iter().any(|own| *own == scope || *own == TokenScope::Admin)
    }
}

/// The tokens that were typed, unless they are switched off.
pub(super) fn auth(check: &mut Check<'_>, warnings: &mut Vec<String>) -> AuthConfig {
    let main = check.read("cache.auth_token", Token::secret).map(Token::admin);
    let mut names: Vec<String> = main.iter().map(|token| token.name.clone()).collect();
    let mut tokens = check.tables("auth.tokens", |table| one(table, &mut names));
    tokens.extend(main);
    let is_typed = |path| check.origin(path).is_typed();
    let typed = is_typed("cache.auth_token") || is_typed("auth.tokens");
    let require = check.read("cache.require_auth", truth);
    if require == Some(true) && !typed {
        check.wrong("cache.require_auth", "needs a token: set CACHE_AUTH_TOKEN, or switch it off");
    }
    if require == Some(false) {
        if typed {
            warnings
                .push("there are tokens but cache.require_auth is off: anybody may use the node".to_owned());
        }
        tokens.clear();
    }
    AuthConfig { tokens }
}

fn one(table: &mut TableCheck<'_>, names: &mut Vec<String>) -> Option<Token> {
    let name = table.read("name", label);
    if let Some(name) = &name {
        if names.contains(name) {
            table.wrong(Some("name"), "must not be that of another token");
        }
        names.push(name.clone());
    } else if !table.has("name") {
        table.wrong(Some("name"), "is needed: logs tell by it whose token was shown");
    }
    let scopes = table.list("scopes", TokenScope::parse);
    if !table.has("scopes") {
        table.wrong(Some("scopes"), "are needed: some of read, write, invalidate, admin");
    }
    let secret = match (table.has("token"), table.has("token_file")) {
        (true, false) => table.read("token", Token::secret),
        (false, true) => table.read("token_file", |path| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read ({error})"))?;
            Token::secret(text.trim_end()).map_err(|rule| format!("what it holds {rule}"))
        }),
        _ => {
            table.wrong(None, "needs either token or token_file");
            None
        }
    };
    Some(Token { name: name?, secret: secret?, scopes: scopes? })
}
