//! What `--auth-token` says: the kind of tokens, and a JWT's settings. Reads no file; see [`super::jwt_key`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// etcd's lifetime of a token that names none.
const TTL_DEFAULT: Duration = Duration::from_secs(300);

/// `--auth-token`, with `--auth-token-ttl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOptions {
    /// Tokens of this cluster's own make; see [`super::simple`].
    Simple {
        /// How long a token lives after it was issued or used.
        ttl: Duration,
    },
    /// JSON Web Tokens, which others may issue and check as well.
    Jwt(JwtOptions),
    /// No tokens: users are known by their certificates only.
    None,
}

/// The settings of JSON Web Tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// How tokens are signed.
    pub method: SignMethod,
    /// File of the public key, or of a certificate that holds it.
    pub public_key: Option<PathBuf>,
    /// File of the private key; the secret itself for HMAC.
    pub private_key: Option<PathBuf>,
    /// How long a token lives.
    pub ttl: Duration,
}

/// A signature's kind, named as in a token's `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignMethod {
    /// HMAC over a hash.
    Hs(Hash),
    /// RSA, PKCS #1 v1.5.
    Rs(Hash),
    /// RSA, PSS.
    Ps(Hash),
    /// ECDSA, on the curve that the hash belongs to: P-256, P-384, P-521.
    Es(Hash),
    /// Ed25519.
    EdDsa,
}

/// The hash of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// All methods, with their names.
const METHODS: [(&str, SignMethod); 13] = [
    ("HS256", SignMethod::Hs(Hash::Sha256)),
    ("HS384", SignMethod::Hs(Hash::Sha384)),
    ("HS512", SignMethod::Hs(Hash::Sha512)),
    ("RS256", SignMethod::Rs(Hash::Sha256)),
    ("RS384", SignMethod::Rs(Hash::Sha384)),
    ("RS512", SignMethod::Rs(Hash::Sha512)),
    ("PS256", SignMethod::Ps(Hash::Sha256)),
    ("PS384", SignMethod::Ps(Hash::Sha384)),
    ("PS512", SignMethod::Ps(Hash::Sha512)),
    ("ES256", SignMethod::Es(Hash::Sha256)),
    ("ES384", SignMethod::Es(Hash::Sha384)),
    ("ES512", SignMethod::Es(Hash::Sha512)),
    ("EdDSA", SignMethod::EdDsa),
];

impl SignMethod {
    /// The method of a name.
    pub fn find(name: &str) -> Option<Self> {
        METHODS.iter().find(|(known, _)| *known == name).map(|(_, method)| *method)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map(|(name, _)| *name).expect("every method is listed")
    }
}

/// Why `--auth-token` can't be followed, in etcd's words.
pub const INVALID_OPTIONS: &str = "auth: invalid auth options";

/// Reads the flag. `ttl_s` is `--auth-token-ttl`; 0 means etcd's default. Settings that nobody knows go into `unknown`.
pub fn parse(text: &str, ttl_s: u64, unknown: &mut Vec<String>) -> Result<TokenOptions, &'static str> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut settings = BTreeMap::new();
    for part in parts {
        let (name, value) = part.split_once('=').filter(|(_, value)| !value.contains('=')).ok_or(INVALID_OPTIONS)?;
        if settings.insert(name, value).is_some() {
            return Err(INVALID_OPTIONS);
        }
    }
    match kind {
        "simple" => {
            let ttl = if ttl_s == 0 { TTL_DEFAULT } else { Duration::from_secs(ttl_s) };
            Ok(TokenOptions::Simple { ttl })
        }
        "jwt" => jwt(&settings, unknown).map(TokenOptions::Jwt),
        "" => Ok(TokenOptions::None),
        _ => Err(INVALID_OPTIONS),
    }
}

fn jwt(settings: &BTreeMap<&str, &str>, unknown: &mut Vec<String>) -> Result<JwtOptions, &'static str> {
    let given = |name: &str| settings.get(name).copied().filter(|value| !value.is_empty());
    let ttl = match given("ttl") {
        None => TTL_DEFAULT,
        Some(text) => {
            let nanoseconds = crate::config::parse_duration(text).ok_or(INVALID_OPTIONS)?;
            Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
        }
    };
    let method = given("sign-method").and_then(SignMethod::find).ok_or(INVALID_OPTIONS)?;
    let known = ["sign-method", "pub-key", "priv-key", "ttl"];
    unknown.extend(settings.keys().filter(|name| !known.contains(name)).map(|name| (*name).to_owned()));
    Ok(JwtOptions {
        method,
        public_key: given("pub-key").map(PathBuf::from),
        private_key: given("priv-key").map(PathBuf::from),
        ttl,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TokenOptions, &'static str> {
        parse(text, 7, &mut Vec::new())
    }

    #[test]
    fn simple_tokens_take_their_life_from_their_own_flag() {
        assert_eq!(read("simple"), Ok(TokenOptions::Simple { ttl: Duration::from_secs(7) }));
        assert_eq!(parse("simple", 0, &mut Vec::new()), Ok(TokenOptions::Simple { ttl: TTL_DEFAULT }));
        assert_eq!(read(""), Ok(TokenOptions::None));
    }

    #[test]
    fn a_jwt_names_its_method() {
        let mut unknown = Vec::new();
        let text = "jwt,pub-key=a.pem,priv-key=b.pem,sign-method=RS256,ttl=1m30s,colour=blue";
        let expected = JwtOptions {
            method: SignMethod::Rs(Hash::Sha256),
            public_key: Some("a.pem".into()),
            private_key: Some("b.pem".into()),
            ttl: Duration::from_secs(90),
        };
        assert_eq!(parse(text, 7, &mut unknown), Ok(TokenOptions::Jwt(expected)));
        assert_eq!(unknown, ["colour"]);
        let Ok(TokenOptions::Jwt(plain)) = read("jwt,sign-method=EdDSA") else { panic!("a JWT") };
        assert_eq!((plain.ttl, plain.public_key, plain.private_key), (TTL_DEFAULT, None, None));
        for (name, method) in METHODS {
            assert_eq!((SignMethod::find(name), method.name()), (Some(method), name));
        }
    }

    #[test]
    fn what_etcd_refuses_is_refused() {
        for text in [
            "jwt",
            "jwt,sign-method=none",
            "jwt,sign-method=RS257",
            "jwt,sign-method=RS256,sign-method=RS256",
            "jwt,sign-method=RS256,ttl=soon",
            "jwt,sign-method",
            "jwt,sign-method=RS256=x",
            "simple,x",
            "Simple",
            "certificate",
        ] {
            assert_eq!(read(text), Err(INVALID_OPTIONS), "{text}");
        }
    }
}
