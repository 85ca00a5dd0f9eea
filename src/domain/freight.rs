//! Identifiers of freight: canonical forms and check digits.
