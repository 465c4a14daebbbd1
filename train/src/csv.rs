//! Cells of CSV files.

/// A cell, in quotes where it needs them.
pub(crate) fn cell(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_need_it() {
        assert_eq!(cell("chair"), "chair");
        assert_eq!(cell("lamp, \"tall\""), "\"lamp, \"\"tall\"\"\"");
    }
}
