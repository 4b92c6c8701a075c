//! What an expansion brings into a crate that forbids much, and into a module whose names are others.

/// A crate that allows as little as it can.
pub mod lints {
    #![expect(unreachable_pub, reason = "in a library it would be reachable")]
    #![deny(
        unused,
        missing_docs,
        missing_debug_implementations,
        non_snake_case,
        rust_2018_idioms,
        single_use_lifetimes,
        unused_lifetimes,
        unused_qualifications,
        unused_results,
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::shadow_reuse,
        clippy::shadow_same,
        clippy::unwrap_used,
        clippy::wildcard_enum_match_arm
    )]

    use std::sync::Arc;

    use larder::{KeyPart, cached, key};

    /// Somebody.
    #[derive(Debug, Clone, KeyPart)]
    pub struct User {
        /// A number.
        pub id: u32,
    }

    /// A mistake.
    #[derive(Debug)]
    pub struct Mistake;

    impl User {
        /// A method.
        ///
        /// # Errors
        /// Never.
        #[expect(clippy::unused_async, reason = "a test")]
        #[cached(ttl = "1m", companion = name, negative_ttl = "1s")]
        pub async fn name(&self, prefix: &str) -> Result<Option<Arc<String>>, Mistake> {
            Ok(Some(Arc::new(format!("{prefix}{}", self.id))))
        }
    }

    /// A function.
    ///
    /// # Errors
    /// Never.
    #[must_use = "of a value"]
    #[expect(clippy::unused_async, reason = "a test")]
    #[cached(key = "user:{user.id}", tags = ["user:{user.id}"], stale = "1s", condition = |name| !name.is_empty())]
    pub async fn name(user: &User) -> Result<String, Mistake> {
        Ok(user.id.to_string())
    }

    /// A generic one.
    #[expect(clippy::unused_async, reason = "a test")]
    #[cached(near, inline)]
    pub async fn length<T: KeyPart + Clone + Send + Sync + 'static, const N: usize>(
        values: &[T; N],
        _seed: u8,
    ) -> usize {
        values.iter().count()
    }

    /// A plain one.
    #[must_use]
    #[cached]
    pub fn plain(id: u8) -> u8 {
        id
    }

    /// A key.
    #[must_use]
    pub fn of(id: u8) -> larder::KeyBuf {
        key!("user:{id}:a b")
    }
}

/// A module in which nothing is called what it usually is.
mod names {
    #![expect(dead_code, clippy::upper_case_acronyms, reason = "the names are what is tested")]

    mod core {}
    mod std {}
    mod larder {}
    struct Result;
    struct Option;
    struct Vec;
    struct String;
    struct Arc;
    struct Box;
    struct Clone;
    struct Site;
    struct Here;
    struct NAME;
    struct SITE;
    struct Miss;
    struct Outcome;
    struct Cache;

    #[::larder::cached(key = "names:{value}", tags = ["t:{value}"], cache_none)]
    pub(super) async fn find(value: u8) -> ::std::option::Option<u8> {
        ::std::option::Option::Some(value)
    }

    #[derive(::larder::KeyPart)]
    pub(super) struct Generic<T>(pub(super) T);
}

#[larder::test]
async fn the_names_of_a_module_do_not_matter() {
    assert_eq!(names::find(1).await, Some(1));
    assert_eq!(names::find::outcome(1).await.source, larder::Source::Near);
    assert_eq!(larder::Key::new(&(names::Generic(5),)).as_str(), "5");
}

/// A crate that offers larder under another path.
mod offers {
    pub(super) mod cache {
        pub(crate) use ::larder as pantry;
    }
}

#[larder::cached(crate = offers::cache::pantry)]
async fn elsewhere(id: u8) -> u8 {
    id
}

#[larder::test]
async fn the_facade_may_be_anywhere() {
    assert_eq!(elsewhere(1).await, 1);
    assert_eq!(elsewhere::outcome(1).await.source, larder::Source::Near);
}

#[larder::test]
async fn what_a_strict_crate_caches_is_cached() {
    let user = lints::User { id: 7 };
    assert_eq!(user.name("u").await.unwrap().unwrap().as_str(), "u7");
    assert_eq!(user.name_outcome("u").await.unwrap().source, larder::Source::Near);
    assert_eq!(lints::name(&user).await.unwrap(), "7");
    assert_eq!(lints::length(&["a", "b"], 0).await, 2);
    assert_eq!(lints::length(&["a"], 0).await, 1);
    assert_eq!(lints::plain(3), 3);
    assert_eq!(larder::Key::new(&lints::of(1)).as_str(), "user:1:a%20b");
}
