//! A script that has dialled in: who it is, what it says, and how much it is told at a time.

use pontoon_sdk::event::ServiceError;
use pontoon_sdk::listener::{Accept, Handshake};
use pontoon_sdk::mask::Mask;
use pontoon_sdk::rate::Bucket;
use pontoon_sdk::websocket::Frame;
use pontoon_sdk::{Code, Command, End, Error, EventType, Join, Kind, Object, Outbox, Raw, Result, Session};
use serde::Serialize;

use crate::config::Listen;
use crate::operations::{Order, main_script};
use crate::peer::{self, Place};
use crate::session::{ended, event, said};

/// One connection of a script.
pub(crate) struct Script {
    place: Place,
    bucket: Option<Bucket>,
    /// Hides the token, should the script say it again.
    mask: Option<Mask>,
    /// Whether a token was taken from the bucket for the next frame.
    token: bool,
}

/// What we say by ourselves.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

/// Who has come: a script shows the token as a subprotocol, or in its first message.
///
/// # Errors
/// `Auth` if the token is wrong, `Rejected` if the title is.
pub(crate) fn authorize(handshake: &Handshake<'_, Frame>, listen: Option<&Listen>) -> Result<Accept> {
    let token = listen.ok_or_else(|| Error::auth("nobody is let in here"))?.token.reveal()?;
    let in_query = handshake.parameter("title").map(str::to_owned);
    let Some(first) = handshake.first else {
        let Some(shown) = handshake.subprotocols.first() else { return Ok(Accept::Hear) };
        let known = handshake.subprotocols.iter().find(|shown| is_same(shown, &token)).unwrap_or(shown);
        prove(known, &token)?;
        return enter(in_query, Some(known.clone()));
    };
    let (words, _) = first.object().map_err(|_| Error::auth(NO_AUTH))?;
    match (kind(&words).as_deref(), words.value::<String>("token")) {
        (Some("auth"), Some(shown)) => {
            prove(&shown, &token)?;
            enter(words.value("title").or(in_query), None)
        }
        _ => Err(Error::auth(NO_AUTH)),
    }
}

const NO_AUTH: &str = r#"the first message must be {"type":"auth","token":"…"}"#;

/// What a script says that it sends; what is not known is a message.
fn kind(words: &Object<'_>) -> Option<String> {
    words.value("type")
}

fn prove(shown: &str, token: &str) -> Result<()> {
    if is_same(shown, token) { Ok(()) } else { Err(Error::auth("the token is wrong")) }
}

/// Compares without telling by its time how much is the same.
fn is_same(shown: &str, token: &str) -> bool {
    let differing = shown.bytes().zip(token.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
    shown.len() == token.len() && differing == 0
}

fn enter(title: Option<String>, subprotocol: Option<String>) -> Result<Accept> {
    let title = title.unwrap_or_else(main_script);
    if let Some(wrong) = peer::fault(&title) {
        return Err(Error::rejected(Code::BadBody, wrong));
    }
    Ok(Accept::In { link: Place::Script(title).key(), subprotocol })
}

impl Script {
    pub(crate) fn new(place: Place, listen: Option<&Listen>) -> Self {
        let bucket = listen.map(|listen| Bucket::new(listen.rate_limit));
        Self { place, bucket, mask: listen.map(|listen| Mask::new(&listen.token)), token: false }
    }

    fn tell(kind: &str, title: Option<&str>, out: &mut Outbox<Frame>) -> Result<()> {
        let text = serde_json::to_string(&Told { kind, title })
            .map_err(|error| Error::internal(error.to_string()))?;
        out.send(Frame::text(text));
        Ok(())
    }
}

impl Session for Script {
    type Frame = Frame;
    type Request = Order;

    fn open(&mut self, _joins: &[Join], out: &mut Outbox<Frame>) -> Result<()> {
        Self::tell("welcome", Some(self.place.title()), out)?;
        out.ready();
        out.publish(event(EventType::SocketOpened, &self.place, ""));
        Ok(())
    }

    fn decode(&mut self, frame: &Frame, out: &mut Outbox<Frame>) -> Result<()> {
        let hidden = self.mask.as_ref().and_then(|mask| mask.hide(frame));
        let frame = hidden.as_ref().unwrap_or(frame);
        if let (Frame::Binary(bytes), Err(error)) = (frame, Raw::document(frame.bytes())) {
            let size = bytes.len();
            return Err(Error::protocol(format!("a binary frame of {size} bytes: {}", error.message())));
        }
        let words = frame.object().ok().and_then(|(words, raw)| Some((kind(&words)?, words, raw)));
        match words.as_ref().map(|(kind, words, raw)| (kind.as_str(), words, raw)) {
            Some(("heartbeat", ..)) => Self::tell("heartbeat", None, out)?,
            // It is in already. What it shows is not published.
            Some(("auth", ..)) => {}
            Some(("error", words, raw)) => {
                out.publish(fault(&self.place, words.words("message"), raw.clone()))
            }
            words => {
                let mut event = said(&self.place, frame);
                // The app's name for what has happened.
                if let Some(name) = words.and_then(|(_, words, _)| words.value::<String>("event")) {
                    event = event.upstream(name);
                }
                out.publish(event);
            }
        }
        Ok(())
    }

    fn takes(&mut self, out: &mut Outbox<Frame>) -> bool {
        match &mut self.bucket {
            Some(bucket) if !self.token => match bucket.take(out.now()) {
                Ok(()) => self.token = true,
                Err(at) => out.wake_at(at),
            },
            Some(_) => {}
            None => self.token = true,
        }
        self.token
    }

    fn encode(&mut self, order: Order, command: Command, out: &mut Outbox<Frame>) -> Result<()> {
        match order {
            Order::Say { text, .. } => {
                self.token = false;
                out.send_for(command.id, Frame::text(text));
                Ok(())
            }
            _ => Err(Error::internal(format!("{} is not for a script", command.operation))),
        }
    }

    fn ended(&mut self, end: &End, out: &mut Outbox<Frame>) -> Kind {
        out.publish(ended(&self.place, end));
        end.kind
    }
}

/// What a script could not do.
fn fault(place: &Place, message: Option<String>, raw: Raw) -> pontoon_sdk::Event {
    let mut event =
        pontoon_sdk::Event::new(EventType::ErrorRaised, raw).scope(place.title()).upstream("error");
    event.fields.title = Some(place.title().to_owned());
    event.fields.error = Some(ServiceError { code: None, message, details: None });
    event
}
