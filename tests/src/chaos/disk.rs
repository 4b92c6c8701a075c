//! A file on a disk that fills up.
//!
//! What a full disk does to a journal: its file cannot grow, and bytes that it has can be overwritten. A file in memory that
//! was sealed against growing does the same, to every user, root included, and it does it to this file alone. (A limit on
//! the size of files is a whole process's, and its servers' too.)

use std::path::PathBuf;

use anyhow::Result;

/// A file that is gone with this value.
#[derive(Debug)]
pub(super) struct File {
    #[cfg(target_os = "linux")]
    file: std::os::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl File {
    pub(super) fn new() -> Result<Self> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let file = memfd_create("larder-journal", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
        Ok(Self { file })
    }

    /// A path to it for this process.
    pub(super) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// From now on it cannot grow.
    pub(super) fn fill(&self) -> Result<()> {
        Ok(rustix::fs::fcntl_add_seals(&self.file, rustix::fs::SealFlags::GROW)?)
    }

    /// What it holds now, in a file that can grow.
    pub(super) fn copy(&self) -> Result<Self> {
        let copy = Self::new()?;
        std::fs::copy(self.path(), copy.path())?;
        Ok(copy)
    }
}

#[cfg(not(target_os = "linux"))]
impl File {
    pub(super) fn new() -> Result<Self> {
        anyhow::bail!("only Linux has files that cannot grow")
    }

    pub(super) fn path(&self) -> PathBuf {
        unreachable!("there is none")
    }

    pub(super) fn fill(&self) -> Result<()> {
        unreachable!("there is none")
    }

    pub(super) fn copy(&self) -> Result<Self> {
        unreachable!("there is none")
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        fs::OpenOptions,
        io::{Seek, SeekFrom, Write},
    };

    use super::*;

    #[test]
    fn a_full_file_takes_what_it_has_room_for_and_no_more() {
        let full = File::new().unwrap();
        let mut open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(full.path()).unwrap();
        open.write_all(b"abc").unwrap();
        full.fill().unwrap();
        open.write_all(b"d").unwrap_err();
        open.seek(SeekFrom::Start(0)).unwrap();
        open.write_all(b"xyz").unwrap();
        assert_eq!(std::fs::read(full.path()).unwrap(), b"xyz");
        let copy = full.copy().unwrap();
        OpenOptions::new().append(true).open(copy.path()).unwrap().write_all(b"d").unwrap();
        assert_eq!(std::fs::read(copy.path()).unwrap(), b"xyzd");
    }
}
