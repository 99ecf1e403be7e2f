//! What is asked over NATS for a frame.

use pontoon_sdk::settings::check;
use pontoon_sdk::{Result, Subjects};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::mapping::{Known, Template};

/// Checks what a setting sends, with the names that are known to it, at its place.
pub(crate) type CheckSend<'a, M> = &'a dyn Fn(&M, Known<'_>, &str) -> Result<()>;

/// Stands for what was answered.
pub(super) const ANSWER: &str = "answer";
/// Stands for why there is no answer.
pub(super) const ERROR: &str = "error";

/// A request over NATS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "M: Deserialize<'de>")]
#[schemars(rename = "Ask", bound = "M: JsonSchema")]
pub struct Ask<M> {
    /// The subject that it goes to. The daemon's user of NATS needs the right to publish there.
    pub subject: String,
    /// What is asked; the whole frame if it is left out.
    pub body: Option<Template>,
    /// What is sent if there is no answer; `${error}` stands for why.
    pub failed: M,
}

impl<M> Ask<M> {
    /// Checks it. `at` is where its reaction stands, `known` what its frame and the configuration give.
    ///
    /// # Errors
    /// `Config`, with the place.
    pub(super) fn check(&self, known: Known<'_>, send: CheckSend<'_, M>, at: &str) -> Result<()> {
        let subjects = Subjects::from_iter([self.subject.clone()]);
        let at_subject = format!("{at}/ask/subject");
        check(
            subjects.allow(&self.subject) && subjects.check("").is_ok(),
            &at_subject,
            "this is not a subject; write names with dots between them, such as \"app.orders.new\"",
        )?;
        for name in [ANSWER, ERROR] {
            let text = format!("{name} stands for something else here; give it another name");
            check(!known.names.contains(&name), &at_subject, &text)?;
        }
        if let Some(body) = &self.body {
            body.check(known, &format!("{at}/ask/body"))?;
        }
        let names = [known.names, &[ERROR]].concat();
        send(&self.failed, Known { names: &names, ..known }, &format!("{at}/ask/failed"))
    }
}
