//! A disk that can be stolen: an ext4 file system whose raw blocks a test may read.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small ext4 file system in a file, mounted; unmounted and detached when dropped.
pub struct Disk {
    image: PathBuf,
    place: PathBuf,
    mounted: bool,
}

impl Disk {
    /// A disk of that many bytes, below `dir`. It takes root and a loop device.
    pub fn new(dir: &Path, bytes: u64) -> Result<Self, String> {
        let (image, place) = (dir.join("disk.img"), dir.join("disk"));
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        std::fs::create_dir(&place).map_err(|error| error.to_string())?;
        command("mkfs.ext4", &["-q", "-F", "-m", "0", image.to_str().unwrap()])?;
        let mut disk = Self { image, place, mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    /// Where its files are, while it is mounted.
    pub fn place(&self) -> &Path {
        &self.place
    }

    pub fn mount(&mut self) -> Result<(), String> {
        let (image, place) = (self.image.to_str().unwrap(), self.place.to_str().unwrap());
        command("mount", &["-o", "loop", image, place])?;
        self.mounted = true;
        Ok(())
    }

    /// Has everything written that waits to be.
    pub fn settle(&self) {
        command("sync", &["-f", self.place.to_str().unwrap()]).unwrap();
    }

    /// Every block as it is now, while the disk is in use; what waited to be written included.
    pub fn settled(&self) -> Vec<u8> {
        self.settle();
        std::fs::read(&self.image).unwrap()
    }

    /// Every block of the device, as it would be found on a stolen disk.
    pub fn raw(&mut self) -> Vec<u8> {
        command("umount", &[self.place.to_str().unwrap()]).unwrap();
        self.mounted = false;
        std::fs::read(&self.image).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = command("umount", &[self.place.to_str().unwrap()]);
        }
    }
}

fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output();
    let ran = ran.map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&ran.stderr).trim()))
}
