//! A place in the source's log with the hash of everything up to there, as a link stores and shows it. It never says what stands there.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{Epoch, Position, Sequence},
    identity::certificate::hexadecimal,
    log::contract::ChainHash,
    wire::proto,
};

/// Where a receiver stands in a source's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct LinkPosition {
    /// The life of the source's log.
    pub epoch: Epoch,
    /// The last place covered.
    pub sequence: Sequence,
    /// The chain's hash after it.
    pub chain: ChainHash,
}

/// As the file of progress has it: the position as text, the hash in hexadecimal digits.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    position: String,
    chain_hash: String,
}

impl LinkPosition {
    /// Reads a message; none where it is malformed.
    #[must_use]
    pub fn read(message: &proto::LinkPosition) -> Option<Self> {
        Some(Self {
            epoch: read_epoch(&message.epoch)?,
            sequence: Sequence(message.sequence),
            chain: ChainHash::try_from(&message.chain_hash[..]).ok()?,
        })
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> proto::LinkPosition {
        proto::LinkPosition {
            epoch: self.epoch.to_string(),
            sequence: self.sequence.get(),
            chain_hash: Bytes::copy_from_slice(&self.chain),
        }
    }
}

/// Reads an epoch in its one spelling, 32 hexadecimal digits.
#[must_use]
pub fn read_epoch(text: &str) -> Option<Epoch> {
    Uuid::try_parse(text).ok().map(Epoch).filter(|epoch| epoch.to_string() == text)
}

impl fmt::Display for LinkPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Position { epoch: self.epoch, sequence: self.sequence }.fmt(f)
    }
}

impl From<LinkPosition> for Stored {
    fn from(position: LinkPosition) -> Self {
        let chain_hash = hexadecimal(&position.chain);
        Self { position: position.to_string(), chain_hash }
    }
}

impl TryFrom<Stored> for LinkPosition {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Position { epoch, sequence } = stored.position.parse().map_err(|why| format!("a position {why}"))?;
        let digit = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let bytes: Option<Vec<u8>> = stored.chain_hash.as_bytes().chunks(2).map(digit).collect();
        let chain = bytes.and_then(|bytes| ChainHash::try_from(bytes).ok());
        Ok(Self { epoch, sequence, chain: chain.ok_or("a chain hash must be 64 hexadecimal digits")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_message_and_file() {
        let mut chain = [7; 32];
        chain[0] = 0;
        let position = LinkPosition { epoch: Epoch(Uuid::from_u128(3)), sequence: Sequence(9), chain };
        assert_eq!(LinkPosition::read(&position.message()), Some(position));
        let text = serde_json::to_string(&position).expect("written");
        assert_eq!(serde_json::from_str::<LinkPosition>(&text).expect("read"), position);
        let short = proto::LinkPosition { chain_hash: Bytes::from_static(&[7; 31]), ..position.message() };
        assert_eq!(LinkPosition::read(&short), None);
        assert_eq!(read_epoch("X"), None);
    }
}
