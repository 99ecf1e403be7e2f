//! The configuration as it is read at the start, on a thread that ends when the first instances start.
//!
//! To read it takes memory for a while, about 10 KiB for each link and 20 KiB for each instance that it lists. What a
//! thread gives back, glibc keeps for that thread, and once that has ended for the next one that starts: which then is one of
//! instances, whose links use it. On the main thread it would be kept for nothing.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};

use crate::config::{self, Loaded, Problems, Sources};
use crate::registry::Registry;

/// The thread that has read the configuration. It ends when this is dropped.
#[derive(Default)]
pub struct LoadingThread(Option<(Sender<()>, JoinHandle<()>)>);

/// Reads the configuration.
///
/// # Errors
/// All that is wrong with it.
pub fn load(registry: &Arc<Registry>, sources: &Sources) -> Result<(Loaded, LoadingThread), Problems> {
    let ((done, loaded), (end, ended)) = (channel(), channel());
    let (read, origin) = (registry.clone(), sources.clone());
    let load = move || {
        if done.send(config::load(&read, &origin)).is_ok() {
            // Until the sender is dropped: nothing is ever sent.
            let _ = ended.recv();
        }
    };
    let Ok(thread) = Builder::new().name("loading".to_owned()).spawn(load) else {
        return config::load(registry, sources).map(|loaded| (loaded, LoadingThread::default()));
    };
    match loaded.recv() {
        Ok(loaded) => loaded.map(|loaded| (loaded, LoadingThread(Some((end, thread))))),
        // It has panicked, as this one would have.
        Err(_) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => config::load(registry, sources).map(|loaded| (loaded, LoadingThread::default())),
        },
    }
}

impl Drop for LoadingThread {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            // It does nothing any more that could fail.
            let _ = thread.join();
        }
    }
}
