//! The key of JSON Web Tokens: read from files, matched against its method, used to sign and to verify.
//!
//! HMAC, RSA and Ed25519 are `ring`'s, the curves of ECDSA those of the RustCrypto crates, which know P-521, too. A private
//! key stands for its public key as well; a public key, or a certificate that holds it, makes a member that only verifies.

use crate::auth::ecdsa::{EcSigner, EcVerifier};
use crate::auth::jwt::IssueError;
use crate::auth::options::{Hash, JwtOptions, SignMethod};
use anyhow::{Context, anyhow, bail, ensure};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};
use std::fmt;
use std::path::Path;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// A method with its key.
pub(crate) struct JwtKey {
    method: SignMethod,
    signer: Option<Signer>,
    verifier: Verifier,
}

enum Signer {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ed25519(Ed25519KeyPair),
    Ec(EcSigner),
}

enum Verifier {
    Hmac(hmac::Key),
    Ring(&'static dyn VerificationAlgorithm, Vec<u8>),
    Ec(EcVerifier),
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JwtKey").field("method", &self.method).finish_non_exhaustive()
    }
}

/// The public half of any key, as its kind of signature wants it: PKCS #1 for RSA, a point for a curve.
type PublicBytes = Vec<u8>;

impl JwtKey {
    /// Reads the files that the options name.
    pub(crate) fn load(options: &JwtOptions) -> anyhow::Result<Self> {
        let read = |path: Option<&Path>| match path {
            None => Ok(Vec::new()),
            Some(path) => std::fs::read(path).with_context(|| format!("auth: cannot read {}", path.display())),
        };
        let public = read(options.public_key.as_deref())?;
        let private = read(options.private_key.as_deref())?;
        Self::new(options.method, &public, &private)
    }

    /// A key from the contents of its files; empty: not given.
    pub(crate) fn new(method: SignMethod, public: &[u8], private: &[u8]) -> anyhow::Result<Self> {
        if let SignMethod::Hs(hash) = method {
            ensure!(!private.is_empty(), "auth: missing key data");
            let algorithm = match hash {
                Hash::Sha256 => hmac::HMAC_SHA256,
                Hash::Sha384 => hmac::HMAC_SHA384,
                Hash::Sha512 => hmac::HMAC_SHA512,
            };
            let key = hmac::Key::new(algorithm, private);
            return Ok(Self { method, signer: Some(Signer::Hmac(key.clone())), verifier: Verifier::Hmac(key) });
        }
        let private = if private.is_empty() { None } else { Some(signer(method, &block(private)?)?) };
        let public = if public.is_empty() { None } else { Some(public_bytes(method, &block(public)?)?) };
        let public = match (&private, public) {
            (None, None) => bail!("auth: missing key data"),
            (None, Some(public)) => public,
            (Some((_, own)), given) => {
                ensure!(given.is_none_or(|given| given == *own), "auth: public and private keys don't match");
                own.clone()
            }
        };
        let verifier = match method {
            SignMethod::Es(hash) => Verifier::Ec(EcVerifier::new(hash, &public)?),
            _ => Verifier::Ring(verification(method), public),
        };
        Ok(Self { method, signer: private.map(|(signer, _)| signer), verifier })
    }

    pub(crate) fn method(&self) -> SignMethod {
        self.method
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IssueError> {
        match self.signer.as_ref().ok_or(IssueError::VerifyOnly)? {
            Signer::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Signer::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &SystemRandom::new(), message, &mut signature).map_err(|_| IssueError::Failed)?;
                Ok(signature)
            }
            Signer::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Signer::Ec(key) => key.sign(message).ok_or(IssueError::Failed),
        }
    }

    /// Whether a signature is the message's.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            Verifier::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Ring(algorithm, public) => {
                UnparsedPublicKey::new(*algorithm, public).verify(message, signature).is_ok()
            }
            Verifier::Ec(key) => key.verify(message, signature),
        }
    }
}

/// The first block of a PEM file.
fn block(file: &[u8]) -> anyhow::Result<Pem> {
    let first = Pem::iter_from_buffer(file).next().ok_or_else(|| anyhow!("auth: a key must be PEM encoded"))?;
    first.map_err(|error| anyhow!("auth: a key must be PEM encoded: {error}"))
}

