//! While the mapping exists: holding it, announcing it, running a command.

use super::child::ChildEnv;
use crate::edit::{Error, ErrorContext, Result};
use crate::error::{Exit, report_command};
use crate::inherited;
use crate::number::duration;
use crate::output::Globals;
use crate::signals::Signals;
use crate::text::{self, quoted};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

// What the mapping is kept for.
#[derive(Debug, clap::Args)]
pub(super) struct HoldArgs {
    /// Keep the mapping until SIGTERM or Ctrl-C, or for a time: --hold=10s
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, value_parser = duration, conflicts_with = "command")]
    pub(super) hold: Option<Option<Duration>>,
    /// When everything is ready, write a line to this file descriptor and close it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..))]
    ready_fd: Option<i32>,
    /// Run this command while the mapping exists, and exit with its code
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

impl HoldArgs {
    /// To be called before any file is opened, which might get the number of a descriptor that the caller has not
    /// opened.
    ///
    /// # Errors
    /// If the descriptor is not open for writing.
    pub(super) fn check(&self) -> Result<()> {
        match self.ready_fd {
            Some(fd) if !inherited::claim(fd) => Err(std::io::Error::from(Errno::EBADF)).map_failure(|| not_ready(fd)),
            _ => Ok(()),
        }
    }

    /// From now on, no request to end is missed; `None` if there is nothing to wait for.
    pub(super) fn signals(&self) -> Result<Option<Signals>> {
        match (&self.hold, self.command.is_empty()) {
            (None, true) => Ok(None),
            _ => Ok(Some(Signals::hold(&[Signal::SIGCHLD])?)),
        }
    }

    /// Which process holds the mapping, and for how long, for a report; `None` if it is not held.
    pub(super) fn held(&self) -> Option<String> {
        let pid = std::process::id();
        let time = self.hold?.map_or(String::new(), |limit| format!("for {limit:?}, or "));
        Some(format!("by process {pid}, {time}until SIGTERM or Ctrl-C"))
    }

    /// Whether the mapping is to be held, announced, or used by a command.
    pub(super) fn is_asked(&self) -> bool {
        self.hold.is_some() || self.ready_fd.is_some() || !self.command.is_empty()
    }

    /// Announces that everything is ready, then holds the mapping described by `name`, or runs the command; returns the
    /// exit code.
    pub(super) fn stay(
        &self,
        beside: &ChildEnv,
        name: &str,
        signals: Option<&Signals>,
        globals: &Globals,
    ) -> Result<u8> {
        if let Some(fd) = self.ready_fd {
            inherited::write_and_close(fd, b"READY=1\n")
                .map_err(std::io::Error::from)
                .map_failure(|| not_ready(fd))?;
        }
        if self.hold.is_some() || self.ready_fd.is_some() {
            let status = format!("STATUS=holding {name}, {} bytes\n", beside.size());
            notify(&format!("READY=1\n{status}"))?;
        }
        match (signals, &self.hold) {
            (Some(signals), Some(limit)) => {
                signals.wait(*limit);
                // A service manager that has ended does not need this.
                let _ = notify("STOPPING=1\n");
                Ok(Exit::Done as u8)
            }
            (Some(signals), None) => self.run_command(beside, signals, globals),
            (None, _) => Ok(Exit::Done as u8),
        }
    }

    fn run_command(&self, beside: &ChildEnv, signals: &Signals, globals: &Globals) -> Result<u8> {
        match beside.start(&self.command)? {
            Ok(child) => child.wait_with(signals),
            Err(error) => {
                // The codes that env(1) and the shells use.
                let code = if is_missing(&error, &self.command[0]) { 127 } else { 126 };
                let command = Path::new(&self.command[0]);
                let (name, typed) = (text::shown(command), quoted(command));
                let tip = match code {
                    127 => format!("'command -v {typed}' shows whether it is in PATH; if not, give its path"),
                    _ => format!("see whether it is a program, and who may run it: 'ls -l {typed}'"),
                };
                let failed = || Error::untouched(format!("cannot run '{name}'")).tip(tip);
                if let Err(error) = Err::<(), _>(error).map_failure(failed) {
                    report_command(globals, &error, code);
                }
                Ok(code)
            }
        }
    }
}

/// Whether there is no such program: execvp(3) returns EACCES for that, too, if a folder in PATH may not be searched.
fn is_missing(error: &std::io::Error, command: &OsStr) -> bool {
    let in_path = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(command).exists())
    };
    match error.kind() {
        ErrorKind::NotFound => true,
        ErrorKind::PermissionDenied => !command.as_bytes().contains(&b'/') && !in_path(),
        _ => false,
    }
}

/// The error for a descriptor that cannot be written to.
fn not_ready(fd: i32) -> Error {
    Error::untouched(format!("cannot write to the file descriptor {fd} of --ready-fd"))
        .tip(format!("open it in the shell that starts mmapctl: put {fd}>&1, or {fd}>PATH, after the command"))
}

/// sd_notify(3): sends one datagram to the socket that a service manager names.
fn notify(state: &str) -> Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name),
        _ => SocketAddr::from_pathname(&name),
    };
    let send = || UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address?);
    send().context("cannot notify the service manager (NOTIFY_SOCKET)")?;
    Ok(())
}
