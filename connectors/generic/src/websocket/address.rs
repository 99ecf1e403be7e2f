//! Where a link is dialled when the service says so: what is requested before a connection, and addresses that it gives.

use std::collections::BTreeMap;

use pontoon_sdk::connector::AllowList;
use pontoon_sdk::settings::{check, escaped};
use pontoon_sdk::url::Url;
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Error, HttpRequest, Param, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answer::{error_of, sentence};
use crate::headers::check_headers;
use crate::mapping::{Json, Payload, Secrets, Template, check_params};
use crate::opening::{Opening, checked_url, names};
use crate::rules::{Content, Memory, Seen, Selectors};
use crate::websocket::content::{Frames, Pointer};

/// A request over HTTP before each connection, and what its answer is for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeforeConnect {
    /// Where it goes, such as `https://api.example/connect`. Behind the host, `${name}` stands for a secret or a remembered
    /// value. No redirect is followed.
    pub url: String,
    /// Its method.
    #[serde(default = "get")]
    pub method: String,
    /// Its headers; each a text or a secret, in which `${name}` stands for a secret or a remembered value.
    #[serde(default)]
    pub headers: BTreeMap<String, Param>,
    /// Its body: a string as text, anything else as JSON.
    pub body: Option<Template>,
    /// Values of the answer that are remembered by name, and where they stand in it.
    #[serde(default)]
    pub remember: BTreeMap<String, Pointer>,
    /// The answer by which the service refuses our credentials, beyond the HTTP statuses 401 and 403.
    #[serde(default)]
    pub refused_when: Selectors<Frames>,
}

/// A remembered value that says where the next connection is made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressFrom {
    /// The name of the remembered value: a `ws://` or `wss://` URL. While it is not there, and once it cannot be dialled,
    /// `url` counts.
    pub from: String,
    /// Where it may lead: `"gateway.example"`, `"*.gateway.example"`, with `:port` only to that port. Of these hosts only to
    /// public addresses, and those of `addresses`.
    pub hosts: Vec<String>,
    /// Addresses that may be dialled although they are not public, such as `"10.1.0.0/16"`.
    #[serde(default)]
    pub addresses: Vec<String>,
}

fn get() -> String {
    "GET".to_owned()
}

impl BeforeConnect {
    /// Checks it.
    pub(crate) fn check(&self, taken: &[&str], known: &[&str]) -> Result<()> {
        let url = checked_url(&self.url, known, "/before_connect/url")?;
        Url::parse(&url, &[("http", 80), ("https", 443)])
            .map_err(|fault| Error::config(fault.to_string()).at("/before_connect/url"))?;
        let methods = ["GET", "POST", "PUT"];
        check(
            methods.contains(&self.method.as_str()),
            "/before_connect/method",
            "this is not a method that is used here; write GET, POST or PUT",
        )?;
        check_headers(&self.headers).map_err(|error| at("/before_connect", &error))?;
        check_params(&self.headers, known, "/before_connect/headers")?;
        for name in self.remember.keys() {
            let good = Template::is_name(name) && !taken.contains(&name.as_str());
            let text = format!(
                "this is not a name for a remembered value; write letters, digits and _, but none of {}",
                taken.join(", ")
            );
            check(good, &format!("/before_connect/remember/{}", escaped(name)), &text)?;
        }
        self.refused_when.check(false, false, "/before_connect/refused_when")
    }

    /// The request, with what its names stand for.
    pub(crate) fn request(&self, opening: Opening<'_>) -> Result<HttpRequest> {
        let secrets = Secrets::reveal(opening.secrets)?;
        let value_of = |name: &str| secrets.json(name).or_else(|| opening.memory.json(name));
        let body = self.body.as_ref().map(|body| body.text(&value_of));
        let mut headers = opening.headers(&self.headers);
        let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if self.body.as_ref().is_some_and(|body| !body.is_text()) && !has_type {
            headers.push(("Content-Type".to_owned(), "application/json".into()));
        }
        let body = body.map(|body| Param::Secret(Secret::plain(body)));
        Ok(HttpRequest { method: self.method.clone(), url: opening.url(&self.url), headers, body })
    }

    /// The names in its URL and its headers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.url, [&self.headers])
    }

    /// Remembers what an answer has.
    ///
    /// # Errors
    /// `Auth` if it is a refusal, `Disconnected` if it lacks what is to be remembered.
    pub(crate) fn answered(&self, body: &[u8], secrets: &Secrets, memory: &Memory) -> Result<()> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let json = Json::new(text);
        let seen = Seen { kind: None, content: Content::Json(Payload::Json(&json)) };
        if self.refused_when.matches(&seen) {
            let reason = secrets.masked(&sentence(&error_of(text)));
            return Err(Error::auth(format!(
                "the service refused the request before the connection: {reason}"
            )));
        }
        for (name, pointer) in &self.remember {
            let found =
                pointer.find(&json).filter(|found| found.trim_ascii() != "null").ok_or_else(|| {
                    let reason = secrets.masked(&sentence(&error_of(text)));
                    let at = pointer.as_str();
                    Error::disconnected(format!(
                        "the answer to the request before the connection lacks {at}: {}",
                        shortened(&reason)
                    ))
                })?;
            memory.set(name, found);
        }
        Ok(())
    }
}