fn signer(method: SignMethod, pem: &Pem) -> anyhow::Result<(Signer, PublicBytes)> {
    let unusable = |error: &dyn fmt::Display| anyhow!("auth: the private key is none for {}: {error}", method.name());
    match method {
        SignMethod::Rs(_) | SignMethod::Ps(_) => {
            let read = if pem.label == "RSA PRIVATE KEY" { RsaKeyPair::from_der } else { RsaKeyPair::from_pkcs8 };
            let key = read(&pem.contents).map_err(|error| unusable(&error))?;
            let public = key.public_key().as_ref().to_vec();
            Ok((Signer::Rsa(key, encoding(method)), public))
        }
        SignMethod::EdDsa => {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pem.contents).map_err(|error| unusable(&error))?;
            let public = key.public_key().as_ref().to_vec();
            Ok((Signer::Ed25519(key), public))
        }
        SignMethod::Es(hash) => {
            let key = if pem.label == "EC PRIVATE KEY" {
                EcSigner::from_sec1(hash, &pem.contents)
            } else {
                EcSigner::from_pkcs8(hash, &pem.contents)
            };
            let key = key.map_err(|error| unusable(&error))?;
            let public = key.public_bytes();
            Ok((Signer::Ec(key), public))
        }
        SignMethod::Hs(_) => bail!("auth: an HMAC key is no PEM"),
    }
}

/// The key in a file of a public key or of a certificate.
fn public_bytes(method: SignMethod, pem: &Pem) -> anyhow::Result<PublicBytes> {
    let unusable = || anyhow!("auth: the public key is none for {}", method.name());
    if pem.label == "RSA PUBLIC KEY" && matches!(method, SignMethod::Rs(_) | SignMethod::Ps(_)) {
        return Ok(pem.contents.clone());
    }
    let of_certificate = || X509Certificate::from_der(&pem.contents).map(|(_, cert)| cert.tbs_certificate.subject_pki);
    let info = SubjectPublicKeyInfo::from_der(&pem.contents)
        .map(|(_, info)| info)
        .or_else(|_| of_certificate())
        .map_err(|_| unusable())?;
    let wanted = match method {
        SignMethod::Rs(_) | SignMethod::Ps(_) => "1.2.840.113549.1.1.1",
        SignMethod::Es(_) => "1.2.840.10045.2.1",
        SignMethod::EdDsa => "1.3.101.112",
        SignMethod::Hs(_) => "",
    };
    ensure!(info.algorithm.algorithm.to_id_string() == wanted, unusable());
    let bytes = info.subject_public_key.data.to_vec();
    match method {
        // A point may be written in a short form; one form makes keys comparable.
        SignMethod::Es(hash) => Ok(EcVerifier::new(hash, &bytes).map_err(|_| unusable())?.public_bytes()),
        _ => Ok(bytes),
    }
}

fn encoding(method: SignMethod) -> &'static dyn signature::RsaEncoding {
    match method {
        SignMethod::Ps(Hash::Sha256) => &signature::RSA_PSS_SHA256,
        SignMethod::Ps(Hash::Sha384) => &signature::RSA_PSS_SHA384,
        SignMethod::Ps(Hash::Sha512) => &signature::RSA_PSS_SHA512,
        SignMethod::Rs(Hash::Sha384) => &signature::RSA_PKCS1_SHA384,
        SignMethod::Rs(Hash::Sha512) => &signature::RSA_PKCS1_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

fn verification(method: SignMethod) -> &'static dyn VerificationAlgorithm {
    match method {
        SignMethod::Ps(Hash::Sha256) => &signature::RSA_PSS_2048_8192_SHA256,
        SignMethod::Ps(Hash::Sha384) => &signature::RSA_PSS_2048_8192_SHA384,
        SignMethod::Ps(Hash::Sha512) => &signature::RSA_PSS_2048_8192_SHA512,
        SignMethod::Rs(Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        SignMethod::Rs(Hash::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        SignMethod::EdDsa => &signature::ED25519,
        _ => &signature::RSA_PKCS1_2048_8192_SHA256,
    }
}
