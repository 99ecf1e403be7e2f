//! Operations as one table: each row becomes a variant of the connector's request, an entry of the list of operations, and
//! the reader of its body.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, schema_for};
use serde::de::DeserializeOwned;

use crate::command::{Command, DeliveryLevel};
use crate::error::{Code, Error, Result};

/// What callers can ask for: an enum with a variant for each operation. [`operations!`](crate::operations!) writes it.
pub trait Request: Sized + Send + 'static {
    /// Every operation, with the most that any instance can promise of it.
    fn operations() -> Vec<Operation>;

    /// Reads the body of a command. The daemon does so once, before [`crate::Connector::route`].
    ///
    /// # Errors
    /// `Rejected` with code 400: what is wrong, and where in the body.
    fn parse(command: &Command) -> Result<Self>;
}

/// One thing that callers can ask for.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The tokens after the instance in the subject, such as `message` or `room.join`.
    pub name: &'static str,
    /// What the rest of the subject names, such as `resource`; `None` if nothing may follow.
    pub argument: Option<&'static str>,
    /// One sentence on what it does.
    pub summary: &'static str,
    /// JSON Schema of the body. All instances share it.
    pub body: Arc<Schema>,
    /// The most that a reply can promise.
    pub delivery: DeliveryLevel,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
}

/// The body of an operation. Every type that serde reads and that has a schema is one; a type of your own implements it
/// where more is to be checked, such as that a text is not empty.
pub trait Body: Sized {
    /// JSON Schema of the body.
    fn schema() -> Schema;

    /// Reads it.
    ///
    /// # Errors
    /// `Rejected` with code 400: what is wrong, and where in the body.
    fn read(command: &Command) -> Result<Self>;
}

impl<T: DeserializeOwned + JsonSchema> Body for T {
    fn schema() -> Schema {
        schema_for!(T)
    }

    fn read(command: &Command) -> Result<Self> {
        // Serde reads a list into a struct, by the order of its fields.
        let is_list = command.body.get().starts_with('[');
        if is_list && Self::schema().get("type").is_some_and(|kind| kind == "object") {
            let text =
                format!("the body is not what {} takes: it is a list; write an object", command.operation);
            return Err(Error::rejected(Code::BadBody, text).at(""));
        }
        command.parse()
    }
}

/// Writes the enum of what callers can ask for, and its [`Request`], from one table.
///
/// A row has the sentence that callers read (its doc comment, without the last full stop), the variant with the type of
/// its body ([`Body`]; none for a body without fields), the name of the operation, the name of what may follow it in the
/// subject, the [`DeliveryLevel`] up to which a reply can go, and `idempotent` where doing it twice is the same as once.
///
/// ```
/// use pontoon_sdk::{DeliveryLevel, Request as _, operations};
/// use serde_json::Value;
/// # use schemars::JsonSchema;
/// # use serde::Deserialize;
///
/// /// The body of `room.join`.
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// pub struct Join {
///     /// The room.
///     pub room: String,
/// }
///
/// operations! {
///     /// What callers can ask for.
///     pub enum Request {
///         /// Joins a room, now and after every reconnect.
///         Join(Join) = "room.join", Acked, idempotent;
///         /// Calls a resource with the body as its payload.
///         Call(Value) = "call" / "resource", Response;
///         /// Lists the rooms.
///         List = "list", Response, idempotent;
///     }
/// }
///
/// let [join, call, list] = &Request::operations()[..] else { panic!() };
/// assert_eq!((join.name, join.summary), ("room.join", "Joins a room, now and after every reconnect"));
/// assert_eq!((call.argument, call.delivery), (Some("resource"), DeliveryLevel::Response));
/// assert!(list.idempotent && !call.idempotent);
/// ```
#[macro_export]
macro_rules! operations {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $request:ident {
            $(
                $(#[doc = $doc:literal])+
                $variant:ident $(($body:ty))? = $name:literal $(/ $argument:literal)?, $delivery:ident $(, $idempotent:ident)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        $visibility enum $request {
            $(
                $(#[doc = $doc])+
                $variant $(($body))?,
            )+
        }

        impl $crate::Request for $request {
            fn operations() -> ::std::vec::Vec<$crate::Operation> {
                static ALL: ::std::sync::LazyLock<::std::vec::Vec<$crate::Operation>> = ::std::sync::LazyLock::new(|| ::std::vec![
                    $($crate::Operation {
                        name: $name,
                        argument: $crate::operations!(@argument $($argument)?),
                        summary: ::core::concat!($($doc),+).trim_ascii().trim_end_matches('.'),
                        body: <$crate::operations!(@body $($body)?) as $crate::operations::Body>::schema().into(),
                        delivery: $crate::DeliveryLevel::$delivery,
                        idempotent: $crate::operations!(@idempotent $($idempotent)?),
                    }),+
                ]);
                ALL.clone()
            }

            fn parse(command: &$crate::Command) -> $crate::Result<Self> {
                match command.operation {
                    $($name => $crate::operations!(@parse command, $variant $(, $body)?),)+
                    operation => ::core::result::Result::Err($crate::Error::internal(::std::format!(
                        "the operation {operation} is listed, but not known"
                    ))),
                }
            }
        }
    };
    (@argument) => { ::core::option::Option::None };
    (@argument $argument:literal) => { ::core::option::Option::Some($argument) };
    (@body) => { $crate::operations::Empty };
    (@body $body:ty) => { $body };
    (@idempotent) => { false };
    (@idempotent idempotent) => { true };
    (@parse $command:ident, $variant:ident) => {
        <$crate::operations::Empty as $crate::operations::Body>::read($command).map(|_| Self::$variant)
    };
    (@parse $command:ident, $variant:ident, $body:ty) => {
        <$body as $crate::operations::Body>::read($command).map(Self::$variant)
    };
}

/// A body without fields.
#[doc(hidden)]
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

#[cfg(test)]
mod tests;
