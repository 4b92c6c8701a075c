//! What an application invalidates by: a symbol, an exchange, a user, or something of its own.

use std::{borrow::Cow, fmt};

use larder_core::{Error, ErrorKind, KeyBuf, KeyPart, Result, Tag, Target, literal_part};

use crate::invalidate::region_prefix;

/// A way of naming entries that belong together.
///
/// [`WholePart`] covers the usual case; implement the trait for what lies otherwise in the keys:
///
/// ```
/// use larder_core::{Pattern, Result, Target, literal_part};
/// use larder_invalidation::Dimension;
///
/// /// Candles of one symbol and interval.
/// struct Candles<'a> { symbol: &'a str, interval: &'a str }
///
/// impl Dimension for Candles<'_> {
///     fn targets(&self, namespace_prefix: &str) -> Result<Vec<Target>> {
///         let (symbol, interval) = (literal_part(self.symbol), literal_part(self.interval));
///         let text = format!("{namespace_prefix}db:candles:{symbol}:{interval}*");
///         Ok(vec![Target::Pattern(Pattern::from_canonical(text))])
///     }
/// }
/// ```
pub trait Dimension {
    /// What is to be invalidated, canonical and within the namespace whose prefix is `""` or ends in `:`.
    ///
    /// # Errors
    /// An argument that names nothing or cannot be right; nothing is invalidated then.
    fn targets(&self, namespace_prefix: &str) -> Result<Vec<Target>>;
}

impl<D: Dimension + ?Sized> Dimension for &D {
    fn targets(&self, namespace_prefix: &str) -> Result<Vec<Target>> {
        (**self).targets(namespace_prefix)
    }
}

/// Entries of some regions that have a value as one whole part of their key, and entries anywhere that carry the tag
/// `tag:value`.
///
/// A key of more than [`MAX_KEY_BYTES`](larder_core::MAX_KEY_BYTES) keeps only its head: what such keys have at the end
/// is found by the tag alone.
#[derive(Clone, PartialEq, Eq)]
pub struct WholePart {
    name: Cow<'static, str>,
    regions: Vec<Cow<'static, str>>,
    value: String,
    tag: Tag,
}

impl WholePart {
    /// The value of a dimension, such as `WholePart::new("account", 7)`, with the tag `account:7` and no regions yet.
    #[must_use]
    pub fn new(tag: impl Into<Cow<'static, str>>, value: impl KeyPart) -> Self {
        let name = tag.into();
        // As a whole, since one that is too long ends in a digest of all of it.
        let mut tag = KeyBuf::new();
        tag.path(&name).separator().part(&value);
        let tag = Tag::from_canonical(tag.to_key().as_str());
        Self { name, regions: Vec::new(), value: literal_part(&value), tag }
    }

    /// Adds regions, by name, whose keys are searched.
    #[must_use]
    pub fn in_regions<R: Into<Cow<'static, str>>>(mut self, regions: impl IntoIterator<Item = R>) -> Self {
        self.regions.extend(regions.into_iter().map(Into::into));
        self
    }

    /// A trading symbol: in the regions `api`, `db` and `indicator`, and the tag `symbol:<name>`.
    #[must_use]
    pub fn symbol(symbol: &str) -> Self {
        Self::new("symbol", symbol).in_regions(["api", "db", "indicator"])
    }

    /// An exchange: in the regions `api` and `db`, and the tag `exchange:<name>`.
    #[must_use]
    pub fn exchange(exchange: &str) -> Self {
        Self::new("exchange", exchange).in_regions(["api", "db"])
    }

    /// A user's session: in the region `session`, and the tag `user:<id>`.
    #[must_use]
    pub fn user_session(user: impl KeyPart) -> Self {
        Self::new("user", user).in_regions(["session"])
    }
}

impl Dimension for WholePart {
    fn targets(&self, namespace_prefix: &str) -> Result<Vec<Target>> {
        if self.name.is_empty() || self.value.is_empty() {
            let (field, named) = if self.name.is_empty() { ("tag", "dimension") } else { (&*self.name, "value") };
            let message = format!("`{field}` is empty; name the {named} whose entries are to go");
            return Err(Error::new(ErrorKind::InvalidArgument, "invalidate", message));
        }
        let mut targets = Vec::with_capacity(self.regions.len() + 1);
        for region in &self.regions {
            let prefix = region_prefix(namespace_prefix, region)?;
            targets.push(Target::Part { prefix, part: self.value.clone() });
        }
        targets.push(Target::Tags(vec![self.tag.clone()]));
        Ok(targets)
    }
}

