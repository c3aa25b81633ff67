//! Progress bars, and the `step` that updates them and checks for Ctrl-C.

use crate::edit::Result;
use crate::mapping::Interrupted;
use crate::number::human;
use crate::output::{Globals, When};
use crate::signals::Signals;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shorter work shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// Each of the first `FEW` steps checks for a signal.
const FEW: u64 = 64;

/// How many bytes may be processed after that before the next check.
const ASK_AGAIN: u64 = 256 << 10;

/// The progress of one verb on one file.
#[derive(Debug)]
pub struct Progress {
    /// The total number of bytes.
    total: u64,
    /// The number of bytes stepped to at the end: more than the total if bytes are processed several times.
    work: u64,
    label: &'static str,
    begin: Instant,
    display: Display,
    signals: Option<Signals>,
    /// The number of steps so far.
    steps: u64,
    /// How many bytes were done at the last check for a signal.
    asked: u64,
    /// What else happens at each step, see [`Progress::calling`].
    hook: Option<Hook>,
}

/// Receives the number of bytes that are done.
struct Hook(Box<dyn FnMut(u64)>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug)]
enum Display {
    Nothing,
    /// A bar, once the work has taken long enough.
    Bar(Option<ProgressBar>),
    /// A line every second, for `--progress always` in a log.
    Lines(Instant),
}

impl Progress {
    /// For work that only reads: Ctrl-C ends the process at once, because nothing has to be restored.
    pub fn reading(globals: &Globals, label: &'static str, total: u64) -> Progress {
        Progress {
            total,
            work: total,
            label,
            begin: Instant::now(),
            display: Display::of(globals),
            signals: None,
            steps: 0,
            asked: 0,
            hook: None,
        }
    }

    /// For work that writes to stdout: on a terminal, the text itself shows the progress, and a bar would be in its
    /// way.
    pub fn printing(globals: &Globals, label: &'static str, total: u64) -> Progress {
        let mut progress = Progress::reading(globals, label, total);
        if globals.progress() == When::Auto && std::io::stdout().is_terminal() {
            progress.display = Display::Nothing;
        }
        progress
    }

    /// For work that writes: from now on, signals are blocked until [`Progress::step`] returns them.
    pub fn writing(globals: &Globals, label: &'static str, total: u64) -> Result<Progress> {
        let mut progress = Progress::reading(globals, label, total);
        progress.signals = Some(Signals::hold_all()?);
        Ok(progress)
    }

    /// For work that processes bytes more than once, and steps up to `work`: the bar still ends at the number of bytes.
    pub fn stepping_to(mut self, work: u64) -> Progress {
        self.work = work;
        self
    }

    /// Calls `hook` at each step with the number of bytes that are done.
    pub fn calling(mut self, hook: impl FnMut(u64) + 'static) -> Progress {
        self.hook = Some(Hook(Box::new(hook)));
        self
    }

    /// How many bytes to show as done.
    fn shown(&self, done: u64) -> u64 {
        if self.work == self.total {
            return done;
        }
        let shown = u128::from(done) * u128::from(self.total) / u128::from(self.work.max(1));
        // Preparing may touch pages between edits, too.
        u64::try_from(shown).map_or(self.total, |shown| shown.min(self.total))
    }

    /// Reports a step of work whose total becomes known only now.
    pub fn step_of(&mut self, total: u64, done: u64) -> Result<(), Interrupted> {
        (self.total, self.work) = (total, total);
        self.step(done)
    }

    /// Runs `print`, which writes to the same terminal, with the bar hidden.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.display {
            Display::Bar(Some(bar)) => bar.suspend(print),
            _ => print(),
        }
    }

    /// Reports that `done` bytes are done, see [`crate::mapping::ProgressFn`].
    pub fn step(&mut self, done: u64) -> Result<(), Interrupted> {
        if let Some(Hook(hook)) = &mut self.hook {
            hook(done);
        }
        let shown = self.shown(done);
        match &mut self.display {
            Display::Nothing => {}
            Display::Bar(bar) => {
                if bar.is_none() && self.begin.elapsed() >= PATIENCE && shown < self.total {
                    *bar = Some(new_bar(self.label, self.total).with_elapsed(self.begin.elapsed()));
                }
                if let Some(bar) = bar {
                    bar.set_position(shown);
                }
            }
            Display::Lines(last) => {
                if last.elapsed() >= Duration::from_secs(1) || shown == self.total {
                    *last = Instant::now();
                    let percent = (shown as f64 * 100.0 / self.total.max(1) as f64) as u64;
                    let line = format!("{} {percent} % of {}\n", self.label, human(self.total));
                    // Failing to print progress is no reason to stop.
                    let _ = std::io::stderr().write_all(line.as_bytes());
                }
            }
        }
        // The check is a system call, which would slow down many small steps.
        self.steps += 1;
        if self.signals.is_none() || (self.steps > FEW && done.abs_diff(self.asked) < ASK_AGAIN) {
            return Ok(());
        }
        self.asked = done;
        match self.signals.as_ref().and_then(Signals::pending) {
            Some(signal) => Err(Interrupted(signal)),
            None => Ok(()),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(Some(bar)) = &self.display {
            bar.finish_and_clear();
        }
    }
}

impl Display {
    fn of(globals: &Globals) -> Display {
        let terminal = std::io::stderr().is_terminal();
        match globals.progress() {
            When::Never => Display::Nothing,
            _ if globals.quiet => Display::Nothing,
            When::Auto if !terminal || globals.json => Display::Nothing,
            When::Always if !terminal => Display::Lines(Instant::now()),
            _ => Display::Bar(None),
        }
    }
}

fn new_bar(label: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {binary_bytes} of {binary_total_bytes}, {eta} left");
    let bar = ProgressBar::new(total).with_prefix(label);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