/// The beginning of a text.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// The same error at a place within a setting.
fn at(setting: &str, error: &Error) -> Error {
    let place = format!("{setting}{}", error.pointer().unwrap_or_default());
    Error::config(error.message()).at(place)
}

impl AddressFrom {
    /// Where links may lead.
    pub(crate) fn allow_list(&self) -> AllowList {
        AllowList {
            hosts: self.hosts.clone(),
            addresses: self.addresses.clone(),
            proxy: false,
            pointer: "/address",
        }
    }

    /// The endpoint at the remembered address, if it is there. It is never less secure than the usual one.
    pub(crate) fn endpoint(&self, usual: &Endpoint, memory: &Memory) -> Option<Endpoint> {
        let json = memory.json(&self.from)?;
        let url: String = serde_json::from_str(&json).ok()?;
        let is_downgrade = usual.url.starts_with("wss:") && !url.starts_with("wss:");
        if is_downgrade {
            return None;
        }
        let mut endpoint = usual.clone();
        // It may hold a ticket.
        endpoint.secrets.push(Secret::plain(url.clone()));
        if let Some((_, query)) = url.split_once('?') {
            endpoint.secrets.push(Secret::plain(query));
        }
        endpoint.url = url;
        endpoint.allow_list = Some(self.allow_list());
        Some(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_service_is_restricted_and_not_less_secure() {
        let from = |text: &str| serde_json::from_str::<AddressFrom>(text).unwrap();
        let address = from(r#"{"from":"a","hosts":["*.h.example"]}"#);
        let usual = Endpoint::new("wss://h.example/").unwrap();
        let memory = Memory::default();
        assert!(address.endpoint(&usual, &memory).is_none());
        memory.set("a", "\"wss://b.h.example/?ticket=hunter2\"");
        let endpoint = address.endpoint(&usual, &memory).unwrap();
        assert_eq!(endpoint.allow_list.unwrap().hosts, ["*.h.example"]);
        assert!(endpoint.secrets.contains(&Secret::plain("ticket=hunter2")));
        for json in ["\"ws://b.h.example/\"", "5", "null"] {
            memory.set("a", json);
            assert!(address.endpoint(&usual, &memory).is_none(), "{json}");
        }
    }

    #[test]
    fn a_request_has_what_its_names_stand_for() {
        let before = r#"{"url":"https://h/${token}?s=${session}","headers":{"X-S":"${session}"},"body":{"s":"${session}"}}"#;
        let before: BeforeConnect = serde_json::from_str(before).unwrap();
        before.check(&[], &["token", "session"]).unwrap();
        assert_eq!(before.check(&[], &["token"]).unwrap_err().pointer(), Some("/before_connect/url"));
        let secrets = BTreeMap::from([("token".to_owned(), Secret::plain("a/b"))]);
        let memory = Memory::default();
        let opening = Opening { secrets: &secrets, memory: &memory };
        let body = |request: &HttpRequest| request.body.as_ref().unwrap().reveal().unwrap();
        let request = before.request(opening).unwrap();
        assert_eq!((request.url.as_str(), request.headers.len()), ("https://h/a%2Fb?s=", 1));
        assert_eq!(body(&request), r#"{"s":null}"#);
        memory.set("session", "\"x&y\"");
        let request = before.request(opening).unwrap();
        assert_eq!((request.url.as_str(), request.headers.len()), ("https://h/a%2Fb?s=x%26y", 2));
        assert_eq!(body(&request), r#"{"s":"x&y"}"#);
    }

    #[test]
    fn an_answer_gives_values_or_says_what_it_lacks() {
        let before = r#"{"url":"https://h/","remember":{"a":"/url"},"refused_when":{"where":{"/error":"invalid_auth"}}}"#;
        let before: BeforeConnect = serde_json::from_str(before).unwrap();
        let memory = Memory::default();
        let answered = |body: &str| before.answered(body.as_bytes(), &Secrets::default(), &memory);
        answered(r#"{"ok":true,"url":"wss://x"}"#).unwrap();
        assert_eq!(memory.json("a").as_deref(), Some("\"wss://x\""));
        for (body, kind, words) in [
            (r#"{"ok":false,"error":"invalid_auth"}"#, pontoon_sdk::Kind::Auth, "invalid_auth"),
            (r#"{"ok":false,"error":"other"}"#, pontoon_sdk::Kind::Disconnected, "lacks /url: other"),
            ("<html>", pontoon_sdk::Kind::Disconnected, "lacks /url"),
            ("", pontoon_sdk::Kind::Disconnected, "lacks /url"),
        ] {
            let error = answered(body).unwrap_err();
            assert_eq!(error.kind(), kind, "{body}");
            assert!(error.message().contains(words), "{error}");
        }
    }
}
