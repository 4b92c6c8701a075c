//! Certificates for one test.

use std::path::{Path, PathBuf};

/// The files that a server with TLS is given.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, PEM. It must be good for 127.0.0.1.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authority that it trusts, PEM.
    pub authority: PathBuf,
}

impl TlsFiles {
    pub(crate) fn arguments(&self) -> [(&'static str, &Path); 3] {
        [("--tls-cert-file", &self.certificate), ("--tls-key-file", &self.key), ("--tls-ca-cert-file", &self.authority)]
    }
}

#[cfg(feature = "tls")]
pub use made::TlsCertificates;

#[cfg(feature = "tls")]
mod made {
    use std::{env, fs, path::PathBuf};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::TlsFiles;

    /// A folder with two certificate authorities, certificates of a server and of a client by the first, and one of a
    /// stranger by the other. Dropping the value removes it.
    #[derive(Debug)]
    pub struct TlsCertificates(PathBuf);

    impl TlsCertificates {
        /// Makes them, with names that go with 127.0.0.1.
        ///
        /// # Panics
        /// If the folder for temporary files cannot be written to.
        #[must_use]
        pub fn create() -> Self {
            let these = Self(env::temp_dir().join(format!("larder-tls-{:016x}", fastrand::u64(..))));
            fs::create_dir(&these.0).expect("a folder can be made where temporary files are");
            let (ours, others) = (these.authority("ca"), these.authority("other"));
            these.signed("server", &ours);
            these.signed("client", &ours);
            these.signed("stranger", &others);
            these
        }

        /// The certificate of an authority: `ca` signed the server's and the client's, `other` the stranger's.
        ///
        /// # Panics
        /// If there is none of this name.
        #[must_use]
        pub fn authority_pem(&self, name: &str) -> Vec<u8> {
            self.read(name, "crt")
        }

        /// Certificate and key of `server`, `client` or `stranger`.
        ///
        /// # Panics
        /// If there is none of this name.
        #[must_use]
        pub fn pair_pem(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
            (self.read(name, "crt"), self.read(name, "key"))
        }

        /// What the server is given.
        #[must_use]
        pub fn files(&self) -> TlsFiles {
            let [certificate, key, authority] = ["server.crt", "server.key", "ca.crt"].map(|name| self.0.join(name));
            TlsFiles { certificate, key, authority }
        }

        fn read(&self, name: &str, ending: &str) -> Vec<u8> {
            let path = self.0.join(format!("{name}.{ending}"));
            fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }

        fn write(&self, name: &str, ending: &str, pem: &str) {
            let path = self.0.join(format!("{name}.{ending}"));
            fs::write(&path, pem).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }

        fn authority(&self, name: &str) -> Issuer<'static, KeyPair> {
            let mut params = params(name, &[]);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key of the default kind can be made");
            let certificate = params.self_signed(&key).expect("an authority signs itself");
            self.write(name, "crt", &certificate.pem());
            Issuer::new(params, key)
        }

        fn signed(&self, name: &str, by: &Issuer<'_, KeyPair>) {
            let key = KeyPair::generate().expect("a key of the default kind can be made");
            let certificate = params(name, &["127.0.0.1"]).signed_by(&key, by).expect("an authority signs others");
            self.write(name, "crt", &certificate.pem());
            self.write(name, "key", &key.serialize_pem());
        }
    }

    impl Drop for TlsCertificates {
        fn drop(&mut self) {
            // What is left in the folder for temporary files does no harm.
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn params(name: &str, hosts: &[&str]) -> CertificateParams {
        let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut params = CertificateParams::new(hosts).expect("an address of the loopback is a good name");
        params.distinguished_name.push(DnType::CommonName, format!("larder {name}"));
        params
    }
}
