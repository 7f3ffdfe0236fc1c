//! The system of record: a version of each key, in memory, and in a file for nodes in processes of their own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::NamedTempFile;

/// Who decides which version of a key is the true one.
pub(crate) struct Source {
    versions: Vec<AtomicU64>,
    file: NamedTempFile,
}

impl Source {
    /// So many keys, all of version 1.
    ///
    /// # Errors
    /// If there is no room for a file of 8 bytes a key.
    pub(crate) fn new(keys: usize) -> io::Result<Self> {
        let file = NamedTempFile::new()?;
        for number in 0..keys {
            write(file.as_file(), number, 1)?;
        }
        Ok(Self { versions: (0..keys).map(|_| AtomicU64::new(1)).collect(), file })
    }

    /// The version of a key.
    pub(crate) fn version(&self, number: usize) -> u64 {
        self.versions[number].load(Ordering::SeqCst)
    }

    /// Changes a key; answers the new version. One writer a key: two would write the file in any order.
    pub(crate) fn change(&self, number: usize) -> u64 {
        let version = self.versions[number].fetch_add(1, Ordering::SeqCst) + 1;
        write(self.file.as_file(), number, version)
            .unwrap_or_else(|error| panic!("the file of the source cannot be written: {error}"));
        version
    }

    /// Where another process finds it.
    pub(crate) fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }
}

fn write(file: &File, number: usize, version: u64) -> io::Result<()> {
    file.write_all_at(&version.to_le_bytes(), number as u64 * 8)
}

/// The same system of record, as another process sees it.
pub(crate) struct Copy(File);

impl Copy {
    /// Opens what [`Source::path`] names.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// The version of a key.
    ///
    /// # Errors
    /// If the file has gone.
    pub(crate) fn version(&self, number: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, number as u64 * 8)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
