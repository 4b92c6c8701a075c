//! The server and the namespace that a command works on.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Error, Result, anyhow};
use larder::{Cache, InvalidationSink, Pattern};
use larder_core::{ErrorKind, Key};
use larder_redis::{RedisBackend, RedisConfig, TlsConfig};

use crate::{endpoint::without_login, options::Common, report::Usage};

/// A near tier as small as it may be: this process reads nothing twice.
const NEAR_BYTES: u64 = 64 << 10;

/// A server that has answered, and a namespace.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) redis: Arc<RedisBackend>,
    pub(crate) names: Names,
    pub(crate) address: String,
    deadline: Duration,
}

/// How keys are written in a namespace.
#[derive(Debug)]
pub(crate) struct Names {
    /// As it was given.
    pub(crate) namespace: String,
    /// Canonical, with its closing `:`.
    pub(crate) prefix: String,
}

impl Names {
    pub(crate) async fn of(namespace: &str) -> Result<Self> {
        let prefix = offline(namespace).await?.namespace_prefix().to_owned();
        Ok(Self { namespace: namespace.to_owned(), prefix })
    }

    /// A cache on this namespace that knows no server: it checks arguments as one in a service does.
    pub(crate) async fn cache(&self) -> Result<Cache> {
        offline(&self.namespace).await
    }

    /// A key as a person names it.
    pub(crate) fn key(&self, text: &str, canonical: bool) -> Result<Key> {
        if text.is_empty() {
            return Err(Usage("KEY is empty; name the key".to_owned()).into());
        }
        Ok(if canonical { Key::from_canonical(text) } else { Key::with_prefix(&self.prefix, text) })
    }

