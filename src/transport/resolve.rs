//! Who looks names up: the system, or a test in its place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use tokio::net::lookup_host;

/// Looks names up. Cheap to clone.
#[derive(Clone, Default)]
pub struct Resolver(Option<Arc<Answer>>);

type Answer = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    /// One that gives these answers instead of the system's.
    pub fn of(answer: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(answer)))
    }

    /// Looks a name up, once.
    ///
    /// # Errors
    /// As the system gives them.
    pub async fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match &self.0 {
            None => Ok(lookup_host((name, port)).await?.collect()),
            Some(answer) => answer(name, port),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Resolver(replaced)" } else { "Resolver(system)" })
    }
}
