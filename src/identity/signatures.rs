//! What rustls asks of every verifier besides its verdict: the signatures of a handshake, answered alike everywhere, by the provider and
//! for TLS 1.3 alone. It never decides whom to believe.

/// The three methods about signatures, for an implementation of `ServerCertVerifier` or `ClientCertVerifier` whose provider the
/// expression names.
macro_rules! tls13_signatures {
    (|$verifier:ident| $provider:expr) => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &rustls::pki_types::CertificateDer<'_>,
            _signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            // Never called: no configuration of ours offers TLS 1.2.
            Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let $verifier = self;
            let algorithms = &$provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            let $verifier = self;
            $provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

pub(crate) use tls13_signatures;
