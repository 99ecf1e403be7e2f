//! A request over HTTP that is made before a link is dialled.

use crate::secret::Param;

/// One request. Its answer is at most 64 KiB, and no redirect is followed.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method, such as `POST`.
    pub method: String,
    /// `http://` or `https://`, without secrets.
    pub url: String,
    /// Headers, besides those that HTTP needs.
    pub headers: Vec<(String, Param)>,
    /// The body, if there is one.
    pub body: Option<Param>,
}
