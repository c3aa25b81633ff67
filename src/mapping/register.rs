//! Registers: loads and stores of exactly one width. For device memory, a copy made by the kernel would use widths, and
//! repeat accesses, as the kernel chooses. This is the only module that dereferences a mapped byte, and the other one
//! with `unsafe`.
//!
//! Each access is one machine instruction, the first of a handwritten function. A compiler nearly always makes the same
//! of a volatile access, but that is not guaranteed (on aarch64 it may choose an addressing mode that a hypervisor
//! cannot emulate, which is why Linux's own readl is assembly).
//!
//! A load or store can raise SIGBUS: the file was truncated, its file system is full, the device is gone. During
//! accesses a handler is installed that checks where the signal was raised. If that was at one of these instructions,
//! it makes the function return "faulted" instead:
//!
//! ```text
//!   load4:  mov eax, [rdi]  ── SIGBUS ─▶ handler: is the program counter load4? ─▶ it becomes `faulted`
//!           xor edx, edx                                                             faulted: mov edx, 1
//!           ret                                                                               ret
//! ```
//!
//! This allocates, maps and unwinds nothing, so nothing can fail in the handler.
#![allow(unsafe_code)]

use super::error::{AccessDenied, Error, ErrorKind, Result};
use super::options::{Populate, Segment, WINDOW};
use super::range::ByteRange;
use super::region::Region;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, signal};
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The width of one access: how many bytes a single load or store transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 1 byte.
    One,
    /// 2 bytes.
    Two,
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

impl Width {
    /// All widths, ascending.
    pub const ALL: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];

    /// The width in bytes: 1, 2, 4 or 8.
    pub fn bytes(self) -> u64 {
        1 << self as u32
    }

    /// Whether `span` begins at a multiple of the width and consists of whole units.
    pub fn divides(self, span: ByteRange) -> bool {
        (span.start() | span.len()).is_multiple_of(self.bytes())
    }
}

/// How many bytes are accessed between two calls of the caller's function, and between two checks of the file's length;
/// a multiple of every width.
const PART: u64 = 4096;

