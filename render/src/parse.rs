//! `ParseError`: names in recipes and on command lines that cannot be parsed.

/// A name in a recipe or on a command line that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{found}', expected {expected}")]
pub struct ParseError {
    /// The kind of name.
    pub what: &'static str,
    /// The valid names.
    pub expected: &'static str,
    /// The name given.
    pub found: String,
}
