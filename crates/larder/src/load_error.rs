//! How a load fails: the loader's own error, shared by all who waited for it, or Larder's reason.

use std::{error::Error as StdError, fmt, sync::Arc};

use parking_lot::Mutex;

/// Why a load gave no value. Cheap to clone, whatever `E` is.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader's error, shared by every caller that waited for this load.
    Loader(Arc<E>),
    /// The load took longer than the hard time-out. It goes on, and its value is kept.
    TimedOut,
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// The loader asked for its own key.
    Recursive,
    /// Too many loads are under way.
    Overloaded,
}

impl<E> LoadError<E> {
    /// The loader's error, or Larder's fault.
    ///
    /// # Errors
    /// Whatever was not the loader's error.
    pub fn into_parts(self) -> Result<Arc<E>, LoadFault> {
        match self {
            Self::Loader(error) => Ok(error),
            Self::TimedOut => Err(LoadFault::TimedOut),
            Self::Panicked(message) => Err(LoadFault::Panicked(message)),
            Self::Recursive => Err(LoadFault::Recursive),
            Self::Overloaded => Err(LoadFault::Overloaded),
        }
    }
}

impl<E> From<LoadFault> for LoadError<E> {
    fn from(fault: LoadFault) -> Self {
        match fault {
            LoadFault::TimedOut => Self::TimedOut,
            LoadFault::Panicked(message) => Self::Panicked(message),
            LoadFault::Recursive => Self::Recursive,
            LoadFault::Overloaded => Self::Overloaded,
        }
    }
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Loader(error) => Self::Loader(Arc::clone(error)),
            Self::TimedOut => Self::TimedOut,
            Self::Panicked(message) => Self::Panicked(Arc::clone(message)),
            Self::Recursive => Self::Recursive,
            Self::Overloaded => Self::Overloaded,
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.clone().into_parts() {
            Ok(error) => error.fmt(f),
            Err(fault) => fault.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for LoadError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Loader(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// A load that failed for a reason that is not the loader's error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadFault {
    /// The load took longer than the hard time-out. It goes on, and its value is kept.
    TimedOut,
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// The loader asked for its own key.
    Recursive,
    /// Too many loads are under way.
    Overloaded,
}

impl fmt::Display for LoadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("the load took longer than its hard time-out; it goes on in the background"),
            Self::Panicked(message) => write!(f, "the loader panicked: {message}"),
            Self::Recursive => f.write_str("the loader asked the cache for the key that it was loading"),
            Self::Overloaded => f.write_str("too many loads are under way"),
        }
    }
}

impl StdError for LoadFault {}

/// An error that several callers share, for error types that cannot be cloned: `impl From<SharedError> for MyError`.
#[derive(Debug, Clone)]
pub struct SharedError(Arc<dyn StdError + Send + Sync>);

impl SharedError {
    /// Shares an error.
    #[must_use]
    pub fn new<E: StdError + Send + Sync + 'static>(error: Arc<E>) -> Self {
        Self(error)
    }

    /// The error itself, if it is of this type.
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.0.as_ref())
    }
}

/// A loader's error on its way to several callers: cloned, shared, or handed to one of them, as its type allows.
#[derive(Debug)]
pub struct ErrorSlot<E>(Mutex<Slot<E>>);

#[derive(Debug)]
enum Slot<E> {
    Owned(E),
    Shared(Arc<E>),
    Taken,
}

impl<E> ErrorSlot<E> {
    /// Puts an error in.
    #[must_use]
    pub fn new(error: E) -> Self {
        Self(Mutex::new(Slot::Owned(error)))
    }

    /// Takes it out, once.
    #[must_use]
    pub fn take(&self) -> Option<E> {
        match std::mem::replace(&mut *self.0.lock(), Slot::Taken) {
            Slot::Owned(error) => Some(error),
            Slot::Shared(error) => Arc::into_inner(error),
            Slot::Taken => None,
        }
    }

    /// The error for everybody.
    #[must_use]
    pub fn share(&self) -> Option<Arc<E>> {
        let mut slot = self.0.lock();
        let shared = match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Owned(error) => Arc::new(error),
            Slot::Shared(error) => error,
            Slot::Taken => return None,
        };
        *slot = Slot::Shared(Arc::clone(&shared));
        Some(shared)
    }

    /// A copy of the error.
    #[must_use]
    pub fn cloned(&self) -> Option<E>
    where
        E: Clone,
    {
        match &*self.0.lock() {
            Slot::Owned(error) => Some(error.clone()),
            Slot::Shared(error) => Some(E::clone(error)),
            Slot::Taken => None,
        }
    }
}
