//! The binary: argv in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mmapctl::cli::run(std::env::args_os()))
}
