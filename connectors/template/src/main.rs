//! A daemon with this connector in it. Add `.with::<…>()` for each of Pontoon's own that you want beside it.

use std::process::ExitCode;

use pontoon::registry::Registry;

fn main() -> ExitCode {
    pontoon::cli::main(Registry::new().with::<pontoon_board::Board>())
}
