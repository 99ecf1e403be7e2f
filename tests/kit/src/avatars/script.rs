//! A script for the app, as a streamer has filled it in.

/// The text of a script.
#[derive(Debug, Clone)]
pub struct LuaScript(String);

impl LuaScript {
    /// A script of a test's own.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The script that comes with the connector, with the address of the daemon and the token filled in.
    pub fn pontoon(url: &str, token: &str) -> Self {
        let script = Self::new(include_str!("../../../../connectors/streamavatars/pontoon.lua"));
        script.text("pontoon_url", url).text("pontoon_token", token)
    }

    /// Fills in a setting at the top with a text.
    ///
    /// # Panics
    /// If the script has no such setting.
    #[must_use]
    pub fn text(self, setting: &str, text: &str) -> Self {
        let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
        self.code(setting, &format!("'{escaped}'"))
    }

    /// Fills in a setting at the top with Lua: `true`, or `{ 'chatMessage' }`.
    ///
    /// # Panics
    /// If the script has no such setting.
    #[must_use]
    pub fn code(self, setting: &str, code: &str) -> Self {
        let begins = format!("{setting} = ");
        let mut filled = String::new();
        let mut lines = self.0.lines();
        let mut found = false;
        while let Some(line) = lines.next() {
            if found || !line.starts_with(&begins) {
                filled.push_str(line);
            } else {
                found = true;
                filled.push_str(&begins);
                filled.push_str(code);
                // A list is closed on a separate line.
                if line.ends_with('{') {
                    lines.find(|line| *line == "}");
                }
            }
            filled.push('\n');
        }
        assert!(found, "the script has no setting {setting}");
        Self(filled)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
