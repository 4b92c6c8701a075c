//! Where test data lies.

use std::path::{Path, PathBuf};

/// A file of the real data beside the checkout, or `None`, said aloud, where it is absent.
#[expect(clippy::print_stderr, reason = "a test that checks less than it could must say so")]
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("{name} is not there: only the project's own reference is checked");
    None
}

/// A file of the crate's own test data.
pub(crate) fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}
