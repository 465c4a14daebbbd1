//! What HTML pages share: colors, escaping, embedded data. Each page is a single file that loads nothing.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ui::printable;

/// Bytes of a page that [`head_of`] reads.
const MAX_HEAD_BYTES: u64 = 1024;

/// Colors of light and dark mode; paper is light.
pub const COLORS: &str = "
:root { --ink: #1c2430; --faint: #6b7685; --line: #dfe3e8; --paper: #fff; --tap: #0b6bcb; --other: #c2571a; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --faint: #98a3b3; --line: #333c49; --paper: #14181f; --tap: #5aa9f5; --other: #eb8f57; }
}
";

/// Content security policy: the page loads nothing, whatever it contains.
pub const ALONE: &str = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; \
                                style-src 'unsafe-inline'; script-src 'unsafe-inline'\">";

/// Escapes text for HTML, which has no control characters.
#[must_use]
pub fn escape(text: &str) -> String {
    printable(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// The beginning of a file, where a page names the program that wrote it; empty where it cannot be read.
#[must_use]
pub fn head_of(file: &Path) -> String {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MAX_HEAD_BYTES).read_to_end(&mut head));
    match read {
        Ok(_) => String::from_utf8_lossy(&head).into_owned(),
        Err(_) => String::new(),
    }
}

/// Standard Base64.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// JSON for a `<script>` element, which nothing in it can end.
///
/// # Errors
/// Where the value has no form in JSON.
pub fn embedded_json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string(value)?
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn nothing_foreign_becomes_html() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(escape("\x1b[2J\0"), "\\u{1b}[2J\\u{0}");
        let json = embedded_json(&"</script><!-- &").unwrap();
        assert!(!json.contains(['<', '>', '&']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "</script><!-- &");
    }
}
