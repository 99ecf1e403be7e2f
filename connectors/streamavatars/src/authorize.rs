//! Who may connect as a script: the token is a subprotocol, or in the first message.

use pontoon_sdk::listener::{Accept, Handshake};
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, Error, Result};

use crate::config::Listen;
use crate::decode::kind;
use crate::peer::{Peer, Title};

const NO_AUTH: &str = r#"the first message must be {"type":"auth","token":"…"}"#;

/// Checks the token of a connection, and names its link by the title.
///
/// # Errors
/// `Auth` if the token is wrong, `Rejected` if the title is.
pub(crate) fn authorize(handshake: &Handshake<'_, Frame>, listen: Option<&Listen>) -> Result<Accept> {
    let listen = listen.ok_or_else(|| Error::auth("no script may connect here"))?;
    let token = listen.token.reveal()?;
    let title_in_query = handshake.parameter("title").map(str::to_owned);
    let Some(first) = handshake.first else {
        let offered = handshake.subprotocols;
        let Some(shown) = offered.iter().find(|shown| is_same(shown, &token)).or(offered.first()) else {
            return Ok(Accept::AfterFirstMessage);
        };
        check_token(shown, &token)?;
        return accept(title_in_query, Some(shown.clone()));
    };
    let (object, _) = first.object().map_err(|_| Error::auth(NO_AUTH))?;
    match (kind(&object).as_deref(), object.value::<String>("token")) {
        (Some("auth"), Some(shown)) => {
            check_token(&shown, &token)?;
            accept(object.value("title").or(title_in_query), None)
        }
        _ => Err(Error::auth(NO_AUTH)),
    }
}

fn check_token(shown: &str, token: &str) -> Result<()> {
    if is_same(shown, token) { Ok(()) } else { Err(Error::auth("the token is wrong")) }
}

/// Compares in a time that does not depend on how much is the same.
fn is_same(shown: &str, token: &str) -> bool {
    let differing = shown.bytes().zip(token.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    shown.len() == token.len() && differing == 0
}

fn accept(title: Option<String>, subprotocol: Option<String>) -> Result<Accept> {
    let title = title.map_or_else(|| Ok(Title::main()), Title::try_from);
    let title = title.map_err(|wrong| Error::rejected(Code::BadBody, wrong))?;
    Ok(Accept::As { link: Peer::Script(title).key(), subprotocol })
}
