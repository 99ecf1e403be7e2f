//! Secrets by name, for templates.

use std::collections::BTreeMap;
use std::fmt;

use pontoon_sdk::settings::{check, escaped};
use pontoon_sdk::{Error, Redactor, Result, Secret};
use serde_json::Value;

use super::template::Template;

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
