//! A disk that can lose what was not synced: an ext4 image, mounted through a loop device, that is shut down without its journal being
//! flushed, as a power cut would leave it. Needs the right to mount.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

/// The image; sparse, so that it takes what is written.
const IMAGE_BYTES: u64 = 1024 * 1024 * 1024;
/// Shuts a filesystem down at once (`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`). Perl is part of every Debian, and this crate
/// forbids the unsafe call that an ioctl is.
const SHUT_DOWN: &str = r#"
    use Fcntl;
    sysopen(my $mount, $ARGV[0], O_RDONLY) or die "open: $!";
    my $flags = pack("L", 2);
    ioctl($mount, 0x8004587d, $flags) or die "ioctl: $!";
"#;

/// A mounted image.
pub struct Disk {
    folder: TempDir,
    is_mounted: bool,
}

impl Disk {
    /// Makes and mounts an empty one.
    ///
    /// # Errors
    /// This machine does not let us, and why.
    pub fn create() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = File::create(folder.path().join("image")).map_err(|error| error.to_string())?;
        image.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
        std::fs::create_dir(folder.path().join("mount")).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &shown(&folder.path().join("image"))])?;
        let mut disk = Self { folder, is_mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Cuts the power: from now on nothing is written any more, and every sync fails.
    pub async fn cut(&self) {
        let cut = tokio::process::Command::new("perl").args(["-e", SHUT_DOWN]).arg(self.path()).output();
        let cut = cut.await.expect("perl is there");
        assert!(cut.status.success(), "no cut: {}", String::from_utf8_lossy(&cut.stderr));
    }

    /// Puts the power on again: what is there now is what the disk has kept. Nobody may have a file of it open.
    pub async fn mount_again(&mut self) {
        self.unmount().await;
        self.mount().expect("it was mounted before");
    }

    fn mount(&mut self) -> Result<(), String> {
        // A long commit interval: nothing gets to the disk by the mere passing of time.
        let image = shown(&self.folder.path().join("image"));
        run("mount", &["-t", "ext4", "-o", "loop,commit=300", &image, &shown(&self.path())])?;
        self.is_mounted = true;
        Ok(())
    }

    async fn unmount(&mut self) {
        let mut last = String::new();
        for _ in 0..100 {
            match run("umount", &[&shown(&self.path())]) {
                Ok(()) => {
                    self.is_mounted = false;
                    return;
                }
                // The kernel may still be closing the files of a process that has just ended.
                Err(error) => last = error,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the image cannot be unmounted: {last}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: a child that a failed test leaves behind is killed a moment later.
            let _ = run("umount", &["--lazy", &shown(&self.path())]);
        }
    }
}

fn shown(path: &Path) -> String {
    path.to_str().expect("temporary folders have names of ASCII").to_owned()
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("{program}: {said}"))
}
