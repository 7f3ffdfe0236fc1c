//! The dashboard: static files that are part of the program, under `/ui/`.
//!
//! They hold nothing secret and need no token; what they show they ask for with the user's. Browsers keep them and ask each
//! time whether they are still right (`ETag`), so that a node with a newer program is never shown with older files.

use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use xxhash_rust::xxh3::xxh3_64;

use super::problem::Problem;
use super::route::{Access, Route};

/// Scripts and styles of this node alone, no script in a page, questions to nobody else, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($name:literal $kind:ident),+ $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/ui/", $name)))),+]
    };
}

/// Name under `/ui/`, type, content.
const FILES: &[(&str, &str, &[u8])] = files![
    "index.html" HTML,
    "style.css" CSS,
    "icon.svg" SVG,
    "theme.js" SCRIPT,
    "app.js" SCRIPT,
    "api.js" SCRIPT,
    "live.js" SCRIPT,
    "dom.js" SCRIPT,
    "format.js" SCRIPT,
    "chart.js" SCRIPT,
    "token.js" SCRIPT,
    "views/overview.js" SCRIPT,
    "views/events.js" SCRIPT,
    "views/keys.js" SCRIPT,
    "views/invalidate.js" SCRIPT,
    "views/market.js" SCRIPT,
    "views/bookings.js" SCRIPT,
    "views/targets.js" SCRIPT,
];

/// A file, ready to be sent.
struct File {
    name: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    packed: Vec<u8>,
    tag: String,
}

/// Packed when the first browser asks: most nodes are never looked at.
static READY: LazyLock<Vec<File>> = LazyLock::new(|| {
    let ready = |&(name, kind, plain): &(&'static str, &'static str, &'static [u8])| {
        let tag = format!("\"{:016x}\"", xxh3_64(plain));
        File { name, kind, plain, packed: packed(plain), tag }
    };
    FILES.iter().map(ready).collect()
});

fn packed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Into memory nothing fails; if it did, the file goes unpacked.
    encoder.write_all(plain).and_then(|()| encoder.finish()).unwrap_or_else(|_| plain.to_vec())
}

/// `/` leads to `/ui/`, and there are the files.
pub(crate) fn routes() -> Vec<Route> {
    let lead = || async { Redirect::temporary("/ui/") };
    let there = "The dashboard is at /ui/.";
    let page = |headers: HeaderMap| async move { sent("index.html", &headers) };
    let file = |Path(file): Path<String>, headers: HeaderMap| async move { sent(&file, &headers) };
    vec![
        Route::get("/", Access::Public, "Leads to the dashboard.", lead).leads(307, there),
        Route::get("/ui", Access::Public, "Leads to the dashboard.", lead).leads(307, there),
        Route::get("/ui/", Access::Public, "The dashboard.", page).answer_as::<String>(
            200,
            "text/html",
            "The page.",
        ),
        Route::get("/ui/{*file}", Access::Public, "Files of the dashboard.", file)
            .at("file", "The name of a file.")
            .answer_as::<String>(200, "text/javascript", "The file, in the type that its name says.")
            .problem(404, "There is no such file."),
    ]
}

fn sent(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = READY.iter().find(|file| file.name == name) else {
        return Problem::new(StatusCode::NOT_FOUND, format!("the dashboard has no file {name:?}"))
            .cure("it begins at /ui/")
            .into_response();
    };
    let mut headers = HeaderMap::new();
    let mut say =
        |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    say(header::CONTENT_TYPE, file.kind);
    say(header::CACHE_CONTROL, "no-cache");
    say(header::VARY, "accept-encoding");
    say(header::CONTENT_SECURITY_POLICY, POLICY);
    say(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(header::REFERRER_POLICY, "no-referrer");
    let pack = accepts_gzip(asked) && file.packed.len() < file.plain.len();
    // What is packed is another representation, with a tag of its own.
    let tag = if pack { file.tag.replacen('"', "\"gz", 1) } else { file.tag.clone() };
    if let Ok(value) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, value);
    }
    if listed(asked, &header::IF_NONE_MATCH).any(|known| known.trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if pack {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        return (headers, file.packed.as_slice()).into_response();
    }
    (headers, file.plain).into_response()
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    listed(asked, &header::ACCEPT_ENCODING).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim() == "gzip" && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// The parts of a header that is a list.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn asking(headers: &[(HeaderName, &'static str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn below(folder: &Path, under: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{under}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                below(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served_and_stays_readable() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let mut there = BTreeSet::new();
        below(&folder, "", &mut there);
        assert_eq!(FILES.iter().map(|file| file.0.to_owned()).collect::<BTreeSet<_>>(), there);
        for (name, _, content) in FILES {
            let text = std::str::from_utf8(content).unwrap();
            assert!(text.lines().count() < 500, "{name}");
            // Nothing of elsewhere, nothing that the policy would refuse, no text that becomes markup.
            let strange = ["https://", "<style", "javascript:", "innerHTML", "insertAdjacentHTML", "eval("];
            let found = strange.iter().find(|word| text.contains(**word));
            assert_eq!(found, None, "{name}");
            assert!(*name == "index.html" || !text.contains("<script"), "{name}");
        }
    }

    #[test]
    fn a_page_may_do_nothing_beyond_its_own_node() {
        let page = sent("index.html", &HeaderMap::new());
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        let rules: Vec<&str> = policy.split(';').map(str::trim).collect();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(rules.contains(&rule), "{rule} is not in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(page.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(page.headers()[header::REFERRER_POLICY], "no-referrer");
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        for coding in ["identity", "gzip, br"] {
            let first = sent("app.js", &asking(&[(header::ACCEPT_ENCODING, coding)]));
            assert_eq!(first.status(), StatusCode::OK);
            assert_eq!(first.headers().contains_key(header::CONTENT_ENCODING), coding != "identity");
            let tag = first.headers()[header::ETAG].clone();
            let mut again = asking(&[(header::ACCEPT_ENCODING, coding)]);
            again.insert(header::IF_NONE_MATCH, tag);
            assert_eq!(sent("app.js", &again).status(), StatusCode::NOT_MODIFIED);
            assert_eq!(sent("api.js", &again).status(), StatusCode::OK, "another file has another tag");
        }
        assert!(!accepts_gzip(&asking(&[(header::ACCEPT_ENCODING, "br, gzip;q=0")])));
        assert_eq!(sent("../Cargo.toml", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }
}
