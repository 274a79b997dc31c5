//! Every method signs what it verifies, in each form its key may come in; and nothing else is believed.

use super::*;
use crate::auth::options::SignMethod;
use std::time::Instant;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../testdata/", $name)) as &[u8]
    };
}

const RSA: &[u8] = file!("rsa.pem");
const RSA_PKCS1: &[u8] = file!("rsa.pkcs1.pem");
const RSA_PUBLIC: &[u8] = file!("rsa.pub.pem");
const RSA_CERTIFICATE: &[u8] = file!("rsa.cert.pem");
const ED25519: &[u8] = file!("ed25519.pem");
const ED25519_PUBLIC: &[u8] = file!("ed25519.pub.pem");
const SECRET: &[u8] = b"a secret of some length";

fn at(wall_ms: u64) -> Moment {
    Moment { steady: Instant::now(), wall_ms }
}

fn session() -> Session {
    Session { name: "us\u{e4}r".into(), revision: 9 }
}

fn key(method: &str, public: &[u8], private: &[u8]) -> anyhow::Result<JwtKey> {
    JwtKey::new(SignMethod::find(method).expect("a method"), public, private)
}

fn tokens(method: &str, public: &[u8], private: &[u8]) -> JwtTokens {
    JwtTokens::new(key(method, public, private).expect(method), Duration::from_secs(60))
}

/// Every method with a private key and, where there is one, its public half.
fn methods() -> Vec<(&'static str, &'static [u8], &'static [u8])> {
    let mut all: Vec<(&str, &[u8], &[u8])> = vec![
        ("ES256", file!("p256.pub.pem"), file!("p256.pem")),
        ("ES256", file!("p256.pub.pem"), file!("p256.sec1.pem")),
        ("ES384", file!("p384.pub.pem"), file!("p384.pem")),
        ("ES384", file!("p384.pub.pem"), file!("p384.sec1.pem")),
        ("ES512", file!("p521.pub.pem"), file!("p521.pem")),
        ("ES512", file!("p521.pub.pem"), file!("p521.sec1.pem")),
        ("EdDSA", ED25519_PUBLIC, ED25519),
    ];
    for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        all.extend([(method, RSA_PUBLIC, RSA), (method, RSA_PUBLIC, RSA_PKCS1), (method, RSA_CERTIFICATE, RSA)]);
    }
    all.extend(["HS256", "HS384", "HS512"].map(|method| (method, &b""[..], SECRET)));
    all
}

#[test]
fn what_a_method_signs_it_verifies() {
    for (method, public, private) in methods() {
        let issuer = tokens(method, public, private);
        let token = issuer.issue(&session(), at(5_000)).expect(method);
        assert_eq!(issuer.check(token.as_bytes(), at(6_000)), Some(session()), "{method}");
        let alone = tokens(method, b"", private);
        assert_eq!(alone.check(token.as_bytes(), at(6_000)), Some(session()), "{method}, private key only");
        if !public.is_empty() {
            let verifier = tokens(method, public, b"");
            assert_eq!(verifier.check(token.as_bytes(), at(6_000)), Some(session()), "{method}, public key only");
            assert_eq!(verifier.issue(&session(), at(5_000)), Err(IssueError::VerifyOnly), "{method}");
        }
    }
}

