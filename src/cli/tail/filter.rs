//! From what people type to a subject, with an error where no event can match it.

use std::collections::BTreeMap;

use pontoon_sdk::EventType;

use crate::cli::failure::Failure;
use crate::registry::{ConnectorType, Registry};

/// The tokens of an event's subject behind the prefix and `event`: type, instance, noun, verb, scope.
const TOKENS: usize = 5;

/// A subject to subscribe to.
#[derive(Debug)]
pub(super) struct Filter {
    /// The subject.
    pub(super) subject: String,
    /// The instance, if the filter names one.
    pub(super) instance: Option<String>,
}

impl Filter {
    /// `text` is a subject if it begins with the prefix, else what follows `<prefix>.event.`: an instance, a type, a type
    /// and an instance, the type of an event, or any subject with wildcards. What is missing at its end matches anything.
    pub(super) fn new(
        text: &str,
        prefix: &str,
        registry: &Registry,
        instances: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let wrong =
            text.split('.').any(str::is_empty) || text.chars().any(|c| c.is_whitespace() || c.is_control());
        if wrong {
            return Err(Failure::Usage(format!(
                "\"{text}\" is not a filter; write tokens with dots between them, or * and >"
            )));
        }
        let key = text.split('.').next().and_then(|first| first.split_once('='));
        if let Some((key, _)) = key {
            return Err(Failure::Usage(format!(
                "\"{text}\" is not a filter; write the value alone, without \"{key}=\": an instance, a type, `minchat.support` \
                 or `message.created`"
            )));
        }
        let events = format!("{prefix}.event.");
        let is_full = text == prefix || text.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        let Some(rest) = (if is_full { text.strip_prefix(&events) } else { Some(text) }) else {
            return Ok(Self { subject: text.to_owned(), instance: None });
        };
        let mut tokens: Vec<&str> = rest.split('.').collect();
        // The configuration may name types that begin so.
        let is_event = |noun: &str, verb: &str| {
            noun.starts_with("x-")
                || EventType::ALL.iter().any(|event| event.as_str().split_once('.') == Some((noun, verb)))
        };
        match tokens[..] {
            [name]
                if registry.get(name).is_none()
                    && (instances.contains_key(name)
                        || instances.is_empty() && !["*", ">"].contains(&name)) =>
            {
                tokens.insert(0, "*");
            }
            [noun, verb] | [noun, verb, ">"] if is_event(noun, verb) => {
                tokens.splice(0..0, ["*", "*"]);
            }
            // It would wait for ever.
            [first] | [first, _]
                if !is_full && !["*", ">"].contains(&first) && registry.get(first).is_none() =>
            {
                let known: Vec<_> = instances.keys().map(String::as_str).collect();
                return Err(Failure::Usage(format!(
                    "\"{text}\" is not an instance, a type and an instance, or the type of an event; instances here: {}; types: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") },
                    registry.iter().map(ConnectorType::name).collect::<Vec<_>>().join(", "),
                )));
            }
            _ => {}
        }
        if tokens.len() > TOKENS {
            return Err(Failure::Usage(format!(
                "\"{text}\" matches no event: a subject is <type>.<instance>.<noun>.<verb>.<scope> below {events}"
            )));
        }
        if tokens.len() < TOKENS && tokens.last() != Some(&">") {
            tokens.push(">");
        }
        let instance =
            tokens.get(1).filter(|token| !["*", ">"].contains(token)).map(|name| (*name).to_owned());
        Ok(Self { subject: format!("{events}{}", tokens.join(".")), instance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_people_write_or_a_subject() {
        let instances = BTreeMap::from([("support".to_owned(), "minchat".to_owned())]);
        let filter = |text| Filter::new(text, "acme.pontoon", &Registry::built_in(), &instances).ok();
        for (text, subject, instance) in [
            (">", "event.>", None),
            ("minchat", "event.minchat.>", None),
            ("support", "event.*.support.>", Some("support")),
            ("minchat.support", "event.minchat.support.>", Some("support")),
            ("message.created", "event.*.*.message.created.>", None),
            ("x-order.paid", "event.*.*.x-order.paid.>", None),
            ("sub0.shop.>", "event.sub0.shop.>", Some("shop")),
            ("*.*.message.created.>", "event.*.*.message.created.>", None),
            ("*.shop.gap.detected._", "event.*.shop.gap.detected._", Some("shop")),
            ("acme.pontoon.event.sub0", "event.sub0.>", None),
            ("acme.pontoon.state.>", "state.>", None),
        ] {
            let found = filter(text).unwrap();
            assert_eq!(found.subject, format!("acme.pontoon.{subject}"), "{text}");
            assert_eq!(found.instance.as_deref(), instance, "{text}");
        }
        for wrong in [
            "a b",
            "a..b",
            "sub0.shop.message.created.c1.more",
            "shop",
            "message.createt",
            "suport.>",
            "type=minchat",
        ] {
            assert!(filter(wrong).is_none(), "{wrong}");
        }
        // Without instances in the configuration, too, where any name may be one.
        let named = Filter::new("typ=message.created", "pontoon", &Registry::built_in(), &BTreeMap::new());
        let text = named.err().map(Failure::text).unwrap_or_default();
        assert!(text.contains("without \"typ=\""), "{text}");
    }
}
