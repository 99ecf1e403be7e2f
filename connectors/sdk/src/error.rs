//! Errors as instructions: the kind of an error is what will be done about it.

use std::fmt;

use crate::url::Fault;

/// A result whose error decides what the daemon does next.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault something is, and therefore what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The operator's: the instance does not start, or waits for a new configuration.
    Config,
    /// The operator's: credentials were refused. Retried slowly, logged loudly.
    Auth,
    /// The service's: the frame is published as `frame.unrecognised` and counted; the session goes on.
    Protocol,
    /// The caller's: the caller gets it as the reply, and nothing is sent.
    Rejected,
    /// The network's: the link is dialled again after a backoff.
    Disconnected,
    /// Not to be tried again soon: the service asks for fewer attempts, or the next one would end the same way. The link
    /// is dialled again slowly.
    Throttled,
    /// Ours: logged loudly, and the session starts over.
    Internal,
}

/// The code of a refused or failed command, as its caller sees it in `Nats-Service-Error-Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Code {
    /// The body is not what the operation takes.
    BadBody = 400,
    /// The caller may not do this.
    Forbidden = 403,
    /// There is no such instance, link or operation.
    NotFound = 404,
    /// The command's time ran out before it was sent.
    Expired = 408,
    /// The idempotency key was used for another body.
    KeyReused = 409,
    /// The body is larger than the service or the daemon takes.
    TooLarge = 413,
    /// Too many commands are under way.
    TooMany = 429,
    /// A fault of the daemon.
    Bug = 500,
    /// The service refused.
    Refused = 502,
    /// There is no connection to the service.
    NotConnected = 503,
    /// It was sent and no answer came in time.
    NoAnswer = 504,
    /// There is no room left to keep events.
    SpoolFull = 507,
}

impl Code {
    /// The number as it is sent.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// What went wrong, whose fault it is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    code: Code,
    message: String,
    pointer: Option<String>,
}

impl Error {
    /// The configuration is wrong; the message is what to write instead.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, Code::Bug, message)
    }

    /// The service refused our credentials.
    pub fn auth(message: impl Into<String>) -> Self {
        Self::new(Kind::Auth, Code::NotConnected, message)
    }

    /// The service sent something that the connector does not understand.
    pub fn protocol(message: impl Into<String>) -> Self {
        Self::new(Kind::Protocol, Code::Refused, message)
    }

    /// The caller's body or request is not acceptable; nothing was sent.
    pub fn rejected(code: Code, message: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, code, message)
    }

    /// The service refused one command; the message is the service's.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, Code::Refused, message)
    }

    /// The connection cannot be used any more.
    pub fn disconnected(message: impl Into<String>) -> Self {
        Self::new(Kind::Disconnected, Code::NotConnected, message)
    }

    /// The service asks for fewer attempts; the connection ends and is made again slowly.
    pub fn throttled(message: impl Into<String>) -> Self {
        Self::new(Kind::Throttled, Code::NotConnected, message)
    }

    /// Something that should not be possible happened in our own code.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, Code::Bug, message)
    }

    fn new(kind: Kind, code: Code, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), pointer: None }
    }

    /// Says where in the body the fault is, as a JSON pointer (RFC 6901).
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The same error with its message changed.
    pub fn map_message(self, change: impl FnOnce(&str) -> String) -> Self {
        Self { message: change(&self.message), ..self }
    }

    /// What the daemon does about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message, as in the reply.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where in the body, if that is known.
    pub fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.pointer.as_deref() {
            None => Ok(()),
            Some("") => f.write_str(" (at the top of the body)"),
            Some(pointer) => write!(f, " (at {pointer})"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Fault> for Error {
    /// A wrong URL in the configuration, at the key `url`.
    fn from(fault: Fault) -> Self {
        Self::config(fault.to_string()).at("/url")
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What the daemon would do about it.
    pub kind: Kind,
    /// The service's close code (RFC 6455 §7.4), if it sent one.
    pub code: Option<u16>,
    /// As text: the service's, where it gave one.
    pub reason: String,
    /// Whether it was closed, by the service or by us, and did not break.
    pub orderly: bool,
}

impl End {
    /// A connection that was lost: the link is dialled again.
    pub fn disconnected(reason: impl Into<String>) -> Self {
        Self { kind: Kind::Disconnected, code: None, reason: reason.into(), orderly: false }
    }

    /// A connection that one side closed, with the close code if there was one.
    pub fn closed(code: Option<u16>, reason: impl Into<String>) -> Self {
        Self { code, orderly: true, ..Self::disconnected(reason) }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self { kind: error.kind, ..Self::disconnected(error.message) }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) if self.reason.is_empty() => write!(f, "closed by the service with code {code}"),
            Some(code) => write!(f, "closed by the service with code {code}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}
