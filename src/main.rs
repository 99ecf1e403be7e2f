//! The daemon with the connectors it was built with. To add one: `Registry::built_in().with::<YourConnector>()`.

use std::process::ExitCode;

use pontoon::registry::Registry;

fn main() -> ExitCode {
    pontoon::cli::main(Registry::built_in())
}
