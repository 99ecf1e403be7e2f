//! Name lookup: by the system, or by a stub in tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use tokio::net::lookup_host;
use tokio::sync::Semaphore;

/// How many names are looked up at a time. A lookup cannot be cancelled, so one whose dial was given up counts as well:
/// else many abandoned dials could use up all threads.
const MAX_LOOKUPS: usize = 32;

/// Resolves names. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    answer: Option<Arc<Answer>>,
    permits: Arc<Semaphore>,
}

type Answer = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    /// A resolver that calls `answer` instead of the system.
    pub fn of(answer: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { answer: Some(Arc::new(answer)), ..Self::default() }
    }

    /// Looks a name up once.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn look_up(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(answer) = &self.answer {
            return answer(name, port);
        }
        let permit = self.permits.clone().acquire_owned().await;
        let name = name.to_owned();
        let looking = tokio::spawn(async move {
            let _permit = permit;
            lookup_host((name, port)).await.map(Iterator::collect)
        });
        looking.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

impl Default for Resolver {
    /// The resolver of the system.
    fn default() -> Self {
        Self { answer: None, permits: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.answer.is_some() { "Resolver(replaced)" } else { "Resolver(system)" })
    }
}
