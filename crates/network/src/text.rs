//! Others' texts, as a terminal, a log line or an Event can show them.
//!
//! Pure.

/// How many bytes of a text are shown.
const LIMIT: usize = 256;

/// The text without line breaks, control characters and characters that change the direction of others: these are escaped. A long text is
/// cut.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let length = shown.len();
        match c {
            '\'' | '"' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
        if shown.len() > LIMIT - "...".len() {
            shown.truncate(length);
            return shown + "...";
        }
    }
    shown
}

#[cfg(test)]
mod tests;
