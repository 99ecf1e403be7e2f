//! The settings together, and their checks.

use std::collections::BTreeMap;

use pontoon_sdk::settings::{check, escaped};
use pontoon_sdk::{Result, Subjects};

use super::ask::{ANSWER, CheckSend};
use super::heartbeat::Heartbeat;
use super::one_or_more::OneOrMore;
use super::reaction::{After, Reaction};
use super::remember::Remember;
use super::selector::Selectors;
use crate::mapping::{Document, Known, Template};

/// How many values an instance remembers by name.
const MAX_REMEMBERED: usize = 64;

/// The settings by which a connection is ready, ends, remembers and answers.
#[derive(Debug)]
pub struct Rules<D, M> {
    /// What must come before the link is ready for commands.
    pub ready_when: Selectors<D>,
    /// What means that the service refuses our credentials.
    pub refused_when: Selectors<D>,
    /// What means that there were too many requests.
    pub slow_when: Selectors<D>,
    /// What means that the connection is to be made again.
    pub reconnect_when: Selectors<D>,
    /// The values that are remembered, by their names.
    pub remember: BTreeMap<String, Remember<D>>,
    /// What is answered. Those of `heartbeat.answer` come first.
    pub on: Vec<Reaction<D, M>>,
    /// How many of `on` are those of `heartbeat.answer`.
    pub answers: usize,
    /// What keeps the connection alive.
    pub heartbeat: Heartbeat<D, M>,
}

/// What the settings of a connector are checked with.
pub struct Checks<'a, M> {
    /// The names that are known to every template.
    pub names: &'a [&'a str],
    /// The names that no remembered value can have.
    pub taken: &'a [&'a str],
    /// Whether frames have kinds.
    pub has_kinds: bool,
    /// Why `${/pointer}` cannot be filled in where a frame is answered.
    pub answered: fn(&str) -> std::result::Result<(), String>,
    /// What is known where none is.
    pub unprompted: Known<'a>,
    /// Checks what is sent.
    pub send: CheckSend<'a, M>,
}

impl<D: Document, M> Rules<D, M> {
    /// The names that are known to every template: those of secrets and of remembered values.
    pub fn names<'a>(&'a self, secrets: impl Iterator<Item = &'a String>) -> Vec<&'a str> {
        secrets.chain(self.remember.keys()).map(String::as_str).collect()
    }

    /// The rules of these settings; the second are `refused_when`, `slow_when` and `reconnect_when`.
    pub fn new(
        ready_when: Selectors<D>,
        ends: [Selectors<D>; 3],
        remember: BTreeMap<String, Remember<D>>,
        mut heartbeat: Heartbeat<D, M>,
        mut on: Vec<Reaction<D, M>>,
    ) -> Self {
        let [refused_when, slow_when, reconnect_when] = ends;
        let mut all: Vec<_> = std::mem::take(&mut heartbeat.answer).into_iter().map(Reaction::from).collect();
        let answers = all.len();
        all.append(&mut on);
        Self { ready_when, refused_when, slow_when, reconnect_when, remember, on: all, answers, heartbeat }
    }

    /// The subjects that are asked.
    pub fn asks(&self) -> Subjects {
        self.on.iter().filter_map(|reaction| Some(reaction.ask.as_ref()?.subject.clone())).collect()
    }

    /// Checks them.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub fn check(&self, checks: &Checks<'_, M>) -> Result<()> {
        let Checks { names, taken, has_kinds, answered, unprompted, send } = *checks;
        self.check_remember(taken, has_kinds)?;
        self.ready_when.check(has_kinds, false, "/ready_when")?;
        for (at, selectors) in [
            ("/refused_when", &self.refused_when),
            ("/slow_when", &self.slow_when),
            ("/reconnect_when", &self.reconnect_when),
        ] {
            selectors.check(has_kinds, true, at)?;
        }
        self.heartbeat.check(&self.remember, has_kinds, unprompted, send)?;
        for (place, reaction) in self.on.iter().enumerate() {
            let at = match place.checked_sub(self.answers) {
                Some(place) => format!("/on/{place}"),
                None => format!("/heartbeat/answer/{place}"),
            };
            reaction.when.check(has_kinds, false, &format!("{at}/when"))?;
            for (setting, names) in reaction.conditions() {
                self.check_names(names, &format!("{at}/{setting}"))?;
            }
            let known = Known { names, answered };
            let Some(ask) = &reaction.ask else {
                send(&reaction.send, known, &format!("{at}/send"))?;
                continue;
            };
            ask.check(known, send, &at)?;
            check(
                reaction.after == After::Read,
                &format!("{at}/after"),
                "what is asked is sent once the answer is there; leave this out",
            )?;
            let names = [names, &[ANSWER]].concat();
            send(&reaction.send, Known { names: &names, answered }, &format!("{at}/send"))?;
        }
        Ok(())
    }

    fn check_names(&self, names: &OneOrMore<String>, at: &str) -> Result<()> {
        names.places(at).try_for_each(|(at, name)| {
            let text = format!(
                "nothing is remembered as {name}; list it under remember, such as {name} = \"/{name}\""
            );
            check(self.remember.contains_key(name), &at, &text)
        })
    }

    fn check_remember(&self, taken: &[&str], has_kinds: bool) -> Result<()> {
        let text = format!("{} values are remembered; at most {MAX_REMEMBERED} may be", self.remember.len());
        check(self.remember.len() <= MAX_REMEMBERED, "/remember", &text)?;
        for (name, remember) in &self.remember {
            let at = format!("/remember/{}", escaped(name));
            let good = Template::is_name(name) && !taken.contains(&name.as_str());
            let text = format!(
                "this is not a name for a remembered value; write letters, digits and _, but none of {}",
                taken.join(", ")
            );
            check(good, &at, &text)?;
            if let Some(when) = &remember.when {
                when.check(has_kinds, false, &format!("{at}/when"))?;
            }
            remember.forget_when.check(has_kinds, true, &format!("{at}/forget_when"))?;
        }
        Ok(())
    }
}
