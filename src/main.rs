//! The daemon with the connectors it was built with. To add your own: copy this file, list it here, build.

use std::process::ExitCode;

use pontoon::registry::Registry;

fn main() -> ExitCode {
    let connectors = Registry::new()
        .with::<pontoon_aui::Aui>()
        .with::<pontoon_elizaos::ElizaOs>()
        .with::<pontoon_minchat::MinChat>()
        .with::<pontoon_generic::Socketio>()
        .with::<pontoon_streamavatars::StreamAvatars>()
        .with::<pontoon_sub0::Sub0>()
        .with::<pontoon_generic::Websocket>();
    pontoon::cli::main(connectors)
}
