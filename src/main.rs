//! The binary: argv in, exit code out.
#![cfg_attr(target_env = "gnu", no_main)]

#[cfg(target_env = "gnu")]
mod entry;

/// Where the C library does not hand the arguments to whoever asks, Rust's runtime must.
#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    mmapctl::cli::run(std::env::args_os()).into()
}