#[test]
fn claims_are_etcds() {
    let token = tokens("HS256", b"", SECRET).issue(&session(), at(5_000)).expect("a token");
    let part = |number: usize| {
        let text = token.split('.').nth(number).expect("a part");
        String::from_utf8(URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON")
    };
    assert_eq!(part(0), r#"{"alg":"HS256","typ":"JWT"}"#);
    assert_eq!(part(1), "{\"exp\":65,\"revision\":9,\"username\":\"us\u{e4}r\"}");
}

#[test]
fn a_token_ends_at_its_time() {
    for tokens in [tokens("HS256", b"", SECRET), tokens("HS256", b"", SECRET)] {
        let token = tokens.issue(&session(), at(5_000)).expect("a token");
        assert!(tokens.check(token.as_bytes(), at(64_999)).is_some());
        let fresh = JwtTokens::new(key("HS256", b"", SECRET).expect("a key"), Duration::ZERO);
        assert_eq!(fresh.check(token.as_bytes(), at(65_000)), None);
    }
    let tokens = tokens("HS256", b"", SECRET);
    let begin = Instant::now();
    let token = tokens.issue(&session(), Moment { steady: begin, wall_ms: 5_000 }).expect("a token");
    let later =
        |seconds: u64| Moment { steady: begin + Duration::from_secs(seconds), wall_ms: 5_000 + seconds * 1_000 };
    assert!(tokens.check(token.as_bytes(), later(59)).is_some());
    assert_eq!(tokens.check(token.as_bytes(), later(60)), None, "also one that is remembered");
}

/// A token with these claims, its signature good.
fn signed(header: &str, claims: &str) -> String {
    let key = key("HS256", b"", SECRET).expect("a key");
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn others_may_issue_tokens() {
    let check = |header: &str, claims: &str| {
        tokens("HS256", b"", SECRET).check(signed(header, claims).as_bytes(), at(100_000)).map(|found| found.revision)
    };
    const HEADER: &str = r#"{"alg":"HS256"}"#;
    assert_eq!(check(HEADER, r#"{"username":"u","revision":7}"#), Some(7), "without an end");
    assert_eq!(check(HEADER, r#"{"username":"u","revision":7.0,"exp":100.5,"aud":["x"],"iss":"y"}"#), Some(7));
    assert_eq!(check(HEADER, r#"{"username":"u","revision":7,"exp":100}"#), None);
    assert_eq!(check(HEADER, r#"{"username":"u","revision":7,"exp":"101"}"#), None);
    assert_eq!(check(HEADER, r#"{"username":"u","revision":7,"nbf":101}"#), None);
    assert_eq!(check(HEADER, r#"{"username":"u","revision":7,"nbf":100}"#), Some(7));
    assert_eq!(check(HEADER, r#"{"revision":7}"#), None);
    assert_eq!(check(HEADER, r#"{"username":"u"}"#), None);
    assert_eq!(check(HEADER, r#"{"username":"u","revision":"7"}"#), None);
    assert_eq!(check(HEADER, "[]"), None);
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, "{}", r#"{"alg":"HS256","crit":["exp"]}"#] {
        assert_eq!(check(header, r#"{"username":"u","revision":7}"#), None, "{header}");
    }
}

#[test]
fn nothing_else_is_believed() {
    let issuer = tokens("RS256", RSA_PUBLIC, RSA);
    let token = issuer.issue(&session(), at(5_000)).expect("a token");
    for position in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        assert_eq!(issuer.check(&changed, at(5_000)), None, "{position}");
    }
    for text in ["", ".", "..", "a.b.c", "nonsense.5"] {
        assert_eq!(issuer.check(text.as_bytes(), at(5_000)), None, "{text}");
    }
    // The public key as an HMAC secret: the method is the configured one, whatever a token says.
    let forged = tokens("HS256", b"", RSA_PUBLIC).issue(&session(), at(5_000)).expect("a token");
    assert_eq!(issuer.check(forged.as_bytes(), at(5_000)), None);
}

#[test]
fn keys_that_do_not_fit_stop_the_start() {
    let error = |method: &str, public: &[u8], private: &[u8]| {
        key(method, public, private).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for method in ["HS256", "RS256", "ES256", "EdDSA"] {
        assert_eq!(error(method, b"", b""), "auth: missing key data", "{method}");
    }
    assert_eq!(
        error("ES256", file!("p256.pub.pem"), file!("other.p256.pem")),
        "auth: public and private keys don't match"
    );
    for (method, public, private) in [
        ("RS256", &b""[..], file!("p256.pem")),
        ("RS256", file!("p256.pub.pem"), &b""[..]),
        ("ES256", b"", file!("p384.pem")),
        ("ES384", file!("p256.pub.pem"), b""),
        ("EdDSA", RSA_PUBLIC, b""),
        ("EdDSA", b"", RSA),
        ("RS256", b"", b"no key"),
    ] {
        assert!(error(method, public, private).starts_with("auth: "), "{method}");
    }
}
