//! Who looks names up: the system, or a test in its place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{fmt, io};

use tokio::net::lookup_host;
use tokio::sync::Semaphore;

/// How many names are looked up at a time. The system cannot be told to stop, so that those whom nobody waits for any more
/// count as well: else whoever has links dialled and given up takes all its threads.
const AT_A_TIME: usize = 32;

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    answer: Option<Arc<Answer>>,
    permits: Arc<Semaphore>,
}

type Answer = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl Resolver {
    /// One that gives these answers instead of the system's.
    pub fn of(answer: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Self {
        Self { answer: Some(Arc::new(answer)), ..Self::default() }
    }

    /// Looks a name up, once.
    ///
    /// # Errors
    /// As the system gives them.
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
    /// The system.
    fn default() -> Self {
        Self { answer: None, permits: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.answer.is_some() { "Resolver(replaced)" } else { "Resolver(system)" })
    }
}
