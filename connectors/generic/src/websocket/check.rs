//! Checks an instance's settings, and makes the endpoint from them.

use pontoon_sdk::json::text as text_of;
use pontoon_sdk::settings::{check, escaped, is_token};
use pontoon_sdk::websocket::Endpoint;
use pontoon_sdk::{Error, Param, Result};

use crate::encoding::Codec;
use crate::headers::check_headers;
use crate::mapping::{Base64, Json, Known, Secrets, Template, TemplateMessage, check_params};
use crate::opening::{Opening, checked_url};
use crate::rules::{Checks, Memory};
use crate::subscriptions::BODY;
use crate::websocket::config::{Config, Form, ID, Rules, SendTemplate, Subscriptions};
use crate::websocket::content::{Mapping, Pointer};
use crate::websocket::split::Split;

impl Config {
    /// Checks the settings. Returns where to connect.
    pub(crate) fn endpoint(&self, rules: &Rules) -> Result<Endpoint> {
        let names = self.names(rules);
        let url = checked_url(&self.url, &names, "/url")?;
        let mut endpoint = Endpoint::new(&url).map_err(|error| error.at("/url"))?;
        self.check_headers()?;
        self.check_subprotocols()?;
        Secrets::check_names(&self.secrets, &[TemplateMessage::NAMES.as_slice(), &[ID]].concat())?;
        self.check_encoding()?;
        self.check_events()?;
        self.check_call()?;
        self.check_frames(rules)?;
        check_params(&self.query, &names, "/query")?;
        check_params(&self.headers, &names, "/headers")?;
        let opening = Opening { secrets: &self.secrets, memory: &Memory::default() };
        endpoint.query = opening.query(&self.query);
        endpoint.headers = opening.headers(&self.headers);
        endpoint.subprotocols.clone_from(&self.subprotocols);
        endpoint.require_subprotocol = self.require_subprotocol;
        endpoint.secrets = self.secrets.values().cloned().collect();
        Ok(endpoint)
    }

    /// The names of secrets and of remembered values.
    fn names<'a>(&'a self, rules: &'a Rules) -> Vec<&'a str> {
        let before = self.before_connect.iter().flat_map(|before| before.remember.keys());
        rules.names(self.secrets.keys()).into_iter().chain(before.map(String::as_str)).collect()
    }

    fn check_headers(&self) -> Result<()> {
        let subprotocols =
            self.headers.keys().find(|name| name.eq_ignore_ascii_case("sec-websocket-protocol"));
        if let Some(name) = subprotocols {
            let text = "subprotocols have another setting; write subprotocols = [\"…\"]";
            return Err(Error::config(text).at(format!("/headers/{}", escaped(name))));
        }
        check_headers(&self.headers)
    }

    fn check_subprotocols(&self) -> Result<()> {
        for (place, subprotocol) in self.subprotocols.iter().enumerate() {
            let at = format!("/subprotocols/{place}");
            if let Param::Plain(name) = subprotocol {
                check(
                    is_token(name),
                    &at,
                    "this is not a subprotocol; write letters, digits, hyphens and dots, such as v1.json",
                )?;
                let before = self.subprotocols.iter().take(place);
                let again = before.filter(|param| *param == subprotocol).count() > 0;
                check(!again, &at, "this subprotocol is offered already; leave it out")?;
            }
        }
        check(
            !self.require_subprotocol || !self.subprotocols.is_empty(),
            "/require_subprotocol",
            "no subprotocol is offered, so that none can be picked; set subprotocols, or leave this out",
        )
    }

    fn check_encoding(&self) -> Result<()> {
        if self.codec == Codec::Json {
            return Ok(());
        }
        let taken_apart = matches!(self.split, None | Some(Split::Array | Split::Concatenated));
        check(
            taken_apart,
            "/split",
            "with this codec a frame has no lines and no characters that end messages; write \"array\" or \"concatenated\"",
        )?;
        check(
            self.binary.is_none(),
            "/binary",
            "with this codec all binary frames are read as objects and arrays; list their kinds in events, or write \
             codec = \"json\"",
        )
    }

