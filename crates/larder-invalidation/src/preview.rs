//! What an invalidation would do.

use std::fmt;

use larder_core::Target;

/// The targets of an invalidation and how many remote keys each would touch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preview {
    /// In the order in which they would be carried out.
    pub targets: Vec<PreviewedTarget>,
}

/// One target of a [`Preview`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviewedTarget {
    /// The target.
    pub target: Target,
    /// Remote keys that it would touch; `None` where they cannot be counted, as for tags.
    pub keys: Option<u64>,
}

impl Preview {
    /// Remote keys in all, as far as they can be counted; one that two targets touch counts twice.
    #[must_use]
    pub fn counted_keys(&self) -> u64 {
        self.targets.iter().filter_map(|previewed| previewed.keys).sum()
    }

    /// Whether every target could be counted.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.targets.iter().all(|previewed| previewed.keys.is_some())
    }
}

/// A line for each target: what it is and how many keys it would touch.
impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for PreviewedTarget { target, keys } in &self.targets {
            match keys {
                Some(1) => writeln!(f, "{target}: 1 key")?,
                Some(keys) => writeln!(f, "{target}: {keys} keys")?,
                None => writeln!(f, "{target}: not counted")?,
            }
        }
        Ok(())
    }
}
