//! The daemon with its connectors, and with the second engine for `socketio`.

use std::process::ExitCode;

use pontoon::registry::Registry;
use pontoon_rust_socketio::EitherEngine;

fn main() -> ExitCode {
    pontoon::cli::main(Registry::built_in().with::<pontoon_generic::SocketioOver<EitherEngine>>())
}