    pub(crate) fn keys(&self, texts: &[String], canonical: bool) -> Result<Vec<Key>> {
        let mut keys = Vec::with_capacity(texts.len());
        for text in texts {
            let key = self.key(text, canonical)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The same for what is to be removed: only within the namespace, whose processes are told.
    pub(crate) fn own_keys(&self, texts: &[String], canonical: bool) -> Result<Vec<Key>> {
        let keys = self.keys(texts, canonical)?;
        match keys.iter().find(|key| !self.holds(key.as_str())) {
            None => Ok(keys),
            Some(key) => Err(self.outside(key.as_str())),
        }
    }

    /// A glob as a person writes it.
    pub(crate) fn pattern(&self, glob: &str, canonical: bool) -> Result<Pattern> {
        if canonical && !glob.is_empty() {
            return Ok(Pattern::from_canonical(glob));
        }
        // Listing everything is harmless, so that the bare star is allowed here.
        if glob == "*" {
            return Ok(Pattern::prefix(&self.prefix));
        }
        Ok(Pattern::new(glob).map_err(|error| usage(&error))?.within(&self.prefix))
    }

    /// A canonical glob that stays within the namespace.
    pub(crate) fn own_pattern(&self, glob: &str) -> Result<Pattern> {
        let pattern = Pattern::from_canonical(glob);
        let rest = pattern.literal_prefix().strip_prefix(&self.prefix);
        match rest {
            Some(_) if glob[self.prefix.len()..].bytes().any(|byte| !matches!(byte, b'*' | b'?')) => Ok(pattern),
            Some(_) => Err(Usage(format!("{glob:?} names no key in particular; say --everything")).into()),
            None => Err(self.outside(glob)),
        }
    }

    /// Whether Larder keeps this key for itself.
    pub(crate) fn is_internal(&self, key: &Key) -> bool {
        key.is_internal(&self.prefix)
    }

    fn holds(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
    }

    fn outside(&self, what: &str) -> Error {
        let message = format!(
            "{what:?} is outside the namespace {:?}, whose processes would be told; name its own with --namespace",
            self.namespace
        );
        Usage(message).into()
    }
}

async fn offline(namespace: &str) -> Result<Cache> {
    let builder = Cache::builder().namespace(namespace).near_bytes(NEAR_BYTES);
    builder.build().await.map_err(|error| usage(&error))
}

impl Session {
    /// Connects.
    pub(crate) async fn open(common: &Common) -> Result<Self> {
        let session = Self::unconnected(common).await?;
        session.connect().await?;
        Ok(session)
    }

    /// Does not touch the network: a command checks its arguments with it before it connects.
    pub(crate) async fn unconnected(common: &Common) -> Result<Self> {
        let names = Names::of(&common.namespace).await?;
        let config = RedisConfig::builder()
            .url(&common.redis)
            .client_name("larder-cli")
            .sockets(1)
            .connect_deadline(common.deadline)
            .command_deadline(common.deadline);
        let config = match tls(common)? {
            Some(tls) => config.tls(tls),
            None => config,
        };
        let redis = RedisBackend::new(config.build().map_err(|error| usage(&error))?).map_err(|error| usage(&error))?;
        let address = without_login(&common.redis);
        Ok(Self { redis: Arc::new(redis), names, address, deadline: common.deadline })
    }

    /// Makes sure that the server answers.
    pub(crate) async fn connect(&self) -> Result<()> {
        larder_core::Backend::ping(&*self.redis).await.map_err(|error| self.failed(&error))
    }

    /// An error of the server, with what to look at.
    pub(crate) fn failed(&self, error: &larder_core::Error) -> Error {
        let advice = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout => {
                "check that the server runs there and can be reached, and that --redis or LARDER_REDIS_URL names it; \
                 --deadline allows more time"
            }
            ErrorKind::Auth => "check user and password in --redis or LARDER_REDIS_URL",
            _ => return anyhow!("{}: {error}", self.address),
        };
        anyhow!("{}: {error} ({advice})", self.address)
    }

    /// A cache on this namespace: what it invalidates, running processes hear of.
    pub(crate) async fn cache(&self) -> Result<Cache> {
        // The backend bounds every command by the deadline itself, and its errors say more.
        let patience = self.deadline * 2;
        let strategy = larder::Strategy::new("command line", Duration::from_secs(300)).remote_deadline(patience);
        let builder = Cache::builder()
            .namespace(&self.names.namespace)
            .near_bytes(NEAR_BYTES)
            .strategy(strategy)
            .remote_command_deadline(patience)
            .backend(self.redis.clone());
        Ok(builder.build().await?)
    }
}

/// The certificates that files hold, if any are named.
fn tls(common: &Common) -> Result<Option<TlsConfig>> {
    let read = |option: &str, path: &Path| {
        fs::read(path).map_err(|error| Error::from(Usage(format!("{option} {}: {error}", path.display()))))
    };
    let identity = match (&common.tls_cert, &common.tls_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((read("--tls-cert", certificate)?, read("--tls-key", key)?)),
        _ => return Err(Usage("--tls-cert and --tls-key go together; name both".to_owned()).into()),
    };
    if common.tls_ca.is_none() && identity.is_none() {
        return Ok(None);
    }
    let mut tls = TlsConfig::new();
    if let Some(path) = &common.tls_ca {
        tls = tls.ca_pem(read("--tls-ca", path)?);
    }
    if let Some((certificate, key)) = identity {
        tls = tls.client_pem(certificate, key);
    }
    Ok(Some(tls))
}

/// A setting that the person has to change.
fn usage(error: &larder_core::Error) -> Error {
    Usage(error.message().to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { namespace: "shop".into(), prefix: "shop:".into() }
    }

    #[test]
    fn what_is_removed_lies_within_the_namespace() {
        let names = names();
        assert!(names.own_keys(&["shop:a".into()], true).is_ok());
        assert!(names.own_keys(&["other:a".into()], true).is_err());
        assert_eq!(names.own_keys(&["other:a".into()], false).unwrap()[0].as_str(), "shop:other:a");
        assert!(names.own_pattern("shop:a*").is_ok());
        for wrong in ["*", "sh*", "shop:*", "shop:?*", "other:a*", ""] {
            assert!(names.own_pattern(wrong).is_err(), "{wrong}");
        }
    }
}
