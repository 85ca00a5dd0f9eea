//! Says in words why a connection failed, from whatever chain of errors the libraries hand up. It never guesses: a failure that it does
//! not know keeps the library's own words.

use std::{error::Error as StdError, io, iter};

use rustls::{CertificateError, Error};

use super::{CredentialsUnusable, tls::OtherServer};

/// A step of the connection that was not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The TCP connection.
    #[error("no answer within 5 s; is the host right, and no firewall between?")]
    Tcp,
    /// The TLS handshake.
    #[error(
        "something accepts connections there, but did not answer the TLS handshake within 5 s; is it a Tradelane node?"
    )]
    Tls,
    /// The begin of HTTP/2.
    #[error("the TLS handshake is done, but the other side did not begin HTTP/2 within 5 s; is it a Tradelane node?")]
    Http,
}

/// The other side took our part of the handshake and closed the connection without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the node closed the connection right after the handshake; its log says why (too many connections, or our certificate)"
)]
pub struct ClosedAtOnce;

/// Words for the deepest known cause in an error's chain of sources.
#[must_use]
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    chain(error).filter_map(explain_one).last()
}

/// Where the other side ended TLS with an alert after our side of the handshake was done: why, as far as the alert says it. In TLS 1.3 a
/// refused client certificate shows like that.
#[must_use]
pub fn handshake_refused(error: &(dyn StdError + 'static)) -> Option<String> {
    chain(error).find_map(alert_in)
}

/// Whether we ended the handshake, since the other side's certificate is not that of the node that was meant.
#[must_use]
pub fn is_other_server(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|cause| matches!(cause.downcast_ref::<Error>(), Some(Error::InvalidCertificate(_))))
}

/// The alert of one error of the chain. The HTTP/2 library keeps only the text of what the TLS library said, so the text is read too.
fn alert_in(cause: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(Error::AlertReceived(alert)) = cause.downcast_ref::<Error>() {
        return Some(explain_alert(&format!("{alert:?}")));
    }
    cause.downcast_ref::<io::Error>()?;
    let text = cause.to_string();
    let (_, alert) = text.split_once("received fatal alert: ")?;
    Some(explain_alert(alert))
}

/// An error and everything behind it, the deepest cause last.
fn chain<'error>(error: &'error (dyn StdError + 'static)) -> impl Iterator<Item = &'error (dyn StdError + 'static)> {
    iter::successors(Some(error), |cause| source(*cause))
}

/// An `io::Error` hides the error that it wraps behind its own source: look inside first.
fn source<'error>(error: &'error (dyn StdError + 'static)) -> Option<&'error (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn explain_one(cause: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(words) = alert_in(cause) {
        return Some(words);
    }
    if let Some(error) = cause.downcast_ref::<Error>() {
        return Some(explain_tls(error));
    }
    if let Some(error) = cause.downcast_ref::<CredentialsUnusable>() {
        return Some(error.to_string());
    }
    if let Some(error) = cause.downcast_ref::<NoAnswer>() {
        return Some(error.to_string());
    }
    if let Some(error) = cause.downcast_ref::<ClosedAtOnce>() {
        return Some(error.to_string());
    }
    let error = cause.downcast_ref::<io::Error>()?;
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some("nothing listens there (connection refused)".to_owned()),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Some("the other side cut the connection".to_owned())
        }
        io::ErrorKind::UnexpectedEof => {
            Some("the other side closed the connection during the handshake; is it a Tradelane node?".to_owned())
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some("there is no route to that host".to_owned())
        }
        // A wrapped error is explained when the walk comes to it.
        _ if error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).is_some() => None,
        _ => Some(error.to_string()),
    }
}

fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(reason) => explain_certificate(reason),
        Error::InvalidMessage(_) => {
            "the other side does not speak TLS; is the port that of a Tradelane node, and not its operations address?"
                .to_owned()
        }
        Error::PeerIncompatible(reason) => format!("the other side offers no TLS 1.3 ({reason:?})"),
        Error::NoApplicationProtocol => "the other side does not speak HTTP/2".to_owned(),
        other => other.to_string(),
    }
}

/// Takes the alert's name (RFC 8446, section 6) as the TLS library spells it.
fn explain_alert(alert: &str) -> String {
    let refused = match alert {
        "CertificateRequired" => "it asks for a client certificate and got none",
        "UnknownCA" => "none of its trust bundles holds the authority that signed it",
        "CertificateExpired" => "it has expired, or the clocks disagree",
        "CertificateRevoked" => "it is revoked",
        "BadCertificate" | "UnsupportedCertificate" | "CertificateUnknown" | "AccessDenied" => {
            return format!("the node refused our certificate ({}); its log says why", alert_words(alert));
        }
        "ProtocolVersion" => return "the other side does not accept TLS 1.3".to_owned(),
        "NoApplicationProtocol" => return "the other side does not speak HTTP/2".to_owned(),
        other => return format!("the other side ended TLS ({})", alert_words(other)),
    };
    format!("the node refused our certificate: {refused}")
}

/// `BadCertificate` as "bad certificate".
fn alert_words(alert: &str) -> String {
    let mut words = String::new();
    for letter in alert.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

fn explain_certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the node's certificate is not signed by any authority of the --ca file".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the node's certificate has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the node's certificate is not valid yet, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidForName => {
            "the node's certificate bears another name than the one expected".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            // The library gives each name in its debug form: DnsName("node.example").
            let names: Vec<_> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).collect();
            let presented = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!(
                "the node's certificate is for {presented}, not for {expected}; name the node by --server-id (its SPIFFE ID) or --server-name"
            )
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<OtherServer>() {
            Some(server) => server.to_string(),
            None => other.0.to_string(),
        },
        other => format!("the node's certificate was not accepted: {other:?}"),
    }
}
