//! What an expansion cannot see in the tokens: what a caller's error type can do, and where the function stands.
//!
//! The former is found out by method resolution, which prefers the implementation that needs fewer dereferences. Each
//! choice calls its method on as many references as it has traits.

use std::{any::type_name, error::Error as StdError, fmt, marker::PhantomData, ops::Deref, sync::Arc};

use larder_core::KeyBuf;

use crate::load_error::{ErrorSlot, LoadFault, SharedError};

/// A `Result` by whatever name: tells the error of an alias with one argument.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named as a `Result` is, and is none",
    label = "not a `Result`",
    note = "give the type another name"
)]
pub trait Fallible {
    /// The error.
    type Error;
}

impl<T, E> Fallible for Result<T, E> {
    type Error = E;
}

/// An argument that a load takes a copy of.
#[diagnostic::on_unimplemented(
    message = "a load needs `{Self}` for itself, and it cannot be cloned",
    label = "no `Clone` for this argument",
    note = "derive `Clone`, put it into an `Arc`, or take it by reference and let the caller run the function (`inline`)"
)]
pub trait Held: Sized {
    /// The copy.
    #[must_use]
    fn held(&self) -> Self;
}

impl<T: Clone> Held for T {
    #[inline]
    fn held(&self) -> Self {
        self.clone()
    }
}

/// A copy of an argument.
#[inline]
#[must_use]
pub fn hold<T: Held>(argument: &T) -> T {
    argument.held()
}

/// A function's name within its module: with the type or the function that it stands in. `Here` is an item in a function
/// that stands beside it.
#[must_use]
pub fn function_name<Here>(module: &str, name: &str) -> String {
    let path = type_name::<Here>();
    // Without `Here` and the function around it.
    let scope = path.rsplitn(3, "::").nth(2).unwrap_or_default();
    // A type of another module keeps its whole path.
    let scope = match scope.strip_prefix(module) {
        Some("") => "",
        Some(inner) => inner.strip_prefix("::").unwrap_or(scope),
        None => scope,
    };
    if scope.is_empty() { name.to_owned() } else { format!("{scope}::{name}") }
}

/// The type that a method is called on, where there are several: the methods of a generic type share one name.
#[inline]
pub fn write_owner<Owner: ?Sized>(key: &mut KeyBuf) {
    let owner = type_name::<Owner>();
    if owner.contains('<') {
        key.part(owner).separator();
    }
}

/// Stands for an error type.
pub struct Probe<E>(PhantomData<fn() -> E>);

impl<E> Probe<E> {
    /// A probe of a type.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E> Default for Probe<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for Probe<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}

/// The error can be cloned.
pub trait ByClone<E> {
    /// An error for one caller.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E: Clone> ByClone<E> for &&&Probe<E> {
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.cloned()
    }
}

/// The error can be made from a shared one.
pub trait ByShared<E> {
    /// An error for one caller.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E: From<SharedError> + StdError + Send + Sync + 'static> ByShared<E> for &&Probe<E> {
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.share().map(|error: Arc<E>| E::from(SharedError::new(error)))
    }
}

/// The error is a pointer to one that can be shared, as `anyhow::Error` and `Box<dyn Error + Send + Sync>` are.
pub trait ByPointer<E> {
    /// An error for one caller.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E> ByPointer<E> for &Probe<E>
where
    E: From<SharedError> + Deref<Target = dyn StdError + Send + Sync> + Send + Sync + 'static,
{
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.share().map(|error| E::from(SharedError::new(Arc::new(Pointed(error)))))
    }
}

/// What a shared pointer points to, as an error.
struct Pointed<E>(Arc<E>);

impl<E: Deref<Target = dyn StdError + Send + Sync>> fmt::Debug for Pointed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self.0, f)
    }
}

impl<E: Deref<Target = dyn StdError + Send + Sync>> fmt::Display for Pointed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self.0, f)
    }
}

impl<E: Deref<Target = dyn StdError + Send + Sync>> StdError for Pointed<E> {
    /// The error itself, so that callers who look for its type in the chain find it.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self.0)
    }
}

/// One caller gets the error.
pub trait ByTake<E> {
    /// An error for one caller; `None` for the others.
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E>;
}

impl<E> ByTake<E> for Probe<E> {
    fn recover(&self, slot: &ErrorSlot<E>) -> Option<E> {
        slot.take()
    }
}

/// The error can tell Larder's faults.
pub trait FaultByFrom<E> {
    /// Whether it can.
    fn tells_faults(&self) -> bool;

    /// The fault as the caller's error.
    ///
    /// # Errors
    /// The fault, if it cannot be told.
    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault>;
}

impl<E: From<LoadFault>> FaultByFrom<E> for &Probe<E> {
    fn tells_faults(&self) -> bool {
        true
    }

    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault> {
        Ok(E::from(fault))
    }
}

/// It cannot.
pub trait FaultUntold<E> {
    /// Whether it can.
    fn tells_faults(&self) -> bool;

    /// The fault as the caller's error.
    ///
    /// # Errors
    /// The fault, if it cannot be told.
    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault>;
}

impl<E> FaultUntold<E> for Probe<E> {
    fn tells_faults(&self) -> bool {
        false
    }

    fn tell(&self, fault: LoadFault) -> Result<E, LoadFault> {
        Err(fault)
    }
}

/// What `hard_timeout` asks of an error type.
#[diagnostic::on_unimplemented(
    message = "`hard_timeout` needs an error that can tell a time-out, and `{Self}` cannot",
    label = "no `From<larder::LoadFault>` for this error",
    note = "write `impl From<larder::LoadFault> for {Self}`, or leave `hard_timeout` out"
)]
pub trait TakesLoadFaults {}

impl<E: From<LoadFault>> TakesLoadFaults for E {}

/// Compiles only for such errors.
pub const fn takes_load_faults<E: TakesLoadFaults>() {}

#[cfg(test)]
mod tests {
    use super::function_name;

    struct Holder;

    struct Table<T>(std::marker::PhantomData<T>);

    impl<T> Table<T> {
        fn associated() -> String {
            struct Here;
            function_name::<Here>(module_path!(), "get")
        }
    }

    impl Holder {
        fn name(&self) -> String {
            fn site() -> String {
                struct Here;
                function_name::<Here>(module_path!(), "get")
            }
            site()
        }

        fn associated() -> String {
            struct Here;
            function_name::<Here>(module_path!(), "get")
        }
    }

    fn site() -> String {
        struct Here;
        function_name::<Here>(module_path!(), "get")
    }

    #[test]
    fn a_function_is_named_with_what_it_stands_in() {
        assert_eq!(site(), "get");
        assert_eq!(Holder::associated(), "Holder::get");
        assert_eq!(Holder.name(), "Holder::name::get");
        assert_eq!(Table::<u8>::associated(), "Table<_>::get");
    }

    #[test]
    fn a_module_whose_name_only_begins_alike_is_another() {
        struct Here;
        let whole = function_name::<Here>("larder::special", "get");
        assert_eq!(whole, "larder::specialise::tests::get");
    }
}