    fn check_events(&self) -> Result<()> {
        check(
            self.events.is_empty() || !self.kind.is_empty(),
            "/events",
            "nothing says where the kind of a frame stands; set kind, such as kind = \"/type\"",
        )?;
        for (kind, mapping) in &self.events {
            let at = format!("/events/{}", escaped(kind));
            if let Some(all) = self.kind.all().filter(|all| !all.contains(&kind.as_str())) {
                let text = format!(
                    "no frame is of this kind, as kind has only {}; write one of these",
                    all.join(", ")
                );
                return Err(Error::config(text).at(at));
            }
            mapping.check(&at)?;
        }
        if let Some(mapping) = &self.text {
            check_only(
                mapping,
                "",
                "there is nothing within a text to point to, but the text as a whole",
                "/text",
            )?;
        }
        if let Some(mapping) = &self.binary {
            let what = "there is nothing within binary data to point to, but the data as base64";
            check_only(mapping, "/base64", what, "/binary")?;
        }
        Ok(())
    }

    fn check_call(&self) -> Result<()> {
        let Some(call) = &self.call else { return Ok(()) };
        let has_kinds = !self.kind.is_empty();
        for (at, selector) in [("/call/when", &call.when), ("/call/failed_when", &call.failed_when)] {
            selector.check(has_kinds, false, at)?;
        }
        let places = [("/call/id", Some(&call.id)), ("/call/answer", call.answer.as_ref())];
        for (at, pointer) in places {
            check(
                pointer.is_none_or(|pointer| !pointer.is_whole()),
                at,
                "a number by itself is not a frame; point to a field, such as \"/id\"",
            )?;
        }
        check(!call.timeout.0.is_zero(), "/call/timeout", "timeout is 0; write a time such as \"10s\"")
    }

    fn check_frames(&self, rules: &Rules) -> Result<()> {
        let mut names = self.names(rules);
        if self.call.is_some() {
            names.push(ID);
        }
        for (place, frame) in self.send_on_connect.iter().enumerate() {
            self.check_frame(frame, unprompted(&names), &format!("/send_on_connect/{place}"))?;
        }
        let taken: Vec<_> =
            self.secrets.keys().map(String::as_str).chain(TemplateMessage::NAMES).chain([ID, BODY]).collect();
        let check_send = |frame: &Template, known: Known<'_>, at: &str| self.check_frame(frame, known, at);
        let unprompted_names = unprompted(&names);
        let has_kinds = !self.kind.is_empty();
        rules.check(&Checks {
            names: &names,
            taken: &taken,
            has_kinds,
            answered,
            unprompted: unprompted_names,
            send: &check_send,
        })?;
        if let Some(call) = &self.call {
            for (name, constant) in &call.constants {
                constant.check(unprompted(&names), &format!("/call/constants/{}", escaped(name)))?;
            }
        }
        self.check_subscriptions(&names)?;
        self.check_address(rules, &taken, &self.names(rules))?;
        let Some(SendTemplate { frame, acknowledged }) = &self.send else { return Ok(()) };
        names.extend(TemplateMessage::NAMES);
        if *acknowledged {
            names.retain(|name| *name != ID);
        }
        self.check_frame(frame, unprompted(&names), "/send/frame")?;
        check(
            frame.uses("text"),
            "/send/frame",
            "no string is \"${text}\", so the caller's text would be lost; put it where the service expects the text",
        )?;
        if !*acknowledged {
            return Ok(());
        }
        self.check_numbered(frame, "/send/frame", "/send/acknowledged")
    }

    fn check_address(&self, rules: &Rules, taken: &[&str], names: &[&str]) -> Result<()> {
        if let Some(before) = &self.before_connect {
            before.check(taken, names)?;
            if let Some(body) = &before.body {
                body.check(unprompted(names), "/before_connect/body")?;
            }
        }
        let Some(address) = &self.address else { return Ok(()) };
        let is_known = rules.remember.contains_key(&address.from)
            || self.before_connect.as_ref().is_some_and(|before| before.remember.contains_key(&address.from));
        let text = format!(
            "nothing is remembered as {}; list it under remember, or before_connect.remember",
            address.from
        );
        check(is_known, "/address/from", &text)?;
        check(
            !address.hosts.is_empty(),
            "/address/hosts",
            "no host is listed, so that the address could lead nowhere; write those of the service, such as [\"*.service.example\"]",
        )
    }

