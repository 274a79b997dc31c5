//! ECDSA on the three curves of JSON Web Tokens: each hash has its own.

use crate::auth::options::Hash;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::pkcs8::DecodePrivateKey;

/// A key does not fit its curve, or is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key of this curve")]
pub(crate) struct NoKey;

macro_rules! curves {
    ($($hash:ident $curve:ident $module:ident;)*) => {
        /// A private key.
        pub(crate) enum EcSigner { $($curve($module::ecdsa::SigningKey),)* }

        /// A public key.
        pub(crate) enum EcVerifier { $($curve($module::ecdsa::VerifyingKey),)* }

        impl EcSigner {
            /// From SEC 1's DER.
            pub(crate) fn from_sec1(hash: Hash, der: &[u8]) -> Result<Self, NoKey> {
                match hash {
                    $(Hash::$hash => {
                        $module::SecretKey::from_sec1_der(der).map(|key| Self::$curve(key.into())).map_err(|_| NoKey)
                    })*
                }
            }

            /// From PKCS #8's DER.
            pub(crate) fn from_pkcs8(hash: Hash, der: &[u8]) -> Result<Self, NoKey> {
                match hash {
                    $(Hash::$hash => {
                        $module::SecretKey::from_pkcs8_der(der).map(|key| Self::$curve(key.into())).map_err(|_| NoKey)
                    })*
                }
            }

            /// The public key's point.
            pub(crate) fn public_bytes(&self) -> Vec<u8> {
                match self {
                    $(Self::$curve(key) => {
                        EcVerifier::$curve($module::ecdsa::VerifyingKey::from(key)).public_bytes()
                    })*
                }
            }

            /// Signs: both numbers in full length, one behind the other.
            pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
                match self {
                    $(Self::$curve(key) => {
                        let signature: $module::ecdsa::Signature = key.try_sign(message).ok()?;
                        Some(signature.to_bytes().to_vec())
                    })*
                }
            }
        }

        impl EcVerifier {
            /// From a point.
            pub(crate) fn new(hash: Hash, point: &[u8]) -> Result<Self, NoKey> {
                match hash {
                    $(Hash::$hash => {
                        $module::ecdsa::VerifyingKey::from_sec1_bytes(point).map(Self::$curve).map_err(|_| NoKey)
                    })*
                }
            }

            /// The point, both coordinates written out.
            pub(crate) fn public_bytes(&self) -> Vec<u8> {
                match self {
                    $(Self::$curve(key) => key.to_sec1_point(false).as_bytes().to_vec(),)*
                }
            }

            /// Whether a signature is the message's.
            pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
                match self {
                    $(Self::$curve(key) => $module::ecdsa::Signature::from_slice(signature)
                        .is_ok_and(|signature| key.verify(message, &signature).is_ok()),)*
                }
            }
        }
    };
}

curves! {
    Sha256 P256 p256;
    Sha384 P384 p384;
    Sha512 P521 p521;
}
