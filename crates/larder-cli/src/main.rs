//! The program `larder`; everything it does is in the library beside it.

use std::{
    io::{stderr, stdout},
    process::ExitCode,
};

fn main() -> ExitCode {
    let code = larder_cli::run(std::env::args_os(), &mut stdout().lock(), &mut stderr().lock());
    ExitCode::from(code)
}
