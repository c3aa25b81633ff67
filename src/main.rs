//! The binary: argv in, exit code out; see [`entry`].
#![no_main]

mod entry;
