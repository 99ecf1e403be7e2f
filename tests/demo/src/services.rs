//! The simulated services, and what the demo does with each. One more is one more file, and one more line in [`all`].

mod aui;
mod avatars;
mod elizaos;
mod minchat;
mod sub0;

use pontoon_testkit::DaemonConfig;

use crate::calls::{Call, Reply};
use crate::event::Event;
use crate::flows::{Flow, Flows};

/// A check of a service's own: what must hold, and whether it does. `None` if it was not tried yet.
pub(crate) type Check = (&'static str, Option<bool>);

/// A simulated service, and the instance that is connected to it.
pub(crate) trait Service {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// The connector's type.
    fn kind(&self) -> &'static str;

    /// The instance that the demo configures.
    fn instance(&self) -> &'static str;

    /// Where it listens.
    fn url(&self) -> String;

    /// What there is to know of it, in short.
    fn note(&self) -> String;

    /// Adds its instance.
    fn configure(&self, config: DaemonConfig) -> DaemonConfig;

    /// Whether its instance has links before anything is asked of it.
    fn has_links(&self) -> bool {
        true
    }

    /// Whether the daemon would receive what it sends from now on.
    fn is_listened_to(&self) -> bool {
        true
    }

    /// Sends or does something by itself.
    fn send_next(&mut self);

    /// The next call. There is one at a time.
    fn call(&mut self) -> Call;

    /// Whether the replies, parts and the last one, can only come from the service, and are as they should be.
    fn authorize(&mut self, parts: &[Reply], last: &Reply) -> bool;

    /// Whether nothing is to be expected of it while it is not called.
    fn is_idle(&self) -> bool {
        true
    }

    /// All that it has sent so far, as it should be received.
    fn expected(&self) -> Flows;

    /// The flow that an event of its instance belongs to, and its text.
    fn flow(&self, event: &Event) -> (Flow, String) {
        Flow::of(event)
    }

    /// What must hold of this service beyond what must hold of all.
    fn checks(&self, _heard: &Flows) -> Vec<Check> {
        Vec::new()
    }
}

/// Starts all of them.
pub(crate) async fn all() -> Vec<Box<dyn Service>> {
    vec![
        Box::new(sub0::Shop::start().await),
        Box::new(elizaos::Agents::start().await),
        Box::new(minchat::Support::start().await),
        Box::new(aui::Advice::start().await),
        Box::new(avatars::Avatars::start().await),
    ]
}

/// The check of `message.send`, which has the same body for every service that has messages.
fn message_send(tried: bool, has_all: impl FnOnce() -> bool) -> Check {
    ("message.send reached the service once, in order", tried.then(has_all))
}