impl Region {
    /// Loads `span` in units of `width`, each once and in ascending order, and passes the bytes to `each`, in memory
    /// order and in pieces of up to 4 KiB, with their file offsets. Only the pages of `span` are mapped.
    ///
    /// # Errors
    /// EINVAL for a span that is not aligned (see [`Width::divides`]); the reason why a page cannot be read, with the
    /// offset of the first unit that failed; [`ErrorKind::Bus`] if a device does not answer.
    pub fn load_units<E: From<Error>>(
        &mut self,
        span: ByteRange,
        width: Width,
        mut each: impl FnMut(u64, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let span = self.check_units("read", span, width)?;
        self.check_read(span)?;
        let mut buf = [0; PART as usize];
        for part in self.parts(span) {
            let base = self.map_just(part)?;
            for chunk in part.windows(PART) {
                let buf = &mut buf[..chunk.len() as usize];
                let address = base + (chunk.start() - part.start()) as usize;
                let done = load_all(address, buf, width).map_err(|errno| Error::sys("read", Some(chunk), errno))?;
                if done < buf.len() {
                    let lost = span.from(chunk.start() + done as u64);
                    return Err(self.signalled("read", lost, Populate::Read).into());
                }
                // Bytes of a page that were cut off read as zeros, without a signal.
                if !self.backing().facts().device_memory {
                    self.check_still("read", chunk, Populate::Read)?;
                }
                each(chunk.start(), buf)?;
            }
        }
        Ok(())
    }

    /// Stores `span` in units of `width`, each once and in ascending order, and reads nothing of it. `next` fills in
    /// the bytes, in memory order, from a file offset on, up to 4 KiB at a time. When it is called, everything before
    /// that offset is stored.
    ///
    /// # Errors
    /// See [`Region::load_units`]; [`Error::stored`] says how many bytes of `span` were stored before.
    pub fn store_units<E: From<Error>>(
        &mut self,
        span: ByteRange,
        width: Width,
        mut next: impl FnMut(u64, &mut [u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if !self.shape().prot.writes() {
            return Err(Error::new("store", Some(span), ErrorKind::AccessDenied(AccessDenied::ReadOnly)).into());
        }
        let span = self.check_units("store", span, width)?;
        self.backing().mark_written();
        self.drop_privileges()?;
        let mut buf = [0; PART as usize];
        for part in self.parts(span) {
            let stored = |at: u64, error: Error| Error {
                stored: at - span.start(),
                ..error
            };
            let base = self.map_just(part).map_err(|error| stored(part.start(), error))?;
            for chunk in part.windows(PART) {
                let buf = &mut buf[..chunk.len() as usize];
                next(chunk.start(), buf)?;
                let address = base + (chunk.start() - part.start()) as usize;
                let done = store_all(address, buf, width)
                    .map_err(|errno| stored(chunk.start(), Error::sys("store", Some(chunk), errno)))?;
                if done < buf.len() {
                    let at = chunk.start() + done as u64;
                    return Err(stored(at, self.signalled("store", span.from(at), Populate::Write)).into());
                }
            }
        }
        Ok(())
    }

    /// Calls [`Region::make_writable`] before the first of several stores. A device needs no preparation.
    ///
    /// # Errors
    /// See [`Region::make_writable`].
    pub fn make_units_writable(&mut self, pieces: &[Segment]) -> Result<()> {
        if self.backing().facts().device_memory {
            return Ok(());
        }
        self.make_writable(pieces, &mut |_| Ok(()))
    }

    fn check_units(&self, action: &'static str, span: ByteRange, width: Width) -> Result<ByteRange> {
        let span = self.check(action, Some(span))?;
        if !width.divides(span) {
            return Err(Error::sys(action, Some(span), Errno::EINVAL));
        }
        Ok(span)
    }

    /// The parts in which `span` is mapped: of the page cache a limited amount at a time, to bound the memory use. Of a
    /// device all at once, because a driver may use the offset of a mapping to select what it maps (as UIO does), and
    /// count from there.
    fn parts(&self, span: ByteRange) -> impl Iterator<Item = ByteRange> + use<> {
        let at_a_time = if self.backing().facts().has_end() {
            WINDOW
        } else {
            u64::MAX
        };
        span.windows(at_a_time)
    }

    /// The address of `part`, all of which is mapped. Of a file or device, no page outside `part` is mapped.
    fn map_just(&mut self, part: ByteRange) -> Result<usize> {
        let page = self.backing().facts().page;
        if self.shape().window.is_some() {
            self.window = None; // unmapped before the next one is mapped
            self.window = Some(self.map(part.pages(page))?);
        }
        Ok(self.map_window_at(part.start())?.address(part.start()))
    }

    /// The error that caused a SIGBUS.
    fn signalled(&self, action: &'static str, span: ByteRange, how: Populate) -> Error {
        if self.backing().facts().device_memory {
            // To find the cause would take one more access, in a width that the kernel chooses.
            return Error::new(action, Some(span), ErrorKind::Bus);
        }
        self.fault(action, span, how)
    }
}

/// Loads into `buf`. Returns how many bytes were loaded before the first unit that faulted.
fn load_all(address: usize, buf: &mut [u8], width: Width) -> nix::Result<usize> {
    let _guard = Guard::new()?;
    let load = instruction::LOADS[width as usize];
    let mut done = 0;
    for unit in buf.chunks_exact_mut(width.bytes() as usize) {
        // SAFETY: the unit is aligned and lies in our mapping, which may be read; no Rust reference to it exists; and
        // because of the guard, an access to a page that is not available returns `faulted`.
        let outcome = unsafe { load(address + done) };
        if outcome.faulted != 0 {
            break;
        }
        unit.copy_from_slice(&outcome.value.to_ne_bytes()[low(unit.len())]);
        done += unit.len();
    }
    Ok(done)
}

/// Stores `buf`. Returns how many bytes were stored before the first unit that faulted.
fn store_all(address: usize, buf: &[u8], width: Width) -> nix::Result<usize> {
    let _guard = Guard::new()?;
    let store = instruction::STORES[width as usize];
    let mut done = 0;
    for unit in buf.chunks_exact(width.bytes() as usize) {
        let mut value = [0; 8];
        value[low(unit.len())].copy_from_slice(unit);
        // SAFETY: as in load_all, of a mapping that may be written.
        let outcome = unsafe { store(address + done, u64::from_ne_bytes(value)) };
        if outcome.faulted != 0 {
            break;
        }
        done += unit.len();
    }
    Ok(done)
}

/// The position of the low `len` bytes of a u64 in memory.
fn low(len: usize) -> std::ops::Range<usize> {
    if cfg!(target_endian = "big") {
        8 - len..8
    } else {
        0..len
    }
}

/// While it exists, a SIGBUS of an [`instruction`] is a result instead of fatal. There is one at a time in the process,
/// because there is one handler.
struct Guard {
    action_before: SigAction,
    mask_before: SigSet,
    _alone: MutexGuard<'static, ()>,
}

impl Guard {
    fn new() -> nix::Result<Guard> {
        static ALONE: Mutex<()> = Mutex::new(());
        if !instruction::KNOWN {
            return Err(Errno::ENOSYS);
        }
        // The lock protects no state that a panic could have left inconsistent.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let handler = SigHandler::SigAction(on_bus_error);
        let action = SigAction::new(handler, SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK, SigSet::empty());
        // SAFETY: the handler calls nothing but signal(2), and touches nothing but its own arguments.
        let action_before = unsafe { sigaction(Signal::SIGBUS, &action) }?;
        // The parent process may have left it blocked. The kernel then kills the process instead of calling the
        // handler.
        let mut bus = SigSet::empty();
        bus.add(Signal::SIGBUS);
        let mask_before = bus.thread_swap_mask(SigmaskHow::SIG_UNBLOCK)?;
        Ok(Guard {
            action_before,
            mask_before,
            _alone: alone,
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // These calls cannot fail with values that the kernel itself returned.
        let _ = self.mask_before.thread_set_mask();
        // SAFETY: the action that was there before, as it was.
        let _ = unsafe { sigaction(Signal::SIGBUS, &self.action_before) };
    }
}

extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both structures to a handler with SA_SIGINFO, and they live until it returns.
    let (of_a_fault, counter) = unsafe { ((*info).si_code > 0, instruction::counter(context)) };
    let ours = |counter: &usize| {
        let loads = instruction::LOADS.iter().any(|load| *load as usize == *counter);
        loads || instruction::STORES.iter().any(|store| *store as usize == *counter)
    };
    match counter {
        Some(counter) if of_a_fault && ours(counter) => *counter = instruction::faulted as *const () as usize,
        // The signal was not raised by these accesses: the instruction runs again, and now ends the process.
        // SAFETY: sets the default action, which runs no code of ours.
        _ => _ = unsafe { signal(Signal::SIGBUS, SigHandler::SigDfl) },
    }
}

/// The result of an access: two registers, in which both calling conventions return a structure of this size.
#[repr(C)]
struct Accessed {
    /// The loaded value, in its low bytes; unused after a store.
    value: u64,
    /// 0 if the access succeeded.
    faulted: u64,
}

type Load = unsafe extern "C" fn(usize) -> Accessed;
type Store = unsafe extern "C" fn(usize, u64) -> Accessed;

/// Functions whose first instruction is the access, so that both have the same address.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod instruction {
    use super::{Accessed, Load, Store};
    use std::arch::naked_asm;
    use std::ffi::c_void;

    pub const KNOWN: bool = true;
    /// Indexed by the position of the width in [`super::Width::ALL`].
    pub const LOADS: [Load; 4] = [load1, load2, load4, load8];
    pub const STORES: [Store; 4] = [store1, store2, store4, store8];

    macro_rules! access {
        ($($name:ident($($arg:ident: $type:ty),*): $x86:literal, $arm:literal;)*) => {$(
            /// # Safety
            /// `at` is an aligned address of a mapping with the right for the access, and a [`super::Guard`] lives.
            // SAFETY: the assembly is a whole function of the C calling convention.
            #[unsafe(naked)]
            unsafe extern "C" fn $name($($arg: $type),*) -> Accessed {
                #[cfg(target_arch = "x86_64")]
                naked_asm!($x86, "xor edx, edx", "ret");
                #[cfg(target_arch = "aarch64")]
                naked_asm!($arm, "mov x1, #0", "ret");
            }
        )*};
    }

    access! {
        load1(at: usize): "movzx eax, byte ptr [rdi]", "ldrb w0, [x0]";
        load2(at: usize): "movzx eax, word ptr [rdi]", "ldrh w0, [x0]";
        load4(at: usize): "mov eax, dword ptr [rdi]", "ldr w0, [x0]";
        load8(at: usize): "mov rax, qword ptr [rdi]", "ldr x0, [x0]";
        store1(at: usize, value: u64): "mov byte ptr [rdi], sil", "strb w1, [x0]";
        store2(at: usize, value: u64): "mov word ptr [rdi], si", "strh w1, [x0]";
        store4(at: usize, value: u64): "mov dword ptr [rdi], esi", "str w1, [x0]";
        store8(at: usize, value: u64): "mov qword ptr [rdi], rsi", "str x1, [x0]";
    }

    /// Where execution continues after an access that faulted: it returns to the caller of the access.
    ///
    /// # Safety
    /// It must not be called. It replaces the rest of an access.
    // SAFETY: the same contract as for the rest of an access, after its first instruction.
    #[unsafe(naked)]
    pub unsafe extern "C" fn faulted() -> Accessed {
        #[cfg(target_arch = "x86_64")]
        naked_asm!("mov edx, 1", "ret");
        #[cfg(target_arch = "aarch64")]
        naked_asm!("mov x1, #1", "ret");
    }

    /// The program counter in the context of a signal.
    ///
    /// # Safety
    /// `context` is the argument that the kernel passed to a handler that is still running.
    pub unsafe fn counter<'a>(context: *mut c_void) -> Option<&'a mut usize> {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: by the contract it points to a ucontext_t, which nothing else accesses until the handler returns; the
        // counter is a signed or unsigned word of the size of an address.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            let counter = &raw mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize];
            #[cfg(target_arch = "aarch64")]
            let counter = &raw mut (*context).uc_mcontext.pc;
            counter.cast::<usize>().as_mut()
        }
    }
}

/// On other architectures there is no register access: [`Guard::new`] fails before anything is accessed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod instruction {
    use super::{Accessed, Load, Store};
    use std::ffi::c_void;

    pub const KNOWN: bool = false;
    pub const LOADS: [Load; 4] = [load; 4];
    pub const STORES: [Store; 4] = [store; 4];
    const FAULTED: Accessed = Accessed { value: 0, faulted: 1 };

    /// # Safety
    /// Accesses nothing.
    unsafe extern "C" fn load(_: usize) -> Accessed {
        FAULTED
    }

    /// # Safety
    /// Accesses nothing.
    unsafe extern "C" fn store(_: usize, _: u64) -> Accessed {
        FAULTED
    }

    /// # Safety
    /// Accesses nothing.
    pub unsafe extern "C" fn faulted() -> Accessed {
        FAULTED
    }

    /// # Safety
    /// Accesses nothing.
    pub unsafe fn counter<'a>(_: *mut c_void) -> Option<&'a mut usize> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Backing, Prot};
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use std::time::Duration;

