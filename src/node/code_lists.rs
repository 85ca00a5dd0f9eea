//! Reads the code lists that the operator supplies. It never judges a code.

use std::{fs, io};

use crate::{
    config::{CodeListConfig, CodeListsConfig},
    domain::code_lists::{CodeList, CodeListMalformed, CodeLists, ListKind, ListMode},
};

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CodeListFault {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// The file is no such list.
    #[error(transparent)]
    Malformed(#[from] CodeListMalformed),
}

/// Reads every list that is to be looked at; with the file where one is at fault.
pub(super) fn load(config: &CodeListsConfig) -> Result<CodeLists, (std::path::PathBuf, CodeListFault)> {
    let read = |kind, list: &CodeListConfig| match (&list.file, list.mode) {
        (None, _) | (_, ListMode::Off) => Ok(CodeList::default()),
        (Some(file), mode) => {
            let text = fs::read_to_string(file).map_err(|error| (file.clone(), error.into()))?;
            CodeList::from_csv(kind, mode, &text).map_err(|fault| (file.clone(), fault.into()))
        }
    };
    Ok(CodeLists {
        un_locode: read(ListKind::UnLocode, &config.un_locode)?,
        hs: read(ListKind::Hs, &config.hs)?,
        unit: read(ListKind::Unit, &config.unit)?,
    })
}
