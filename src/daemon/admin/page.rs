//! The files of the page, which are a part of the program. They hold nothing of what the daemon knows.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// Scripts, styles and requests of this origin alone; no markup of the page's runs a script (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, content type and text.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("main.js", JAVASCRIPT, include_str!("page/main.js")),
    ("instances.js", JAVASCRIPT, include_str!("page/instances.js")),
    ("cluster.js", JAVASCRIPT, include_str!("page/cluster.js")),
    ("events.js", JAVASCRIPT, include_str!("page/events.js")),
    ("wire.js", JAVASCRIPT, include_str!("page/wire.js")),
    ("command.js", JAVASCRIPT, include_str!("page/command.js")),
    ("schema.js", JAVASCRIPT, include_str!("page/schema.js")),
    ("stream.js", JAVASCRIPT, include_str!("page/stream.js")),
    ("dom.js", JAVASCRIPT, include_str!("page/dom.js")),
];

/// The page itself.
pub(super) async fn index() -> Response {
    respond("text/html; charset=utf-8", include_str!("page/index.html"))
}

/// One of its other files.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, content_type, text)) => respond(content_type, text),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
