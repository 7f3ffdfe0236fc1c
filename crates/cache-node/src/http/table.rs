//! The routes as requests meet them: what a path asks for is known before anything is done for it.

use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use matchit::{InsertError, Router};

use super::App;
use super::route::{Access, AtOnce, Route};
use crate::config::TokenScope;
use crate::metrics::requests::Group;

/// The routes by their paths, as the router of their handlers matches them.
pub(crate) struct Table {
    known: Vec<Known>,
    places: Router<usize>,
}

/// What is known about a path.
pub(crate) struct Known {
    /// As routes spell it: `/cache/{cache_type}/{*resource}`.
    pub(crate) path: &'static str,
    pub(crate) group: Group,
    access: Vec<(Method, Access)>,
    at_once: Option<AtOnce>,
}

impl Table {
    /// # Errors
    /// Two of the paths match the same requests.
    pub(crate) fn of(routes: &[Route]) -> Result<Self, InsertError> {
        let (mut known, mut places) = (Vec::<Known>::new(), Router::new());
        for route in routes.iter().filter(|route| route.handler.is_some()) {
            let access = (route.method.clone(), route.access);
            match known.iter_mut().find(|known| known.path == route.path) {
                Some(known) => {
                    known.access.push(access);
                    known.at_once = known.at_once.or(route.at_once);
                }
                None => {
                    places.insert(route.path, known.len())?;
                    known.push(Known {
                        path: route.path,
                        group: Group::of(route.path),
                        access: vec![access],
                        at_once: route.at_once,
                    });
                }
            }
        }
        Ok(Self { known, places })
    }

    /// What is at a path.
    pub(crate) fn find(&self, path: &str) -> Option<&Known> {
        self.known.get(*self.places.at(path).ok()?.value)
    }
}

impl Known {
    /// What a request needs here; nothing where the path does not have the method.
    pub(crate) fn access(&self, method: &Method) -> Option<Access> {
        let asked = if method == Method::HEAD { &Method::GET } else { method };
        self.access.iter().find(|(method, _)| method == asked).map(|(_, access)| *access)
    }

    /// The answer to a request that may pass, where none has to be waited for.
    pub(crate) fn at_once(&self, app: &App, request: &Request) -> Option<Response> {
        self.at_once.filter(|_| request.method() == Method::GET)?(app, request)
    }
}

/// What a request needs where nothing is, and for methods that a path does not have: who may not even read does not learn
/// what there is.
pub(crate) const OF_NOTHING: Access = Access::Needs(TokenScope::Read);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_with_what_its_methods_need() {
        let table = Table::of(&super::super::routes()).unwrap();
        let entry = table.find("/cache/gpu_pricing/a/b%2Fc").unwrap();
        assert_eq!(entry.path, "/cache/{cache_type}/{*resource}");
        assert_eq!(entry.access(&Method::GET), Some(Access::Needs(TokenScope::Read)));
        assert_eq!(entry.access(&Method::HEAD), Some(Access::Needs(TokenScope::Read)));
        assert_eq!(entry.access(&Method::PUT), Some(Access::Needs(TokenScope::Write)));
        assert_eq!(entry.access(&Method::DELETE), Some(Access::Needs(TokenScope::Invalidate)));
        assert_eq!(entry.access(&Method::PATCH), None);
        assert!(table.find("/cache").is_none());
        assert_eq!(table.find("/").unwrap().access(&Method::GET), Some(Access::Public));
    }
}
