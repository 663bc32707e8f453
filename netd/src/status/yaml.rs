//! Writes a value as YAML. Only writes: nothing of ours reads any.
//!
//! Pure. A text that could be read as anything but itself is put in JSON's quotes, which YAML 1.2 has too (section 7.3.1).

use std::fmt::Write;

use serde_json::Value;

/// The value as a YAML document, with a line break at its end.
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => block(value, 0, &mut text),
        _ => {
            text.push_str(&scalar(value));
            text.push('\n');
        }
    }
    text
}

/// Writes a mapping or a list, line by line, each `depth` deep.
fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                indent(depth, text);
                text.push_str(&plain_or_quoted(key));
                text.push(':');
                below(value, depth + 2, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                let begin = text.len();
                if is_empty(item) || !matches!(item, Value::Object(_) | Value::Array(_)) {
                    indent(depth, text);
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "- {}", scalar(item));
                } else {
                    block(item, depth + 2, text);
                    // The item's first line has the dash where its indent ends.
                    text.replace_range(begin + depth..=begin + depth, "-");
                }
            }
        }
        _ => {}
    }
}

/// Writes what follows a key.
fn below(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(_) | Value::Array(_) if !is_empty(value) => {
            text.push('\n');
            block(value, depth, text);
        }
        _ => {
            let _ = writeln!(text, " {}", scalar(value));
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', depth));
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain_or_quoted(text),
        // Numbers, true, false, null, {} and [] are the same in both.
        other => other.to_string(),
    }
}

fn plain_or_quoted(text: &str) -> String {
    const READ_OTHERWISE: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let letters = text.starts_with(|first: char| first.is_ascii_alphabetic());
    let calm = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./ ".contains(c));
    let word = !READ_OTHERWISE.contains(&text.to_ascii_lowercase().as_str());
    if letters && calm && word && !text.ends_with(' ') {
        return text.to_owned();
    }
    Value::from(text).to_string()
}
