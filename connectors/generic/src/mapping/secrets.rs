//! Secrets by name, for templates.

use std::collections::BTreeMap;
use std::fmt;

use pontoon_sdk::settings::{check, escaped};
use pontoon_sdk::{Error, Param, Redactor, Result, Secret};
use serde_json::Value;

use super::template::{Known, Part, Template, ValueOf, check_text, parts};

/// The texts of secrets by their names, as they were at one connect.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Looks them up.
    ///
    /// # Errors
    /// `Auth` if one is not there: what we should show the service is missing, and that is not tried in haste.
    pub fn reveal(named: &BTreeMap<String, Secret>) -> Result<Self> {
        let revealed = named.iter().map(|(name, secret)| {
            let text = secret.reveal().map_err(|error| Error::auth(error.message()))?;
            Ok((name.clone(), text))
        });
        revealed.collect::<Result<_>>().map(Self)
    }

    /// Checks that a template can have the names, and that none is taken.
    ///
    /// # Errors
    /// `Config`, with the place in the setting `secrets`.
    pub fn check_names(named: &BTreeMap<String, Secret>, taken: &[&str]) -> Result<()> {
        for name in named.keys() {
            let good = Template::is_name(name) && !taken.contains(&name.as_str());
            let wrong = format!(
                "this is not a name for a secret; write letters, digits and _, but none of {}",
                taken.join(", ")
            );
            check(good, &format!("/secrets/{}", escaped(name)), &wrong)?;
        }
        Ok(())
    }

    /// The secret of this name, as JSON for a template.
    pub fn json(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|secret| Value::from(secret.as_str()).to_string())
    }

    /// A text of the service without the secrets: it may repeat them in a refusal.
    pub fn masked(&self, text: &str) -> String {
        self.redactor().text(text).into_owned()
    }

    /// What takes them out of texts.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.0.values().cloned())
    }
}

/// Parameters in whose texts `${name}` stands for the secret of that name: such a one is a secret itself. `at` is where they
/// stand in the configuration.
///
/// # Errors
/// `Config` if a name is not that of a secret, with the place.
pub fn with_secrets(
    params: &BTreeMap<String, Param>,
    named: &BTreeMap<String, Secret>,
    at: &str,
) -> Result<Vec<(String, Param)>> {
    let names: Vec<_> = named.keys().map(String::as_str).collect();
    check_params(params, &names, at)?;
    Ok(filled(params, named, &|_| None))
}

/// Checks a text in which no frame is answered.
///
/// # Errors
/// `Config` if a name is not one of these.
pub(crate) fn check_unprompted(text: &str, names: &[&str], at: &str) -> Result<()> {
    let answered =
        |pointer: &str| Err(format!("${{{pointer}}} stands for a part of a frame, and there is none yet"));
    check_text(text, Known { names, answered }, at)
}

/// Checks the names in a query or in headers.
///
/// # Errors
/// `Config`, with the place.
pub(crate) fn check_params(params: &BTreeMap<String, Param>, names: &[&str], at: &str) -> Result<()> {
    params.iter().try_for_each(|(name, param)| match param {
        Param::Plain(text) => check_unprompted(text, names, &format!("{at}/{}", escaped(name))),
        Param::Secret(_) => Ok(()),
    })
}

/// Parameters with what the names in their texts stand for: secrets, or the texts of other names. One with a name that stands
/// for nothing is left out.
pub(crate) fn filled(
    params: &BTreeMap<String, Param>,
    secrets: &BTreeMap<String, Secret>,
    text_of: ValueOf<'_>,
) -> Vec<(String, Param)> {
    let filled = params.iter().filter_map(|(name, param)| {
        let Param::Plain(text) = param else { return Some((name.clone(), param.clone())) };
        let parts = parts(text).into_iter().map(|part| match part {
            Part::Text(text) => Some(Param::from(text)),
            Part::Name(name) => {
                let secret = secrets.get(name).map(|secret| Param::Secret(secret.clone()));
                secret.or_else(|| text_of(name).map(Param::Plain))
            }
        });
        let parts: Vec<_> = parts.collect::<Option<_>>()?;
        let has_secrets = parts.iter().any(|part| matches!(part, Param::Secret(_)));
        let plain = || Param::Plain(Template::fill(text, text_of));
        Some((name.clone(), if has_secrets { Secret::joined(parts).into() } else { plain() }))
    });
    filled.collect()
}

/// Shows the names only.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_sdk::Kind;

    #[test]
    fn secrets_are_masked_and_do_not_print() {
        let named = |text: &str| BTreeMap::from([("key".to_owned(), Secret::plain(text))]);
        let secrets = Secrets::reveal(&named("hunter2")).unwrap();
        assert_eq!(secrets.json("key").as_deref(), Some("\"hunter2\""));
        assert_eq!(secrets.json("other"), None);
        assert_eq!(secrets.masked("no hunter2 here"), "no *** here");
        assert!(!format!("{secrets:?}").contains("hunter2"));
        assert_eq!(Secrets::reveal(&named("a")).unwrap().masked("a cat"), "a cat");
        assert_eq!(Secrets::reveal(&named(" ")).unwrap_err().kind(), Kind::Auth);
    }
}
