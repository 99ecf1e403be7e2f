//! The check of samples: it must find every fault, and nothing else.

use pontoon_sdk::websocket::{Endpoint, Frame, WebSocket};
use pontoon_sdk::{Command, Join, LinkKey, LinkSpec, Outbox, Route, Session};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::*;

/// A connector with a sample in each place of a list.
struct Sampled<const N: usize>;

const SAMPLES: [&str; 7] = [
    "[connectors.a]\ntype = \"sampled\"\nurl = \"ws://h/\"\n# Why.\n# name = \"b\"\n# [connectors.a.more]\n# key = 1\n",
    "[connectors.a]\ntype = \"other\"\nurl = \"ws://h/\"\n",
    "[connectors.a]\ntype = \"sampled\"\nurl = \"ws://h/\"\nurl2 = 1\n",
    "[connectors.a]\ntype = \"sampled\"\nurl = \"http://h/\"\n",
    "[connectors.a]\ntype = \"sampled\"\nurl = \"ws://h/\"\n# name = \"b\"\n",
    "[connectors.a]\ntype = \"sampled\"\nurl = \"ws://h/\"\n# name = 7\n",
    "[connectors.a]\n[connectors.b]\n",
];

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to.
    url: String,
    /// As what.
    #[serde(default)]
    name: Option<String>,
    /// More.
    #[serde(default)]
    #[serde(rename = "more")]
    _more: Option<Map<String, Value>>,
}

pontoon_sdk::operations! {
    enum Request {
        /// Sends.
        Send(Value) = "send", Sent;
    }
}

impl<const N: usize> Connector for Sampled<N> {
    const TYPE: &'static str = "sampled";
    const SAMPLE: &'static str = SAMPLES[N];
    type Transport = WebSocket;
    type Config = Config;
    type Request = Request;
    type Session = Silent;

    fn new(config: Config) -> pontoon_sdk::Result<Self> {
        Endpoint::new(&config.url).map(|_| Self)
    }

    fn links(&self) -> Vec<LinkSpec<WebSocket>> {
        Vec::new()
    }

    fn route(&self, _: &Command, _: &Request) -> pontoon_sdk::Result<Route<WebSocket>> {
        Ok(Route::To(LinkKey::new("main")))
    }

    fn session(&self, _: &LinkKey) -> Silent {
        Silent
    }
}

struct Silent;

impl Session for Silent {
    type Frame = Frame;
    type Request = Request;

    fn open(&mut self, _: &[Join], _: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        Ok(())
    }

    fn decode(&mut self, _: &Frame, _: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        Ok(())
    }

    fn encode(&mut self, _: Request, _: Command, _: &mut Outbox<Frame>) -> pontoon_sdk::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sample_is_held_to_the_settings() {
    let (plain, all) = check_sample::<Sampled<0>>().unwrap();
    assert_eq!((plain.name, all.name.as_deref()), (None, Some("b")));
    let fault = |checked: Result<(Config, Config), String>, words: &str| {
        let fault = checked.err().unwrap();
        assert!(fault.contains(words), "{words}: {fault}");
    };
    fault(check_sample::<Sampled<1>>(), "lacks `type = \"sampled\"`");
    fault(check_sample::<Sampled<2>>(), "url2");
    fault(check_sample::<Sampled<3>>(), "the sample is refused");
    fault(check_sample::<Sampled<4>>(), "lacks the setting more");
    fault(check_sample::<Sampled<5>>(), "comments as settings: name");
    fault(check_sample::<Sampled<6>>(), "one table");
}
