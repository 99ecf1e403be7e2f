//! Tests of dials against real servers: through an address guard, and through a proxy.

mod guard;
mod proxy;
