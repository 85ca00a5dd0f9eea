//! What our own files say: they can be read and belong together, and our certificate names one participant and counts now. It never
//! leaves this machine.

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::Step;
use crate::{
    cli::{
        ExitCode,
        connect::{ConnectOptions, Pem, client_config_with},
    },
    identity::certificate::CertificateFacts,
};

pub(super) fn examine(options: &ConnectOptions, now_ns: i64) -> Vec<Step> {
    if let Err(unusable) = client_config_with(options, |verifier| verifier) {
        let advice = "give a certificate, its own key and the node's authorities as PEM files";
        return vec![Step::bad("our files", ExitCode::Configuration, unusable, advice)];
    }
    let mut steps = vec![Step::good("our files", "certificate, key and authorities can be read and belong together")];
    let facts = match own_facts(options) {
        Ok(facts) => facts,
        Err(why) => {
            let advice = "ask your administration for a certificate anew";
            steps.push(Step::bad("our certificate", ExitCode::Configuration, why, advice));
            return steps;
        }
    };
    steps.push(match facts.spiffe_id() {
        Ok(id) => Step::good("our name", id),
        Err(why) => {
            let advice = "ask for a certificate whose only URI name is your SPIFFE ID; a node refuses every other one";
            Step::bad("our name", ExitCode::NotPermitted, why, advice)
        }
    });
    let (begins, ends) = (text_of(facts.not_before_ns), text_of(facts.not_after_ns));
    steps.push(if facts.not_after_ns <= now_ns {
        let found = format!("our certificate ended at {ends}");
        Step::bad(
            "our validity",
            ExitCode::NotPermitted,
            found,
            "renew it; if it is new, set this machine's clock right",
        )
    } else if now_ns < facts.not_before_ns {
        let found = format!("our certificate begins at {begins}, and here it is {}", text_of(now_ns));
        Step::bad("our validity", ExitCode::NotPermitted, found, "set this machine's clock right, or wait")
    } else {
        Step::good("our validity", format!("from {begins} to {ends}, by this machine's clock {}", text_of(now_ns)))
    });
    steps
}

/// What our certificate says, where it can be read.
pub(super) fn own_facts(options: &ConnectOptions) -> Result<CertificateFacts, String> {
    let pem = match &options.credentials.certificate {
        Pem::File(path) => std::fs::read(path).map_err(|error| error.to_string())?,
        Pem::Text(text) => text.as_bytes().to_vec(),
    };
    let leaf = CertificateDer::from_pem_slice(&pem).map_err(|error| error.to_string())?;
    CertificateFacts::read(&leaf)
}

/// A time for people and programs alike.
pub(super) fn text_of(time_ns: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(time_ns).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
