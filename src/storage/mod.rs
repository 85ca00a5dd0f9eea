//! Owns every synchronous write: the journal, the one sled database, sorted runs, the watermark. It never knows what an event means, and
//! it never answers before what it answers about is on the disk.
//!
//! In reading order: [`durable`] (what "on the disk" means), [`bytes`] (reading fixed layouts), [`directory_lock`], [`epochs`] and
//! [`watermark`] (the small files), [`journal`] (what makes an acknowledgement safe), [`keys`], [`value`],
//! [`store`] and [`slots`] (sled, its one owner, and how values come to lie densely), [`state`] (what is promised beside events), [`bloom`], [`lru`] and [`runs`] (indexes as sorted runs), [`fatal`] and [`watchdog`] (what happens when a disk fails or hangs).

pub mod bloom;
pub mod bytes;
pub mod directory_lock;
pub mod durable;
pub mod epochs;
pub mod fatal;
pub mod journal;
pub mod keys;
pub mod lru;
pub mod runs;
pub mod slots;
pub mod state;
pub mod store;
pub mod value;
pub mod watchdog;
pub mod watermark;

/// A SHA-256 digest that stands for the log up to a place: over the chain before it and the record at that place.
pub type ChainHash = [u8; 32];

/// What the first record's chain builds on.
pub const CHAIN_START: ChainHash = [0; 32];

/// What is left to do where what was durable is missing or altered: nothing that this node still has can make it whole. Every message of
/// damage that only a restore can mend ends with it, so that whoever is called at night has the commands at hand.
pub const RESTORE_ADVICE: &str = "restore this node from a backup: stop it, move the data directory aside, run `tradelane restore \
                                  --config FILE BACKUP` and start it again; what the backup lacks it takes back from its peers, as far as \
                                  they hold it";

/// Why stored state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused; the source says why.
    #[error("{what}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Bytes that were durable are missing or altered.
    #[error("{0}")]
    Damaged(String),
    /// sled answered an error.
    #[error("{what}")]
    Sled {
        /// What was being done.
        what: String,
        /// sled's answer.
        source: sled::Error,
    },
}

impl StorageError {
    /// Wraps an operating system's error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether stored bytes are missing or altered, as we or sled found; otherwise something refused that may be as it was.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) | Self::Sled { source: sled::Error::Corruption { .. }, .. } => true,
            Self::Io { .. } | Self::Sled { .. } => false,
        }
    }

    /// The error with its cause on one line, for a log or a person.
    #[must_use]
    pub fn with_cause(&self) -> String {
        match self {
            Self::Io { what, source } => format!("{what}: {source}"),
            Self::Damaged(what) => what.clone(),
            Self::Sled { what, source } => format!("{what}: {source}"),
        }
    }
}
