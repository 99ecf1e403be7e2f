//! What callers can ask for.

use pontoon_sdk::{AnyJson, operations};

operations! {
    /// What callers can ask for.
    pub enum Request {
        /// Calls a resource with the body as its payload; the header Pontoon-Action names the action.
        Call(AnyJson) = "call" / "resource", Response;
    }
}
