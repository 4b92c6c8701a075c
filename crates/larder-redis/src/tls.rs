//! TLS towards the server.

use std::fmt;

/// How a server proves who it is, and how this client does. `Debug` shows no keys.
///
/// Needs the crate's feature `tls`. Certificates are checked by rustls with the provider `ring`, unless the application
/// has installed another one for the process before the first connection.
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "give it to `RedisConfigBuilder::tls`"]
pub struct TlsConfig {
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) client: Option<ClientIdentity>,
}

/// A client's certificate chain and private key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    pub(crate) certificate_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
}

impl TlsConfig {
    /// The system's certificate authorities, no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these certificate authorities (PEM, one or more certificates) *instead of* the system's.
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(pem.into());
        self
    }

    /// The certificate chain and private key (PEM) that the server may ask for (`tls-auth-clients`).
    pub fn client_pem(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.client = Some(ClientIdentity { certificate_pem: certificate.into(), key_pem: key.into() });
        self
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("own_ca", &self.ca_pem.is_some())
            .field("client_certificate", &self.client.is_some())
            .finish()
    }
}

#[cfg(feature = "tls")]
mod connect {
    use larder_core::{Error, Result};
    use redis::{Client, ClientTlsConfig, ConnectionInfo, TlsCertificates};

    use super::TlsConfig;

    /// What a certificate in a PEM text begins with (RFC 7468).
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

    /// The library's client with certificates. Without an installed provider every TLS connection would fail at run time.
    pub(crate) fn client(info: ConnectionInfo, tls: &TlsConfig) -> Result<Client> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            // An error means that somebody else was quicker: there is one now.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let has_none = |pem: &[u8]| !pem.windows(BEGIN.len()).any(|window| window == BEGIN);
        if tls.ca_pem.as_deref().is_some_and(has_none) {
            // The library would trust nobody, and say so at each connection.
            return Err(Error::config("tls", "`ca_pem` holds no certificate; give certificates as PEM text"));
        }
        let certificates = TlsCertificates {
            client_tls: tls.client.as_ref().map(|identity| ClientTlsConfig {
                client_cert: identity.certificate_pem.clone(),
                client_key: identity.key_pem.clone(),
            }),
            root_cert: tls.ca_pem.clone(),
        };
        Client::build_with_tls(info, certificates)
            .map_err(|error| Error::config("tls", format_args!("{error}; give certificates and key as PEM text")))
    }
}

#[cfg(feature = "tls")]
pub(crate) use connect::client;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_output_shows_a_key() {
        let tls = TlsConfig::new().ca_pem("ca").client_pem("certificate", "hunter2");
        assert_eq!(format!("{tls:?}"), "TlsConfig { own_ca: true, client_certificate: true }");
    }
}