impl fmt::Debug for WholePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WholePart({} in {:?})", self.tag, self.regions)
    }
}

/// Gives [`Invalidate`](crate::Invalidate) methods of the application's own, as `symbol` is one of Larder's.
///
/// Each line becomes a method of an extension trait: its name and argument, the tag, and the regions whose keys are
/// searched, as in [`WholePart`]. The trait has to be in scope where it is used.
///
/// ```
/// # use larder_core::{Invalidated, InvalidationSink, Result};
/// use larder_invalidation::{Invalidate, dimensions};
///
/// dimensions! {
///     /// What the desk invalidates by.
///     pub trait Desk {
///         /// A book: in the regions `api` and `positions`, and the tag `book:<name>`.
///         fn book(name: &str) = "book" in ["api", "positions"];
///         /// An account: the tag `account:<id>`.
///         fn account(id: u64) = "account";
///     }
/// }
///
/// async fn after_a_trade(cache: &dyn InvalidationSink) -> Result<Invalidated> {
///     Invalidate::new(cache).book("rates").account(7).symbol("BTCUSDT").await
/// }
/// ```
///
/// A method of [`Invalidate`](crate::Invalidate) itself would be called in place of one of its name, so that such a name is
/// refused:
///
/// ```compile_fail
/// larder_invalidation::dimensions! {
///     pub trait Desk {
///         /// Quotes.
///         fn symbol(name: &str) = "quote" in ["quotes"];
///     }
/// }
/// ```
#[macro_export]
macro_rules! dimensions {
    (
        $(#[$doc:meta])*
        $visibility:vis trait $trait:ident {
            $($(#[$method_doc:meta])* fn $method:ident($value:ident: $type:ty) = $tag:literal $(in [$($region:literal),+ $(,)?])?;)+
        }
    ) => {
        $($crate::__unlike_own_methods!($method);)+

        $(#[$doc])*
        $visibility trait $trait: ::core::marker::Sized {
            $($(#[$method_doc])* #[must_use = "nothing is invalidated until this is awaited"] fn $method(self, $value: $type) -> Self;)+
        }

        impl $trait for $crate::Invalidate<'_> {
            $(fn $method(self, $value: $type) -> Self {
                self.by($crate::WholePart::new($tag, $value)$(.in_regions([$($region),+]))?)
            })+
        }
    };
}

/// Refuses the names of [`Invalidate`](crate::Invalidate)'s own methods.
#[doc(hidden)]
#[macro_export]
macro_rules! __unlike_own_methods {
    (key) => { $crate::__unlike_own_methods!(@refused "key"); };
    (keys) => { $crate::__unlike_own_methods!(@refused "keys"); };
    (tag) => { $crate::__unlike_own_methods!(@refused "tag"); };
    (tags) => { $crate::__unlike_own_methods!(@refused "tags"); };
    (pattern) => { $crate::__unlike_own_methods!(@refused "pattern"); };
    (region) => { $crate::__unlike_own_methods!(@refused "region"); };
    (everything) => { $crate::__unlike_own_methods!(@refused "everything"); };
    (symbol) => { $crate::__unlike_own_methods!(@refused "symbol"); };
    (exchange) => { $crate::__unlike_own_methods!(@refused "exchange"); };
    (user_session) => { $crate::__unlike_own_methods!(@refused "user_session"); };
    (by) => { $crate::__unlike_own_methods!(@refused "by"); };
    (on_progress) => { $crate::__unlike_own_methods!(@refused "on_progress"); };
    (into_targets) => { $crate::__unlike_own_methods!(@refused "into_targets"); };
    (dry_run) => { $crate::__unlike_own_methods!(@refused "dry_run"); };
    (@refused $name:literal) => {
        ::core::compile_error!(::core::concat!(
            "`", $name, "` is a method of `Invalidate` itself, which would be called instead; give the dimension another name"
        ));
    };
    ($other:ident) => {};
}
