//! A small file system of its own for a test: ext4 in a file, or memory with a limit. Needs root and a system that lets
//! it mount; where it does not, the tests say so and show the promise another way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    root: tempfile::TempDir,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ext4,
    Memory,
}

/// Runs a command; its words if it fails.
fn run(words: &[&str]) -> Result<(), String> {
    let run = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let run = run.map_err(|error| format!("{}: {error}", words[0]))?;
    match run.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&run.stderr).trim())),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Mounted {
    /// ext4 on a loop device, of so many MiB.
    ///
    /// # Errors
    /// Why that is not possible here.
    pub fn ext4(mib: u64) -> Result<Mounted, String> {
        let root = crate::store::temporary();
        let image = root.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("an image");
        run(&["mkfs.ext4", "-q", "-F", text(&image)])?;
        let mounted = Mounted { root, kind: Kind::Ext4 };
        std::fs::create_dir(mounted.path()).expect("a directory");
        mounted.mount()?;
        Ok(mounted)
    }

    /// Memory, of so many KiB.
    ///
    /// # Errors
    /// Why that is not possible here.
    pub fn memory(kib: u64) -> Result<Mounted, String> {
        let root = crate::store::temporary();
        let path = root.path().join("mount");
        std::fs::create_dir(&path).expect("a directory");
        run(&["mount", "-t", "tmpfs", "-o", &format!("size={kib}k"), "forebay-test", text(&path)])?;
        Ok(Mounted { root, kind: Kind::Memory })
    }

    /// Where its files are.
    pub fn path(&self) -> PathBuf {
        self.root.path().join("mount")
    }

    fn mount(&self) -> Result<(), String> {
        run(&["mount", "-o", "loop", text(&self.root.path().join("image")), text(&self.path())])
    }

    /// Ends the power: nothing that is not on the device yet ever gets there, not even the journal's last part. Then
    /// the file system is mounted again, with its journal replayed, and found whole.
    pub fn lose_power(&self) {
        assert_eq!(self.kind, Kind::Ext4);
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let shutdown = "import fcntl,os,struct,sys; \
                        fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run(&["python3", "-c", shutdown, text(&self.path())]).expect("a shutdown");
    }

    /// Mounts it again after the power was lost and those that used it are gone.
    pub fn power_comes_back(&self) {
        let image = self.root.path().join("image");
        run(&["umount", text(&self.path())]).expect("nobody uses it");
        // As a system does when it starts: the journal is replayed, what is wrong would be said.
        run(&["e2fsck", "-p", text(&image)])
            .or_else(|_| run(&["e2fsck", "-p", text(&image)]))
            .expect("whole");
        self.mount().expect("a mount");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run(&["umount", "-l", text(&self.path())]);
    }
}
