//! A command that runs while the mapping exists: its environment, and how it ends.

use crate::edit::{ErrorContext, Result};
use crate::error::Exit;
use crate::mapping::{Kind, Region};
use crate::signals::{self, Signals};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command learns about the mapping.
#[derive(Debug)]
pub(crate) struct ChildEnv {
    /// A path that opens the same memory; `None` for anonymous memory, which has no path, and for several files.
    path: Option<PathBuf>,
    /// The size in bytes.
    size: u64,
}

impl ChildEnv {
    pub(crate) fn of(region: &Region, path: Option<&Path>) -> ChildEnv {
        let path = match (region.backing().facts().kind, region.backing().fd()) {
            (Kind::Memfd, Some(fd)) => Some(memfd_path(fd.as_raw_fd())),
            (Kind::Anonymous | Kind::Zero, _) => None,
            _ => path.map(|path| std::path::absolute(path).unwrap_or(path.to_path_buf())),
        };
        ChildEnv {
            path,
            size: region.span().len(),
        }
    }

    /// For several files, with `size` bytes in total.
    pub(crate) fn of_many(size: u64) -> ChildEnv {
        ChildEnv { path: None, size }
    }

    /// The number of bytes that are mapped.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command
            .env("MMAPCTL_SIZE", self.size.to_string())
            .env("MMAPCTL_PID", std::process::id().to_string())
            .env_remove("MMAPCTL_PATH")
            // Only mmapctl reports readiness.
            .env_remove("NOTIFY_SOCKET");
        if let Some(path) = &self.path {
            command.env("MMAPCTL_PATH", path);
        }
        command
    }

    /// Starts a program with its arguments.
    ///
    /// # Errors
    /// If it cannot be run.
    pub(crate) fn start(&self, argv: &[OsString]) -> Result<std::io::Result<Child>> {
        let mut command = self.command(&argv[0]);
        command.args(&argv[1..]);
        Ok(signals::for_child(|| command.spawn())?.map(Child))
    }

    /// Starts a shell command; with `no_input`, its stdin is empty.
    pub(crate) fn shell(&self, line: &OsStr, no_input: bool) -> Result<Child> {
        let mut command = self.command(OsStr::new("/bin/sh"));
        command.arg("-c").arg(line);
        if no_input {
            command.stdin(Stdio::null());
        }
        let child = signals::for_child(|| command.spawn())?.context("cannot run '/bin/sh'")?;
        Ok(Child(child))
    }
}

/// The path by which other processes open a memfd of this process.
pub(crate) fn memfd_path(fd: i32) -> PathBuf {
    format!("/proc/{}/fd/{fd}", std::process::id()).into()
}

/// A running command. Its exit code is its own, or 128 plus the number of the signal that ended it, as in a shell.
#[derive(Debug)]
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Waits for the end of the command.
    pub(crate) fn wait(mut self) -> Result<u8> {
        Ok(code(self.0.wait().context("cannot wait for the command")?))
    }

    /// Waits for the end of the command, and forwards signals to it in the meantime.
    pub(crate) fn wait_with(mut self, signals: &Signals) -> Result<u8> {
        loop {
            if let Some(status) = self.0.try_wait().context("cannot wait for the command")? {
                return Ok(code(status));
            }
            match signals.wait(None).and_then(|signal| Signal::try_from(signal).ok()) {
                // The terminal sends these to the command as well, which decides what to do.
                Some(Signal::SIGINT | Signal::SIGQUIT | Signal::SIGCHLD) | None => {}
                Some(signal) => {
                    // A child that has just ended needs no signal.
                    let _ = kill(Pid::from_raw(self.0.id() as i32), signal);
                }
            }
        }
    }
}

fn code(status: std::process::ExitStatus) -> u8 {
    let killed = status.signal().map(|signal| 128 + signal);
    killed.or(status.code()).unwrap_or(Exit::Failed as i32) as u8
}
