//! What the program's HTML pages have in common: colors, escaping, pictures within the page. Each page is one file that
//! needs no other and asks for none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The colors, for light and dark screens.
pub(crate) const COLORS: &str = "
:root { --ink: #1c2430; --faint: #6b7685; --line: #dfe3e8; --paper: #fff; --tap: #0b6bcb; --other: #c2571a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --faint: #98a3b3; --line: #333c49; --paper: #14181f; --tap: #5aa9f5; --other: #eb8f57; }
}
";

/// Forbids a page to load anything, whatever stands in it.
pub(crate) const ALONE: &str = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; \
                                style-src 'unsafe-inline'; script-src 'unsafe-inline'\">";

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Bytes as text of letters, digits, `+`, `/` and `=`.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// JSON as it may stand within a `<script>`: nothing in it can end the element.
pub(crate) fn embedded_json(value: &impl serde::Serialize) -> serde_json::Result<String> {
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
        let json = embedded_json(&"</script><!-- &").unwrap();
        assert!(!json.contains(['<', '>', '&']), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "</script><!-- &");
    }
}
