//! The daemon with a connector of our own beside one of Pontoon's: a copy of its `src/main.rs`.

use std::process::ExitCode;

use pontoon::registry::Registry;

fn main() -> ExitCode {
    let connectors = Registry::new().with::<pontoon_parley::Parley>().with::<pontoon_sub0::Sub0>();
    pontoon::cli::main(connectors)
}