    /// The address of a mapped page that cannot be accessed, with the owners that keep it mapped.
    fn lost_page() -> (tempfile::NamedTempFile, Region, usize) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(PART).unwrap();
        let backing = Backing::open(file.path(), Access::ReadRegisters, Duration::ZERO).unwrap();
        let mut region = Region::sliding(backing, Prot::Read).unwrap();
        let address = region.map_just(ByteRange::first(8)).unwrap();
        file.as_file().set_len(0).unwrap();
        (file, region, address)
    }

    /// The exit status of a child that runs `work`.
    fn end_of(work: impl FnOnce()) -> WaitStatus {
        // SAFETY: the child calls `work`, which allocates nothing and takes no lock but our own, and exits.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
            ForkResult::Child => {
                work();
                // SAFETY: it ends the process, and runs nothing of the parent's before that.
                unsafe { libc::_exit(0) }
            }
        }
    }

    fn bus_error(status: WaitStatus) -> bool {
        matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _))
    }

    #[test]
    fn sigbus_of_an_access_is_an_outcome_and_any_other_kills_as_ever() {
        let (_file, _region, address) = lost_page();
        let other = || {
            // SAFETY: the address is mapped; the test is about the missing page.
            unsafe { std::ptr::read_volatile(address as *const u8) };
        };
        for width in Width::ALL {
            assert_eq!(load_all(address, &mut [0; 8], width), Ok(0));
        }
        // Before, during and after the time in which the handler is installed.
        assert!(bus_error(end_of(other)));
        assert!(bus_error(end_of(|| {
            let _guard = Guard::new();
            other();
        })));
        assert!(bus_error(end_of(|| {
            let _ = load_all(address, &mut [0; 8], Width::Four);
            other();
        })));
    }

    #[test]
    fn the_functions_are_told_apart_by_their_addresses() {
        let mut all: Vec<usize> = instruction::LOADS.iter().map(|load| *load as usize).collect();
        all.extend(instruction::STORES.iter().map(|store| *store as usize));
        all.push(instruction::faulted as *const () as usize);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
    }
}
