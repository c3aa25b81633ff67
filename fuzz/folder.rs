//! Where targets keep their files: in memory, and of limited size.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder of this process's. Files in it, and memfds, get no longer than 16 MiB: a script may ask for any size.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let limit = libc::rlimit {
            rlim_cur: 16 << 20,
            rlim_max: 16 << 20,
        };
        // SAFETY: `limit` lives through the call, and a signal that is ignored runs no code.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
        }
        let path = Path::new("/dev/shm").join(format!("mmapctl-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder in /dev/shm");
        path
    })
}
