//! File systems that are mounted for a test.

use super::{Sandbox, has, is_root, skip};
use std::fs::{self, File};
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system that is unmounted with the test.
pub struct Mount {
    sandbox: Sandbox,
}

impl Mount {
    /// A tmpfs of `size` (as mount writes it: "2m"); `None`, with a visible skip, where that is not allowed.
    pub fn tmpfs(size: &str) -> Option<Mount> {
        Mount::new(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
    }

    /// A hugetlbfs with pages of 2 MiB; the pool must be filled by the caller.
    pub fn hugetlbfs() -> Option<Mount> {
        Mount::new(&["-t", "hugetlbfs", "-o", "pagesize=2M", "hugetlbfs"])
    }

    /// A fresh file system of `mkfs` (a command such as "mkfs.ext4 -q -b 1024") in an image of `mib` MiB, by way
    /// of a loop device.
    pub fn image(mkfs: &str, mib: u64) -> Option<Mount> {
        if !Mount::allowed() {
            return None;
        }
        let images = Sandbox::new();
        let image = file_system_image(&images.join("image"), mkfs, mib)?;
        // The loop device keeps the image open, so its name may go.
        Mount::new(&["-o", "loop", image.to_str()?])
    }

    /// The file system that an image already holds, by way of a loop device.
    pub fn loopback(image: &Path) -> Option<Mount> {
        Mount::new(&["-o", "loop", image.to_str()?])
    }

    /// An overlayfs, of which cachestat(2) knows nothing, on folders of a tmpfs.
    pub fn overlay() -> Option<Mount> {
        let store = Mount::tmpfs("16m")?;
        let part = |name: &str| {
            let path = store.join(name);
            fs::create_dir(&path).expect("a folder of an overlay");
            path.to_str().map(String::from)
        };
        let (lower, upper, work) = (part("lower")?, part("upper")?, part("work")?);
        let folders = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        // The tmpfs stays, unnamed, while the overlay uses it.
        let mount = Mount::new(&["-t", "overlay", "-o", &folders, "overlay"]);
        let _ = Command::new("umount").arg("-l").arg(&*store).output();
        mount
    }

    /// The files of `source` once more, through a FUSE server without fallocate(2), with these options of bindfs.
    pub fn bindfs(source: &Path, options: &[&str]) -> Option<Mount> {
        if !has("bindfs") || !Mount::allowed() {
            return None;
        }
        let sandbox = Sandbox::new();
        let mut command = Command::new("bindfs");
        command.args(options).args([source, &*sandbox]);
        let output = command.output().ok()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_string();
            skip(&format!("bindfs: {reason}"));
            return None;
        }
        Some(Mount { sandbox })
    }

    fn allowed() -> bool {
        if !is_root() {
            skip("mounting a file system takes root");
        }
        is_root()
    }

    fn new(args: &[&str]) -> Option<Mount> {
        if !Mount::allowed() {
            return None;
        }
        let sandbox = Sandbox::new();
        let output = Command::new("mount").args(args).arg(&sandbox).output().ok()?;
        if !output.status.success() {
            skip(&format!("mount {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        Some(Mount { sandbox })
    }

    /// Fills it to the last block, with a file of its own.
    pub fn fill(&self) {
        let mut file = File::create(self.sandbox.join("filler")).expect("a filler");
        let mut block = vec![0xaa; 1 << 16];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
        let _ = file.sync_all();
    }
}

/// Makes a file system by `mkfs`, a command such as "mkfs.ext4 -q", in an image of `mib` MiB; `None`, with a visible
/// skip, where that is not possible.
pub fn file_system_image(image: &Path, mkfs: &str, mib: u64) -> Option<PathBuf> {
    let mut words = mkfs.split(' ');
    let tool = words.next()?;
    if !has(tool) {
        return None;
    }
    let made = File::create(image).and_then(|file| file.set_len(mib << 20));
    made.expect("an image");
    let made = Command::new(tool).args(words).arg(image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        skip(&format!("{mkfs} failed"));
        return None;
    }
    Some(image.to_path_buf())
}

/// A loop device on an image, detached with the test.
pub struct LoopDevice(String);

impl LoopDevice {
    /// Made with these options of losetup; `None`, with a visible skip, where there is none to be had.
    pub fn new(image: &Path, options: &[&str]) -> Option<LoopDevice> {
        if !has("losetup") {
            return None;
        }
        if !is_root() {
            skip("a loop device takes root");
            return None;
        }
        let mut command = Command::new("losetup");
        let output = command.args(options).args(["-f", "--show"]).arg(image).output();
        let output = output.expect("losetup runs");
        if !output.status.success() {
            skip(&format!("losetup: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        Some(LoopDevice(String::from_utf8_lossy(&output.stdout).trim().to_string()))
    }

    /// Its path.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

impl Deref for Mount {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl AsRef<Path> for Mount {
    fn as_ref(&self) -> &Path {
        &self.sandbox
    }
}

impl AsRef<std::ffi::OsStr> for Mount {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.sandbox.as_os_str()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A child that another test is just starting may hold a descriptor on it for a moment.
        // No test depends on it, so it is not waited for as long as an answer is.
        let unmounted = (0..100).any(|_| {
            let tried = Command::new("umount").arg(&*self.sandbox).output();
            let done = tried.is_ok_and(|output| output.status.success());
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            done
        });
        if !unmounted {
            let _ = Command::new("umount").arg("-l").arg(&*self.sandbox).output();
        }
    }
}

/// Runs `check` in a folder whose file system counts dirty pages by the range. It is a file system of its own where
/// one can be mounted, because sync(1) writes all the dirty pages of one.
pub fn on_disk(check: impl FnOnce(&Sandbox)) {
    if is_root()
        && let Some(mount) = Mount::image("mkfs.ext4 -q", 64)
    {
        return check(&mount);
    }
    let dir = Sandbox::new();
    match dir.is_disk() {
        true => check(&dir),
        false => skip("the scratch folder is not on ext4 or xfs"),
    }
}