    fn check_subscriptions(&self, names: &[&str]) -> Result<()> {
        let Some(Subscriptions { subscribe, unsubscribe, acknowledged, .. }) = &self.subscriptions else {
            return Ok(());
        };
        let names: Vec<_> =
            names.iter().copied().filter(|name| !acknowledged || *name != ID).chain([BODY]).collect();
        let unsubscribe = unsubscribe.iter().map(|frame| (frame, "/subscriptions/unsubscribe"));
        for (frame, at) in std::iter::once((subscribe, "/subscriptions/subscribe")).chain(unsubscribe) {
            self.check_frame(frame, Known { names: &names, answered }, at)?;
            if *acknowledged {
                self.check_numbered(frame, at, "/subscriptions/acknowledged")?;
            }
        }
        Ok(())
    }

    /// Checks that a frame has a place for the number of a call.
    fn check_numbered(&self, frame: &Template, at: &str, setting: &str) -> Result<()> {
        let Some(call) = &self.call else {
            let text = "nothing says how an answer finds what it answers; set call, or leave this out";
            return Err(Error::config(text).at(setting));
        };
        let has_place = !frame.is_text() && frame.base64().is_none();
        check(
            has_place,
            at,
            "a text and binary data have no place for the number of a call; write a JSON frame",
        )?;
        let filled = frame.text(&|_| Some("\"\"".to_owned()));
        let place = call.id.as_str();
        call.id.put(&filled, "1").map(drop).map_err(|why| {
            let text =
                format!("the number of the call is put in at {place}, where {why}; leave that place free");
            Error::config(text).at(at)
        })
    }

    /// Checks a frame to send, and that its number cannot be taken for one that a call has.
    fn check_frame(&self, frame: &Template, known: Known<'_>, at: &str) -> Result<()> {
        frame.check(known, at)?;
        if let Some(text) = frame.base64() {
            Base64::try_from(text.to_owned()).map_err(|wrong| {
                let text = format!(
                    "{wrong}; to send this object as JSON, write it as a text: '{{\"base64\":\"…\"}}'"
                );
                Error::config(text).at(format!("{at}/base64"))
            })?;
        }
        let Some(call) = self.call.as_ref().filter(|call| call.form == Form::Number) else { return Ok(()) };
        let Some(found) = number_at(&call.id, frame) else { return Ok(()) };
        let text = match found {
            Found::Number => "this number could be taken for that of a call",
            Found::Caller => "what a caller writes here could be taken for the number of a call",
        };
        let text = format!("{text}; write \"${{id}}\" at {}, or set call.form = \"text\"", call.id.as_str());
        Err(Error::config(text).at(at))
    }
}

/// What stands where a call has its number.
enum Found {
    /// A number.
    Number,
    /// What a caller gives.
    Caller,
}

fn number_at(place: &Pointer, frame: &Template) -> Option<Found> {
    let plain = frame.text(&|name| Some(format!("\"${{{name}}}\"")));
    let found: String = place.find(&Json::new(&plain)).and_then(text_of)?;
    if found.parse::<u64>().is_ok() {
        return Some(Found::Number);
    }
    let mut names = TemplateMessage::NAMES.iter().map(|name| format!("${{{name}}}"));
    // What is written around a name may be digits, too.
    names.any(|name| found.contains(&name)).then_some(Found::Caller)
}

/// Checks the mapping of frames that have but one place to point to.
fn check_only(mapping: &Mapping, place: &str, what: &str, at: &str) -> Result<()> {
    mapping.check(at)?;
    if mapping.each.is_some() {
        return Err(Error::config(format!("{what}, and no list; leave this out")).at(format!("{at}/each")));
    }
    for (field, pointer) in mapping.pointers() {
        if pointer.is_some_and(|pointer| pointer.as_str() != place) {
            let text = format!("{what}; write {field} = \"{place}\", or leave it out");
            return Err(Error::config(text).at(format!("{at}/{field}")));
        }
    }
    Ok(())
}

/// `${/pointer}` in a frame that answers another.
fn answered(pointer: &str) -> Result<(), String> {
    pointer.parse::<Pointer>().map(drop)
}

/// What is known in any other frame.
fn unprompted<'a>(names: &'a [&'a str]) -> Known<'a> {
    let nothing_answered = |pointer: &str| {
        answered(pointer)?;
        Err(format!(
            "${{{pointer}}} stands for a part of the frame that is answered; only on and heartbeat.answer answer one"
        ))
    };
    Known { names, answered: nothing_answered }
}
